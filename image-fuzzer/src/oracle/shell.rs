//! What the oracles' parts of `reproduce.sh` have in common.

use std::sync::LazyLock;

use regex::Regex;

use crate::commands::{Command, quote};
use crate::exec::Limits;
use crate::signature::Signature;

/// What the end of a script is made from.
pub struct Script<'a> {
    /// The command that shows the finding, as a line of the script.
    pub line: &'a str,
    /// What tells the finding from others of its class.
    pub signature: &'a Signature,
    /// What happened, as the oracle said it.
    pub summary: &'a str,
    /// What the command could use.
    pub limits: &'a Limits,
    /// Another command as a line of the script, with the key of an encrypted image.
    pub own: &'a dyn Fn(Command) -> String,
}

/// A text that stays inside a comment.
pub fn comment(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Further conditions: every part of `text` is in the file `report`. Numbers are folded on
/// both sides, as they differ from build to build.
pub(super) fn is_reported(text: &str) -> String {
    let parts = text.split(": ").flat_map(|part| part.split(" < "));
    parts
        .filter(|part| !part.trim().is_empty())
        .map(|part| {
            let part = quote(&folded(&comment(part)));
            format!(
                " &&\n    sed 's/0x[0-9a-fA-F][0-9a-fA-F]*/N/g; s/[0-9][0-9]*/N/g' report | \
                 grep -F -e {part} >/dev/null"
            )
        })
        .collect()
}

/// A text with all numbers replaced by `N`, as the script's `sed` does it.
fn folded(text: &str) -> String {
    static NUMBER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("0x[0-9a-fA-F]+|[0-9]+").expect("a valid expression"));
    NUMBER.replace_all(text, "N").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_judged_by_its_frames() {
        let text = "==1==ERROR: AddressSanitizer: SEGV on\n #0 0x5 in fill_l2 /a/x.c:3\n";
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("report"), text).unwrap();
        let shows = |text| {
            let script = format!("true{}", is_reported(text));
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &script]).current_dir(dir.path());
            shell.status().unwrap().success()
        };
        assert!(shows("SEGV: fill_l2"));
        assert!(!shows("SEGV: fill_l2 < main"));
    }
}
