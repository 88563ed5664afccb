//! A write, discard or snapshot that reports success must leave an image that
//! checked clean before as clean as it was.

use super::repair::complaint;
use super::{Class, Probe, Verdict};
use crate::commands::Command;
use crate::exec::{End, Observation};
use crate::signature::Signature;
use crate::signature::message::normalise;

/// What a check says of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// No errors and no leaks.
    Clean,
    /// Errors; the first complaint.
    Damaged(String),
    /// Leaks alone; the first complaint.
    Leaking(String),
    /// The check could not be made.
    Unknown,
}

/// The command that checks the image.
pub fn check() -> Command {
    Command::new(["qemu-img", "check", "-f", "qcow2", "$test_img"])
}

/// Checks the image as it is now.
pub fn health(probe: &mut dyn Probe) -> Health {
    let seen = probe.run(&check());
    match seen.end {
        End::Exit(0) => Health::Clean,
        End::Exit(2) => Health::Damaged(complaint(&seen)),
        // Told to every user who opens the image, as after a downgrade of one with
        // bitmaps, it is no surprise.
        End::Exit(3) if announces_leaks(&seen) => Health::Unknown,
        End::Exit(3) => Health::Leaking(complaint(&seen)),
        _ => Health::Unknown,
    }
}

/// Whether the program said itself that it leaves leaks.
fn announces_leaks(seen: &Observation) -> bool {
    String::from_utf8_lossy(&seen.stderr).contains("clusters may be leaked")
}

/// Judges a `command` that succeeded on an image that was clean, by the image's
/// health afterwards. A wrong refcount of a cluster past the end of the
/// file is seen by no check until the file grows, so with `changes_refcounts` leaks are
/// not held against the command.
pub fn judge(
    command: &Command,
    seen: &Observation,
    after: &Health,
    changes_refcounts: bool,
) -> Verdict {
    if seen.end != End::Exit(0) {
        return None;
    }
    let said = match after {
        Health::Damaged(said) => said,
        Health::Leaking(said) if !changes_refcounts && !announces_leaks(seen) => said,
        _ => return None,
    };
    Some((
        Class::MetadataDamage,
        Signature::Message {
            verb: Some(command.group_verb()),
            text: normalise(said),
        },
        format!("the image was clean, the command succeeded, and now check says: {said}"),
    ))
}
