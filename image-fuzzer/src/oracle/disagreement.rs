//! Two programs, versions or readers must say the same of the same valid image.

use serde_json::Value;

use super::shell::Script;
use super::{Class, Oracle, Verdict, end_word};
use crate::commands::Command;
use crate::exec::{End, Observation};
use crate::signature::Signature;

/// The oracle.
pub(super) struct Disagreement;

impl Oracle for Disagreement {
    fn word(&self) -> &'static str {
        "disagreement"
    }

    fn meaning(&self) -> &'static str {
        "read the image differently from another program"
    }

    fn signature(&self, text: &str) -> Signature {
        Signature::about_command(text)
    }

    fn verdict(&self, script: &Script<'_>) -> String {
        let line = script.line;
        format!(
            "# OTHER_IMG is the qemu-img to compare with.\n\
             [ -n \"${{OTHER_IMG-}}\" ] || {{ echo 'OTHER_IMG names no program' >&2; exit 2; }}\n\
             {line} >one\n\
             echo \"status $?\" >>one\n\
             QEMU_IMG=$OTHER_IMG\n\
             {line} >other\n\
             echo \"status $?\" >>other\n\
             ! diff one other\n"
        )
    }

    fn is_testable(&self) -> bool {
        false
    }
}

/// Judges what two programs made of the same command on equal copies of a valid
/// image: both succeed or both fail, and they print the same.
pub fn judge(command: &Command, one: &Observation, other: &Observation) -> Verdict {
    if one.cannot_run() || other.cannot_run() {
        return None;
    }
    let failed = |seen: &Observation| !matches!(seen.end, End::Exit(0));
    if failed(one) != failed(other) {
        return Some((
            Class::Disagreement,
            Signature::aspect("status", command.group_verb()),
            format!(
                "one ends with {}, the other with {}",
                end_word(&one.end),
                end_word(&other.end)
            ),
        ));
    }
    if failed(one) || one.stdout == other.stdout || say_the_same(&one.stdout, &other.stdout) {
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
        Signature::aspect("output", command.group_verb()),
        shown,
    ))
}

/// Whether two texts are JSON that differs in nothing that both tell: a newer version may
/// tell more.
fn say_the_same(one: &[u8], other: &[u8]) -> bool {
    fn same(one: &Value, other: &Value) -> bool {
        match (one, other) {
            (Value::Object(one), Value::Object(other)) => one
                .iter()
                .all(|(name, value)| other.get(name).is_none_or(|other| same(value, other))),
            (Value::Array(one), Value::Array(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b))
            }
            (one, other) => one == other,
        }
    }
    let json = |text| serde_json::from_slice::<Value>(text).ok();
    matches!((json(one), json(other)), (Some(one), Some(other)) if same(&one, &other))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the other one could not run, thousands of images were once findings.
    #[test]
    fn what_cannot_run_says_nothing() {
        let seen = |end| Observation {
            end,
            ..Observation::not_started(String::new())
        };
        let check = Command::new(["qemu-img", "check", "$test_img"]);
        let judge = |one, other| judge(&check, &seen(End::Exit(one)), &seen(End::Exit(other)));
        assert!(judge(0, 2).is_some());
        assert_eq!(judge(0, 126), None);
        assert_eq!(judge(127, 0), None);
    }

    /// What a newer version tells besides was once held against the older.
    #[test]
    fn more_is_no_disagreement_and_other_is() {
        let older = br#"[{"start": 0, "zero": true}]"#;
        let newer = br#"[{"start": 0, "zero": true, "compressed": false}]"#;
        assert!(say_the_same(older, newer) && say_the_same(newer, older));
        assert!(!say_the_same(older, br#"[{"start": 0, "zero": false}]"#));
        assert!(!say_the_same(older, b"[]"));
        assert!(!say_the_same(b"text", b"text"));
    }
}
