//! `check -r all` reported success: then a second check must find nothing.

use super::check::{check, complaint};
use super::shell::Script;
use super::{Around, Class, Oracle, Probe, Verdict};
use crate::commands::Command;
use crate::exec::{End, Observation};
use crate::signature::Signature;
use crate::signature::message::normalise;

/// The oracle.
pub(super) struct FalseRepair;

impl Oracle for FalseRepair {
    fn verdict(&self, script: &Script<'_>) -> String {
        format!(
            "{} || {{ echo 'the repair reports failure'; exit 1; }}\n\
             {}\n\
             status=$?\n\
             echo \"status $status (2: errors left, 3: leaks left)\"\n\
             [ \"$status\" -ge 2 ]\n",
            script.line,
            (script.own)(check())
        )
    }

    fn around(&self, _signature: &Signature) -> Option<Around> {
        Some(Around {
            before: None,
            is_needed: false,
            highest_status: 0,
            after: Some(check()),
            status: CHECK_STATUS,
            test: CHECK_TEST,
        })
    }
}

/// What the exit status of a check means.
pub(super) const CHECK_STATUS: &str = "exit 2 for errors, 3 for leaks";

/// How a test tells what a check found.
pub(super) const CHECK_TEST: &str =
    "[ $? -lt 2 ] || echo \"success was reported, and the image is damaged\"";

/// Judges a finished `command` that repaired everything it found, by checking
/// the image once more.
pub(super) fn judge(command: &Command, seen: &Observation, probe: &mut dyn Probe) -> Verdict {
    if !command.repairs_all() || seen.end != End::Exit(0) {
        return None;
    }
    let again = probe.run(&check());
    match again.end {
        // 2 is corruptions, 3 is leaks; 1 is that the check itself failed.
        End::Exit(2 | 3) => {}
        _ => return None,
    }
    let said = complaint(&again);
    Some((
        Class::FalseRepair,
        Signature::Message {
            verb: None,
            text: normalise(&said),
        },
        format!("check -r all reported success, the next check says: {said}"),
    ))
}
