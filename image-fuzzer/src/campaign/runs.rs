//! `runs.jsonl`: when the fuzzer was started on a work folder, how, and on which programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::files::append;

/// The name of the file.
const RUNS: &str = "runs.jsonl";

/// One start of the fuzzer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When, as in RFC 3339.
    pub time: String,
    /// The fuzzer and its version.
    pub fuzzer: String,
    /// The command line.
    pub command_line: String,
    /// The seed of the campaign.
    pub seed: String,
    /// The programs under test that tell their version, and what they say.
    pub programs: BTreeMap<String, String>,
}

impl Run {
    /// Adds this start to those of the work folder `root`.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub(super) fn log(&self, root: &Path) -> Result<()> {
        let line = serde_json::to_string(self)?;
        append(&root.join(RUNS), &format!("{line}\n"))
    }

    /// All starts on the work folder `root`, the first one first; none in folders of earlier
    /// versions.
    pub fn all(root: &Path) -> Vec<Self> {
        let text = fs::read_to_string(root.join(RUNS)).unwrap_or_default();
        let lines = text.lines();
        // A kill may have left the last line incomplete.
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Run::all(folder.path()), []);
        let run = |number: u32| Run {
            time: "2026-01-02T03:04:05Z".into(),
            fuzzer: "image-fuzzer".into(),
            command_line: format!("image-fuzzer {number}"),
            seed: "seed".into(),
            programs: [("qemu-img".into(), "version 1".into())].into(),
        };
        run(1).log(folder.path()).unwrap();
        run(2).log(folder.path()).unwrap();
        append(&folder.path().join(RUNS), "{\"time\":").unwrap();
        assert_eq!(Run::all(folder.path()), [run(1), run(2)]);
    }
}
