//! Broken rules.

use std::fmt;

use serde::Serialize;

/// How binding a rule is for a program that reads an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Requirement {
    /// A reader that needs what the field describes must refuse the image, or that part.
    Must,
    /// A reader may accept the image: what it needs can be read all the same.
    Should,
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Must => "must",
            Self::Should => "should",
        })
    }
}

/// A rule of a format, whatever the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Its name, which no other rule of the format has.
    pub name: &'static str,
    /// How binding it is for readers.
    pub requirement: Requirement,
    /// Section of the format's specification with the rule.
    pub section: &'static str,
}

impl Rule {
    /// The rule where `condition` holds, else only recommended: what it is about is then to
    /// be ignored.
    #[must_use]
    pub(crate) fn only_if(self, condition: bool) -> Self {
        let requirement = if condition {
            self.requirement
        } else {
            Requirement::Should
        };
        Self {
            requirement,
            ..self
        }
    }
}

/// A rule of the format that the image breaks, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Defect {
    /// Path of the field that breaks the rule.
    pub path: String,
    /// Byte offset of the field in the file.
    pub offset: u64,
    /// Name of the rule, the same in all images.
    pub name: &'static str,
    /// How binding the rule is for readers.
    pub requirement: Requirement,
    /// The rule, and the value that breaks it.
    pub rule: String,
    /// Section of the format's specification with the rule.
    pub section: &'static str,
}

impl Defect {
    /// How binding the rule is and the section it is in, for people: `must: Header`. `None`
    /// without a section.
    #[must_use]
    pub fn reference(&self) -> Option<String> {
        let known = !self.section.is_empty();
        known.then(|| format!("{}: {}", self.requirement, self.section))
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}: {}", self.path, self.offset, self.rule)?;
        match self.reference() {
            Some(reference) => write!(f, " ({reference})"),
            None => Ok(()),
        }
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
        rule: Rule,
        text: impl Into<String>,
    ) {
        if !self.is_full() {
            self.found.push(Defect {
                path: path.into(),
                offset,
                name: rule.name,
                requirement: rule.requirement,
                rule: text.into(),
                section: rule.section,
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
                name: "more",
                requirement: Requirement::Should,
                rule: format!("{} more defects are not listed", self.left_out),
                section: "",
            });
        }
        self.found
    }
}
