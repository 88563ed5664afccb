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
    if follows_chain(command) {
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

/// Whether the command is meant to open the files an image refers to.
///
/// `info` without `--backing-chain` prints what the header says; since the
/// findings about image services it must not open the backing or data file. Of
/// other programs and verbs nothing is known, and following is what they are for.
fn follows_chain(command: &Command) -> bool {
    let words: Vec<&str> = command.0.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["qemu-img", "info", rest @ ..] => rest.contains(&"--backing-chain"),
        ["qemu-img", "snapshot", rest @ ..] => !rest.contains(&"-l"),
        ["qemu-img" | "qemu-io", ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_alone_must_not_follow() {
        let follows = |line: &str| follows_chain(&Command(shlex::split(line).unwrap()));
        assert!(!follows("qemu-img info $test_img"));
        assert!(follows("qemu-img info --backing-chain $test_img"));
        assert!(follows("qemu-img convert -O raw $test_img out.img"));
        assert!(!follows("my-reader $test_img"));
    }
}
