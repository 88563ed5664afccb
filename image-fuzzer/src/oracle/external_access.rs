//! The program opened a file or an address that the image names and the command does not.

use image_formats::Format;

use super::shell::Script;
use super::subject::Subject;
use super::{Class, Oracle, Verdict, Violation};
use crate::commands::Command;
use crate::exec::Observation;
use crate::signature::Signature;

/// The oracle.
pub(super) struct ExternalAccess;

impl Oracle for ExternalAccess {
    /// Judges by the canaries that were touched. Opening what a backing file name says is what
    /// a reader of the whole chain must do, so for commands that read the chain only those
    /// count that look at the image alone.
    fn judge(&self, command: &Command, seen: &Observation) -> Verdict {
        if command.follows_chain() {
            return None;
        }
        verdict("", command, seen)
    }

    fn verdict(&self, script: &Script<'_>) -> String {
        format!(
            "# The image names a file or address that the command does not; strace shows\n\
             # the attempt to open it. It need not be there.\n\
             command -v strace >/dev/null || {{ echo 'strace is needed' >&2; exit 2; }}\n\
             before=\"$before strace -f -e trace=open,openat,connect -o calls\"\n\
             {}\n\
             grep -e canary -e 'connect(.*AF_INET' calls\n",
            script.line
        )
    }

    fn is_testable(&self) -> bool {
        false
    }
}

/// Whether what the image names is what a guest wrote into a valid raw image, which is opened
/// where the format is probed.
pub(super) fn is_of_guest(found: &Violation, subject: &Subject<'_>) -> bool {
    let is_valid = subject.format() == Format::Raw && !subject.is_mutated();
    found.class == Class::ExternalAccess && is_valid
}

/// Judges a `command` on a raw image that is taken for one of another format by what a guest
/// wrote: whatever it is to read, a raw image names no file.
pub(super) fn judge_probed(
    command: &Command,
    seen: &Observation,
    subject: &Subject<'_>,
) -> Verdict {
    let is_raw = subject.format() == Format::Raw && subject.is_mutated();
    let probed = is_raw && !command.names_format(Format::Raw);
    probed.then(|| verdict("probed ", command, seen))?
}

/// The verdict about the first canary that was touched.
fn verdict(how: &str, command: &Command, seen: &Observation) -> Verdict {
    let first = seen.touched.first()?;
    let kind = if first.to_string_lossy().starts_with("tcp:") {
        "address"
    } else {
        "file"
    };
    Some((
        Class::ExternalAccess,
        // That it follows the image's names is one finding, wherever these lead.
        Signature::verb(format!("{how}{}", command.group_verb())),
        format!("opened the {kind} '{}'", first.display()),
    ))
}
