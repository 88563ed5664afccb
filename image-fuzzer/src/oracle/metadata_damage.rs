//! A write, discard or snapshot that reports success must leave an image that
//! checked clean before as clean as it was.

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
        format!(
            "{check} >/dev/null || {{ echo 'the image was not clean before'; exit 1; }}\n\
             {} || {{ echo 'the command reports failure'; exit 1; }}\n\
             {check}\n\
             status=$?\n\
             echo \"status $status (2: errors, 3: leaks)\"\n\
             [ \"$status\" -ge 2 ]\n",
            script.line
        )
    }

    fn around(&self) -> Option<Around> {
        Some(Around {
            before: Some(check()),
            is_needed: false,
            after: Some(check()),
            status: CHECK_STATUS,
            test: CHECK_TEST,
        })
    }
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
