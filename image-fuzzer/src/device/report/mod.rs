//! What the folder of a finding has: the trace, scripts that run it, a numbered test, a test for
//! QEMU's own suite, and the few lines to mail.

mod c_test;
mod mail;
mod shell;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::disk::DiskImage;
use super::machine::{FIRMWARE, Machine};
use super::program::Program;
use super::store::{FINDING, Finding, put_trace};
use crate::files::write_whole;

pub use c_test::c_test;
pub use mail::mail;

/// Writes the folder of a finding, `finding.json` last: one without is none. `image` is the image
/// that the disk began with.
///
/// # Errors
///
/// It cannot be written.
pub fn write(
    folder: &Path,
    finding: &Finding,
    program: &Program,
    image: Option<&DiskImage>,
) -> Result<()> {
    let failed = || format!("cannot write '{}'", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    let machine = &finding.machine;
    if machine.args.iter().any(|it| it == FIRMWARE) {
        write_whole(&folder.join(FIRMWARE), &qtest::firmware::halt())?;
    }
    if let Some(image) = image {
        image.keep(folder)?;
    }
    put_trace(folder, finding, program)?;
    script(
        &folder.join("reproduce.sh"),
        &shell::reproduce(finding, program, image),
    )?;
    script(
        &folder.join("iotest"),
        &shell::numbered(finding, program, image),
    )?;
    write_whole(&folder.join("iotest.out"), shell::GOLDEN.as_bytes())?;
    write_whole(&folder.join("qtest.c"), c_test(finding, program).as_bytes())?;
    write_whole(&folder.join("mail.txt"), mail(finding, program).as_bytes())?;
    put_finding(folder, finding)
}

/// Writes what is known of a finding.
///
/// # Errors
///
/// It cannot be written.
pub fn put_finding(folder: &Path, finding: &Finding) -> Result<()> {
    let text = serde_json::to_string_pretty(finding)? + "\n";
    write_whole(&folder.join(FINDING), text.as_bytes())
}

fn script(path: &Path, text: &str) -> Result<()> {
    write_whole(path, text.as_bytes())?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path, executable)
        .with_context(|| format!("cannot change '{}'", path.display()))
}

/// The arguments that differ from run to run of this project left out: where there is no screen
/// and no processor, as under QEMU's own tests.
fn essential(machine: &Machine) -> Vec<&str> {
    let mut left = machine.args.iter().map(String::as_str).peekable();
    let mut kept = Vec::new();
    while let Some(word) = left.next() {
        let value = left.peek().copied();
        match (word, value) {
            ("-display", Some("none")) | ("-accel", Some(_)) | ("-bios", Some(FIRMWARE)) => {
                left.next();
            }
            _ => kept.push(word),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Class;
    use crate::triage::Key;

    pub(super) fn finding() -> Finding {
        Finding {
            key: Key::new(Class::Crash, "assertion: lsi.c: lsi_do_dma: s->current"),
            summary: "SIGABRT: assertion at hw/scsi/lsi.c:7 in lsi_do_dma: s->current".into(),
            machine: Machine {
                name: "lsi".into(),
                program: "/usr/bin/qemu-system-x86_64".into(),
                args: [
                    "-nodefaults",
                    "-display",
                    "none",
                    "-accel",
                    "tcg",
                    "-m",
                    "128",
                    "-bios",
                    FIRMWARE,
                    "-blockdev",
                    "driver=null-co,node-name=disk",
                    "-M",
                    "q35",
                    "-device",
                    "lsi,id=fuzzed",
                ]
                .map(str::to_owned)
                .into(),
                objects: String::new(),
                below: Vec::new(),
                format: None,
                disk_size: 1 << 20,
                path: None,
                readable: Vec::new(),
            },
            confirmed: true,
            minimised: true,
            hits: 3,
            stack: vec!["lsi_do_dma".into()],
            guard: None,
            version: "QEMU emulator version 10.0.2".into(),
        }
    }

    pub(super) fn program() -> Program {
        "outl 0xcf8 0x80001010\nwrite 0x1000 0x3 0x0102ff\nmemset 0x2000 0x10 0x7\nreadw 0xe0000000\n"
            .parse()
            .unwrap()
    }

    #[test]
    fn a_folder_has_all_that_shows_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("f");
        write(&folder, &finding(), &program(), None).unwrap();
        let read = super::super::store::finding(&folder).unwrap();
        assert_eq!(read, finding());
        let trace = super::super::store::read_trace(&folder.join("trace")).unwrap();
        assert_eq!(trace, program());
        let first = fs::read_to_string(folder.join("trace")).unwrap();
        assert!(
            first.starts_with("# qemu-system-x86_64 -nodefaults"),
            "{first}"
        );
        assert_eq!(fs::read(folder.join(FIRMWARE)).unwrap().len(), 65536);
        for name in ["reproduce.sh", "iotest"] {
            let checked = std::process::Command::new("bash")
                .arg("-n")
                .arg(folder.join(name))
                .status();
            assert!(checked.unwrap().success(), "{name}");
        }
    }
}
