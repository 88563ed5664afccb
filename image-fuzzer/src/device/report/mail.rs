//! The few lines to mail to those who maintain a device.

use std::fmt::Write as _;

use crate::device::machine::FIRMWARE;
use crate::device::program::Program;
use crate::device::store::{Finding, TRACE};

/// A trace with more lines than this is attached.
const LINES: usize = 100;

/// The lines that make the firmware.
const FIRMWARE_LINES: &str = "\
(head -c 65520 /dev/zero; printf '\\372\\364\\353\\375'; head -c 12 /dev/zero) > halt.bin\n";

/// The text of a mail about a finding.
#[must_use]
pub fn mail(finding: &Finding, program: &Program) -> String {
    let machine = &finding.machine;
    let title = finding.key.signature.title(&finding.summary);
    let mut text = format!("Subject: {}: {title}\n\n", machine.name);
    let _ = writeln!(
        text,
        "In {}, a guest makes the emulator {}:\n\n    {}\n",
        finding.version,
        verb(finding),
        finding.summary
    );
    if machine.args.iter().any(|it| it == FIRMWARE) {
        let _ = writeln!(
            text,
            "The firmware stops the processor, so that nothing but the trace touches the\n\
             device:\n\n{FIRMWARE_LINES}"
        );
    }
    if program.has_monitor() {
        text.push_str(
            "Lines that begin with '# monitor:' are commands of the monitor, given when all before\n\
             them is answered; reproduce.sh does that.\n\n",
        );
    }
    let lines = program.to_string();
    if lines.lines().count() <= LINES {
        let command = machine
            .command(TRACE)
            .replace(&format!("< {TRACE}"), "<<EOF");
        let _ = writeln!(text, "To see it:\n\n{command}\n{lines}EOF\n");
    } else {
        let command = machine.command(TRACE);
        let _ = writeln!(
            text,
            "To see it, with the trace that is attached:\n\n{command}\n"
        );
    }
    if !finding.stack.is_empty() {
        text.push_str("Stack:\n\n");
        for (number, frame) in finding.stack.iter().enumerate() {
            let _ = writeln!(text, "#{number} {frame}");
        }
        text.push('\n');
    }
    if !finding.confirmed {
        text.push_str("A second run did not show it.\n");
    }
    text
}

fn verb(finding: &Finding) -> &'static str {
    use crate::oracle::Class;
    match finding.key.class {
        Class::Hang => "hang",
        Class::ResourceUse => "use much memory",
        Class::MemoryError => "access memory that is not its own",
        _ => "end",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{finding, program};
    use super::*;

    #[test]
    fn a_mail_has_the_command_with_the_trace() {
        let text = mail(&finding(), &program());
        assert!(text.starts_with("Subject: lsi: SIGABRT: assertion at hw/scsi/lsi.c:7"));
        let command = "-device lsi,id=fuzzed -qtest stdio <<EOF\noutl 0xcf8 0x80001010\n";
        assert!(text.contains(command), "{text}");
        assert!(text.contains("#0 lsi_do_dma\n"), "{text}");
    }

    /// The lines make what the emulator was started with.
    #[test]
    fn the_firmware_of_the_mail_halts() {
        let dir = tempfile::tempdir().unwrap();
        let done = std::process::Command::new("sh")
            .args(["-c", FIRMWARE_LINES])
            .current_dir(dir.path())
            .status();
        assert!(done.unwrap().success());
        let made = std::fs::read(dir.path().join(FIRMWARE)).unwrap();
        let ours = qtest::firmware::halt();
        assert_eq!(made.len(), ours.len());
        assert_eq!(made[65520..65524], ours[65520..65524]);
    }
}
