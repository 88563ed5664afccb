//! `finding.json`: what is known of a finding, in a form that programs read.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::version_record::{SEEN_WITH, VersionRecord, line};
use super::{Change, Step};
use crate::exec::trace::Trace;
use crate::files::write_whole;
use crate::triage::Key;

/// What `finding.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The group.
    #[serde(flatten)]
    pub key: Key,
    /// What happened, in a sentence.
    pub summary: String,
    /// The command that showed it.
    pub command: String,
    /// Whether a second run reproduced it.
    pub confirmed: bool,
    /// How many of ten runs reproduce it.
    // Version 0.2 called it `of_ten`; those before did not count.
    #[serde(default = "every_run", alias = "of_ten")]
    pub hits_in_10: u8,
    /// Whether the example is minimal; if not, a resumed campaign goes on minimising it.
    pub minimised: bool,
    /// How many edits the example has.
    pub edits: usize,
    /// How many bytes of it differ from a valid image.
    pub bytes: usize,
    /// The version that the program reports.
    #[serde(default)]
    pub version: Option<String>,
    /// What each edit changed; findings of earlier versions do not tell.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// The first of the format's rules that the image breaks, in the words of
    /// `image-fuzzer show`.
    #[serde(default)]
    pub defects: Vec<String>,
    /// How many more there are.
    #[serde(default)]
    pub more_defects: usize,
    /// The commands, with what they printed.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// What is done about memory while they run, in a sentence, where anything is.
    #[serde(default)]
    pub guard: Option<String>,
    /// The stack at the signal, or the report of a sanitizer, a frame a line.
    #[serde(default)]
    pub stack: Vec<String>,
    /// The stack at the signal in parts, for names that are missing to be found later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// Which versions of the program show it, that of the campaign first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<VersionRecord>,
}

/// The [`hits_in_10`](Record::hits_in_10) of a finding that every run reproduces.
pub(super) const fn every_run() -> u8 {
    10
}

/// The name of the file.
const FINDING: &str = "finding.json";

impl Record {
    /// Reads the record in the folder of a finding; `None` where there is none.
    ///
    /// # Errors
    ///
    /// The file does not hold a record.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FINDING);
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(None);
        };
        serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("'{}' is damaged", path.display()))
    }

    /// Which versions show it, in a line; `None` where none is known.
    pub fn seen_with(&self) -> Option<String> {
        let version = self.version.as_ref().map(|it| format!("{SEEN_WITH}{it}."));
        line(&self.versions).or(version)
    }

    /// Which versions show it, in a line; `None` where only the campaign's was run.
    pub fn other_versions(&self) -> Option<String> {
        (self.versions.len() > 1).then(|| line(&self.versions))?
    }

    /// Writes the record into the folder of a finding.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        write_whole(&folder.join(FINDING), &serde_json::to_vec_pretty(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Class;

    #[test]
    fn records_of_earlier_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Record::read(folder.path()).unwrap().is_none());
        let stored = |more: &str| {
            let text = format!(
                r#"{{"class": "crash", "site": "SIGSEGV in a < b", "summary": "s",
                    "command": "c", "confirmed": true, {more}
                    "minimised": true, "edits": 1, "bytes": 2}}"#
            );
            fs::write(folder.path().join(FINDING), text).unwrap();
            Record::read(folder.path()).unwrap().unwrap()
        };
        let record = stored(r#""of_ten": 3,"#);
        assert_eq!(record.key, Key::new(Class::Crash, "SIGSEGV in a < b"));
        assert_eq!((record.hits_in_10, record.edits, record.bytes), (3, 1, 2));
        assert_eq!(stored("").hits_in_10, 10);
        assert!(record.changes.is_empty() && record.steps.is_empty());
        record.write(folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join(FINDING)).unwrap();
        assert!(text.contains(r#""hits_in_10": 3"#), "{text}");
        assert_eq!(Record::read(folder.path()).unwrap().unwrap().hits_in_10, 3);
    }
}
