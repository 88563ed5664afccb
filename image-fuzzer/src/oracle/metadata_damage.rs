//! A write, discard or snapshot that reports success must leave an image that
//! checked clean before as clean as it was. One that met I/O errors may leave leaks and
//! nothing worse, whatever it reports: what refers to a cluster is written after what counts
//! the reference, so that a guest's data is safe at any time.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::check::{Health, announces_leaks, check};
use super::false_repair::{CHECK_STATUS, CHECK_TEST};
use super::shell::Script;
use super::{Around, Class, Oracle, Verdict};
use crate::commands::Command;
use crate::exec::{End, Observation};
use crate::signature::Signature;
use crate::signature::message::normalise;

/// The oracle.
pub(super) struct MetadataDamage;

impl Oracle for MetadataDamage {
    fn verdict(&self, script: &Script<'_>) -> String {
        let check = (script.own)(check());
        let (failure, condition) = if after_errors(script.signature) {
            ("echo 'the command reports failure, as it may'", "-eq 2")
        } else {
            ("{ echo 'the command reports failure'; exit 1; }", "-ge 2")
        };
        format!(
            "{check} >/dev/null || {{ echo 'the image was not clean before'; exit 1; }}\n\
             {} || {failure}\n\
             {check}\n\
             status=$?\n\
             echo \"status $status (2: errors, 3: leaks)\"\n\
             [ \"$status\" {condition} ]\n",
            script.line
        )
    }

    fn around(&self, signature: &Signature) -> Option<Around> {
        Some(Around {
            before: Some(check()),
            is_needed: false,
            highest_status: i32::from(after_errors(signature)),
            after: Some(check()),
            status: CHECK_STATUS,
            test: if after_errors(signature) {
                "[ $? -ne 2 ] || echo \"I/O errors damaged the image\""
            } else {
                CHECK_TEST
            },
        })
    }
}

/// What the signatures of damage after I/O errors begin with.
const AFTER_ERRORS: &str = "I/O errors in ";

/// Whether a finding is about a command that met I/O errors.
fn after_errors(signature: &Signature) -> bool {
    signature.to_string().starts_with(AFTER_ERRORS)
}

/// Whether the header of an image says that its refcounts may be wrong, and are rebuilt when it
/// is opened to be written to (the field `incompatible_features`, bit 0).
fn is_dirty(image: &Path) -> bool {
    /// The last byte of the field.
    const AT: u64 = 79;
    let mut byte = [0];
    let read = File::open(image).and_then(|file| file.read_exact_at(&mut byte, AT));
    read.is_ok() && byte[0] & 1 != 0
}

/// Judges a `command` that met I/O errors on an image that was clean; a crash is a finding
/// of its own.
fn judge_errors(command: &Command, seen: &Observation, after: &Health, image: &Path) -> Verdict {
    let (End::Exit(_), Health::Damaged(said)) = (&seen.end, after) else {
        return None;
    };
    if is_dirty(image) {
        return None;
    }
    Some((
        Class::MetadataDamage,
        Signature::Message {
            verb: Some(format!("{AFTER_ERRORS}{}", command.group_verb())),
            text: normalise(said),
        },
        format!("the image was clean, the command met I/O errors, and now check says: {said}"),
    ))
}

/// Judges a `command` that succeeded on an image that was clean, by the image's
/// health afterwards. A wrong refcount of a cluster past the end of the
/// file is seen by no check until the file grows, so with `changes_refcounts` leaks are
/// not held against the command. `image` is the file of the image.
pub fn judge(
    command: &Command,
    seen: &Observation,
    after: &Health,
    image: &Path,
    changes_refcounts: bool,
) -> Verdict {
    if command.injects_errors() {
        return judge_errors(command, seen, after, image);
    }
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
