//! The program crashed: by a signal (a failed assertion, a wild pointer, an abort), or by
//! what its language prints instead (a panic, an uncaught exception).

use nix::sys::signal::Signal;

use super::shell::{Script, comment, is_reported};
use super::{Class, Oracle, Verdict};
use crate::commands::{Command, quote};
use crate::exec::{End, Observation};
use crate::signature::{self, Signature, failure};

/// The oracle.
pub(super) struct Crash;

impl Oracle for Crash {
    /// Judges how the program ended. The signature is what the program printed as it gave up,
    /// else the signal; a stack refines it later. A sanitizer says more than the signal that
    /// it ends a program with, and so does the guarding allocator.
    fn judge(&self, _command: &Command, seen: &Observation) -> Verdict {
        let report = seen.sanitizer.as_deref().unwrap_or(&seen.stderr);
        if signature::sanitizer(report).is_some() || signature::guard(&seen.stderr).is_some() {
            return None;
        }
        let failure = failure(&seen.stderr);
        let end = match seen.end {
            End::Signal(number) if !INTERRUPTS.contains(&number) => signal_name(number),
            // Most languages end a program with an ordinary status, and so do shells that ran
            // one.
            End::Exit(status) if failure.is_some() => format!("exit {status}"),
            _ => return None,
        };
        Some(match failure {
            Some(failure) => (
                Class::Crash,
                failure.signature(),
                format!("{end}: {failure}"),
            ),
            None => {
                let summary = format!("{end}, no diagnostic output");
                let frames = None;
                let signature = Signature::Signal { name: end, frames };
                (Class::Crash, signature, summary)
            }
        })
    }

    fn verdict(&self, script: &Script<'_>) -> String {
        crash(script.line, script.signature)
    }
}

/// Signals that come from a person or from the system, and are no bug of the
/// program: an interrupt at the terminal reaches all that runs there.
const INTERRUPTS: [i32; 4] = [
    nix::libc::SIGINT,
    nix::libc::SIGTERM,
    nix::libc::SIGHUP,
    nix::libc::SIGKILL,
];

/// The name of a signal.
fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number).map_or_else(
        |_| format!("signal {number}"),
        |signal| signal.as_str().to_owned(),
    )
}

/// The verdict on a signal: with the words of the group where the program had some,
/// else with the signal's number. The stack of one without words is not looked at,
/// since that takes more than a shell, and the script says so.
fn crash(line: &str, signature: &Signature) -> String {
    let ran = format!(
        "{line} 2>report\nstatus=$?\n\
         cat report >&2\n\
         echo \"status $status\"\n\
         # Above 128: a signal, 134 for a failed assertion.\n"
    );
    let (name, frames) = match signature {
        Signature::Signal { name, frames } => (name, frames),
        // The kind is our word, not the program's.
        Signature::Failure { text, .. } => {
            return format!("{ran}[ \"$status\" -ne 0 ]{}\n", is_reported(text));
        }
        _ => return format!("{ran}[ \"$status\" -gt 128 ]\n"),
    };
    let note = frames.as_ref().map_or_else(String::new, |frames| {
        let text = format!("judged by the signal alone, not by where it came: {frames}");
        format!("echo {}\n", quote(&comment(&text)))
    });
    match name.parse::<Signal>() {
        Ok(signal) => format!("{ran}{note}[ \"$status\" -eq {} ]\n", 128 + signal as i32),
        Err(_) => format!("{ran}{note}[ \"$status\" -gt 128 ]\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exit status of the verdict on a shell command.
    fn judged(body: &str, site: &str) -> Option<i32> {
        let dir = tempfile::tempdir().unwrap();
        let text = crash(&format!("sh -c {}", quote(body)), &Signature::crash(site));
        let done = std::process::Command::new("sh")
            .args(["-c", &text])
            .current_dir(dir.path())
            .output();
        done.unwrap().status.code()
    }

    #[test]
    fn a_crash_is_judged_by_its_words() {
        let site = "assertion: qcow2-cluster.c: handle_dependencies: old_end > N";
        let dies = |text: &str| format!("echo \"{text}\" >&2; kill -ABRT $$");
        let words = "x: ../block/qcow2-cluster.c:11: handle_dependencies: Assertion old_end > 0x1f";
        assert_eq!(judged(&dies(words), site), Some(0));
        let other = words.replace("handle_dependencies", "another_function");
        assert_eq!(judged(&dies(&other), site), Some(1));
        assert_eq!(judged(&format!("echo '{words}' >&2"), site), Some(1));
    }

    #[test]
    fn a_crash_without_words_is_judged_by_its_signal() {
        let site = "SIGSEGV in get_refcount < it's";
        assert_eq!(judged("kill -SEGV $$", site), Some(0));
        assert_eq!(judged("kill -ABRT $$", site), Some(1));
    }
}
