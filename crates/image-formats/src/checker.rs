//! Checking the rules of a format, and the tables that name them.

use crate::defect::{Defect, Defects, Requirement, Rule};

/// Which rules are checked, and how much of a hostile image is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All rules.
    All,
    /// The rules of the header and what follows it; no table is read.
    Header,
    /// All rules but those of the refcounts, for which every table is read.
    Tables,
    /// The rules that a reader must enforce, and of large tables only the first entries.
    Binding,
}

impl Scope {
    /// `all`, or a small part of it where time matters.
    pub(crate) fn budget(self, all: u64) -> u64 {
        match self {
            Self::All | Self::Tables | Self::Header => all,
            Self::Binding => all / 16,
        }
    }
}

/// What was found so far while the rules of an image are checked.
#[derive(Debug)]
pub(crate) struct Checker {
    pub(crate) scope: Scope,
    pub(crate) defects: Defects,
}

impl Checker {
    /// Nothing was found yet.
    pub(crate) fn new(scope: Scope) -> Self {
        Self {
            scope,
            defects: Defects::default(),
        }
    }

    /// Notes a defect unless the condition holds. `at` is the path of the field that breaks
    /// the rule, its byte offset in the file, and the rule.
    pub(crate) fn require(
        &mut self,
        holds: bool,
        at: (&str, u64, Rule),
        text: impl FnOnce() -> String,
    ) {
        let is_left_out =
            |rule: Rule| self.scope == Scope::Binding && rule.requirement == Requirement::Should;
        if holds || is_left_out(at.2) {
            return;
        }
        if self.defects.is_full() {
            self.defects.leave_out(1);
        } else {
            self.defects.add(at.0, at.1, at.2, text());
        }
    }

    /// What was found.
    pub(crate) fn finish(self) -> Vec<Defect> {
        self.defects.finish()
    }
}

/// A table of the rules of a format, one a line: identifier, how binding it is, section of
/// the specification, name. Declares a constant for each and `RULES` with all of them.
macro_rules! rules {
    ($($(#[$doc:meta])* $id:ident = $requirement:ident, $section:expr, $name:literal;)*) => {
        $(
            $(#[$doc])*
            pub(crate) const $id: $crate::defect::Rule = $crate::defect::Rule {
                name: $name,
                requirement: $crate::defect::Requirement::$requirement,
                section: $section,
            };
        )*

        /// Every rule of the format, in the order of its structures.
        pub const RULES: &[$crate::defect::Rule] = &[$($id,)*];
    };
}
pub(crate) use rules;
