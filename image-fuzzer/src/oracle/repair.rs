//! `check -r all` reported success: then a second check must find nothing.

use super::metadata::check;
use super::{Class, Probe, Verdict};
use crate::commands::Command;
use crate::exec::{End, Observation};
use crate::signature::Signature;
use crate::signature::message::normalise;

/// Judges a finished `command` that repaired everything it found, by checking
/// the image once more.
pub fn judge(command: &Command, seen: &Observation, probe: &mut dyn Probe) -> Verdict {
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

/// The first complaint of a check.
pub(super) fn complaint(check: &Observation) -> String {
    let text = String::from_utf8_lossy(&check.stderr).into_owned()
        + &String::from_utf8_lossy(&check.stdout);
    let first = text
        .lines()
        .find(|line| line.starts_with("ERROR") || line.starts_with("Leaked"))
        .or_else(|| text.lines().find(|line| !line.trim().is_empty()));
    first.unwrap_or("no message").trim().to_owned()
}
