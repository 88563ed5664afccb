//! The program reached for a file or an address that the image names and the
//! command does not.

use super::{Class, Verdict};
use crate::commands::Command;
use crate::exec::Observation;
use crate::signature::Signature;

/// Judges by the canaries that were touched. Opening what a backing file name
/// says is what a reader of the whole chain must do, so for commands that read
/// the chain only those count that look at the image alone.
pub(super) fn judge(command: &Command, seen: &Observation) -> Verdict {
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
        Class::Outside,
        // That it follows the image's names is one fault, wherever these lead.
        Signature::verb(command.group_verb()),
        format!("reached the {kind} '{}'", first.display()),
    ))
}
