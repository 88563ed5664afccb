//! Broken rules.

use std::fmt;

use serde::Serialize;

/// A rule of the format that the image breaks, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Defect {
    /// Path of the field that breaks the rule.
    pub path: String,
    /// Byte offset of the field in the file.
    pub offset: u64,
    /// The rule, and the value that breaks it.
    pub rule: String,
    /// Section of the format's specification with the rule.
    pub section: &'static str,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at {:#x}: {} ({})",
            self.path, self.offset, self.rule, self.section
        )
    }
}

/// Collects defects up to a limit, so that a hostile image cannot fill memory.
#[derive(Debug, Default)]
pub(crate) struct Defects {
    found: Vec<Defect>,
    left_out: u64,
}

impl Defects {
    const LIMIT: usize = 4096;

    /// Whether what is added from now on is only counted, so that its text need not be
    /// made: a hostile table can break a rule in each of millions of entries.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= Self::LIMIT
    }

    /// Counts defects that are not listed.
    pub(crate) fn leave_out(&mut self, count: u64) {
        self.left_out += count;
    }

    pub(crate) fn add(
        &mut self,
        path: impl Into<String>,
        offset: u64,
        section: &'static str,
        rule: impl Into<String>,
    ) {
        if !self.is_full() {
            self.found.push(Defect {
                path: path.into(),
                offset,
                rule: rule.into(),
                section,
            });
        } else {
            self.left_out += 1;
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Defect> {
        if self.left_out > 0 {
            self.found.push(Defect {
                path: "image".to_owned(),
                offset: 0,
                rule: format!("{} more defects are not listed", self.left_out),
                section: "",
            });
        }
        self.found
    }
}
