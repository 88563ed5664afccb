//! Two programs, versions or readers must say the same of the same valid image.

use super::{Class, Verdict, end_word};
use crate::commands::Command;
use crate::exec::{End, Observation};

/// Judges what two programs made of the same command on equal copies of a valid
/// image: both succeed or both fail, and they print the same.
pub fn judge(command: &Command, one: &Observation, other: &Observation) -> Verdict {
    if matches!(other.end, End::NotStarted(_)) {
        return None;
    }
    let failed = |seen: &Observation| !matches!(seen.end, End::Exit(0));
    if failed(one) != failed(other) {
        return Some((
            Class::Disagreement,
            format!("status {}", command.group_verb()),
            format!(
                "one ends with {}, the other with {}",
                end_word(&one.end),
                end_word(&other.end)
            ),
        ));
    }
    if failed(one) || one.stdout == other.stdout {
        return None;
    }
    let lines = String::from_utf8_lossy(&one.stdout).into_owned();
    let others = String::from_utf8_lossy(&other.stdout).into_owned();
    let differing = lines.lines().zip(others.lines()).find(|(a, b)| a != b);
    let shown = differing.map_or_else(
        || "one prints more than the other".to_owned(),
        |(a, b)| format!("'{}' against '{}'", a.trim(), b.trim()),
    );
    Some((
        Class::Disagreement,
        format!("output {}", command.group_verb()),
        shown,
    ))
}

/// Whether `command` is one whose output two versions of a program share.
pub fn comparable(command: &Command) -> bool {
    let words: Vec<&str> = command.0.iter().map(String::as_str).collect();
    matches!(
        words.as_slice(),
        ["qemu-img", "check" | "map" | "compare", ..] | ["qemu-img", "snapshot", "-l", ..]
    ) && !words.contains(&"-r")
}
