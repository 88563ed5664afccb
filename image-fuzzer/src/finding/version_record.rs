//! What is recorded of the versions of the programs that a finding was run with.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What one build of the programs makes of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// What the program says that it is; `None` where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The folder of the build; `None` is what a campaign ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// What it makes of the finding.
    pub result: VersionResult,
    /// The other finding, why it cannot be run, or how it failed without a finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What a version makes of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionResult {
    /// It shows it.
    Shown,
    /// It shows another finding.
    Other,
    /// It shows none.
    NotShown,
    /// It cannot be run.
    CannotRun,
}

impl fmt::Display for VersionResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shown => "shown",
            Self::Other => "another finding",
            Self::NotShown => "not shown",
            Self::CannotRun => "cannot run",
        })
    }
}

impl VersionRecord {
    /// The version that a campaign ran.
    pub(super) fn of_campaign(version: &str) -> Self {
        Self {
            version: Some(version.to_owned()),
            folder: None,
            result: VersionResult::Shown,
            detail: None,
        }
    }

    /// The version, or the folder where that is not known.
    pub fn name(&self) -> String {
        let folder = self.folder.as_ref().map(|it| it.display().to_string());
        let version = self.version.as_ref().map(|version| {
            let clean = |c: char| if c.is_control() { '?' } else { c };
            version.chars().map(clean).collect()
        });
        version
            .or(folder)
            .unwrap_or_else(|| "another version".into())
    }
}

/// Adds results to those that are known; they take the place of earlier ones of the same
/// version in the same folder.
pub(super) fn merge(known: &mut Vec<VersionRecord>, results: Vec<VersionRecord>) {
    for result in results {
        let same = |it: &&mut VersionRecord| {
            (&it.version, &it.folder) == (&result.version, &result.folder)
        };
        match known.iter_mut().find(same) {
            Some(known) => *known = result,
            None => known.push(result),
        }
    }
}

/// What the line about versions in a README begins with.
pub(super) const SEEN_WITH: &str = "Seen with ";
/// What it begins with where no version is known that shows the finding.
pub(super) const NOT_SEEN: &str = "Not seen: ";

/// The line about versions in a README: `Seen with A and B; not with C.` `None` where nothing
/// is known.
pub(super) fn line(versions: &[VersionRecord]) -> Option<String> {
    let names = |result: VersionResult| {
        let of_result = versions.iter().filter(|it| it.result == result);
        let mut names: Vec<String> = Vec::new();
        // The same version may be in several folders.
        for name in of_result.map(VersionRecord::name) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        (!names.is_empty()).then(|| names.join(", "))
    };
    let parts = [
        (VersionResult::Shown, SEEN_WITH),
        (VersionResult::NotShown, "not with "),
        (VersionResult::Other, "another finding with "),
    ];
    let parts = parts
        .into_iter()
        .filter_map(|(result, words)| Some(format!("{words}{}", names(result)?)));
    let parts: Vec<String> = parts.collect();
    let text = parts.join("; ");
    let start = if text.starts_with(SEEN_WITH) {
        ""
    } else {
        NOT_SEEN
    };
    (!text.is_empty()).then(|| format!("{start}{text}."))
}
