//! The program opened a file or an address that the image names and the command does not.

use super::shell::Script;
use super::{Class, Oracle, Verdict};
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
        let first = seen.touched.first()?;
        if command.follows_chain() {
            return None;
        }
        let kind = if first.to_string_lossy().starts_with("tcp:") {
            "address"
        } else {
            "file"
        };
        Some((
            Class::ExternalAccess,
            // That it follows the image's names is one finding, wherever these lead.
            Signature::verb(command.group_verb()),
            format!("opened the {kind} '{}'", first.display()),
        ))
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
