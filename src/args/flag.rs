//! An option as one item, and the sections of the help.

use super::low::LowArgs;

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// None.
    Nothing,
    /// One, named so in the help: `--opt V`, `--opt=V`, `-oV`.
    Value(&'static str),
    /// One if it is joined with `=`.
    Maybe(&'static str),
}

/// The section of the help that an option is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// What is done.
    General,
    /// What tests are run on.
    Environment,
    /// The image format.
    Format,
    /// The image protocol.
    Protocol,
    /// Which tests are run.
    Select,
    /// How tests are run.
    Run,
    /// References.
    Goldens,
    /// Output and reports.
    Results,
    /// Actions that run no tests.
    Other,
}

/// Sections in the order of the help, each with its heading.
pub const SECTIONS: [(Section, &str); 9] = [
    (Section::General, "General"),
    (Section::Environment, "Test environment"),
    (Section::Format, "Image format (at most one; default raw)"),
    (
        Section::Protocol,
        "Image protocol (at most one; default file)",
    ),
    (Section::Select, "Selecting tests"),
    (Section::Run, "Running tests"),
    (Section::Goldens, "References"),
    (Section::Results, "Results"),
    (Section::Other, "Other actions"),
];

/// What an option does to the arguments; the text is its value, empty for none.
pub(super) type Effect = fn(&mut LowArgs, Option<&str>) -> Result<(), String>;

/// An option.
pub struct Flag {
    /// Its words, dashes included, shortest first.
    pub words: &'static [&'static str],
    /// Whether it takes a value.
    pub takes: Takes,
    /// Its section in the help.
    pub section: Section,
    /// Whether QEMU's runner has it: abbreviations that were unambiguous there
    /// stay so here.
    pub classic: bool,
    /// At most one of the options with the same name here may be given.
    pub exclusive: Option<&'static str>,
    /// What it does, in a line.
    pub short: &'static str,
    /// More of it, for `--help`; may be empty.
    pub long: &'static str,
    pub(super) effect: Effect,
}

impl Flag {
    /// How errors name it: `-n/--dry-run`.
    #[must_use]
    pub fn title(&self) -> String {
        self.words.join("/")
    }

    pub(super) const fn switch(
        words: &'static [&'static str],
        section: Section,
        short: &'static str,
        effect: Effect,
    ) -> Self {
        Self {
            words,
            takes: Takes::Nothing,
            section,
            classic: false,
            exclusive: None,
            short,
            long: "",
            effect,
        }
    }

    pub(super) const fn value(
        words: &'static [&'static str],
        metavar: &'static str,
        section: Section,
        short: &'static str,
        effect: Effect,
    ) -> Self {
        let mut flag = Self::switch(words, section, short, effect);
        flag.takes = Takes::Value(metavar);
        flag
    }

    pub(super) const fn maybe(
        words: &'static [&'static str],
        metavar: &'static str,
        section: Section,
        short: &'static str,
        effect: Effect,
    ) -> Self {
        let mut flag = Self::switch(words, section, short, effect);
        flag.takes = Takes::Maybe(metavar);
        flag
    }

    pub(super) const fn classic(mut self) -> Self {
        self.classic = true;
        self
    }

    pub(super) const fn exclusive(mut self, group: &'static str) -> Self {
        self.exclusive = Some(group);
        self
    }

    pub(super) const fn long(mut self, long: &'static str) -> Self {
        self.long = long;
        self
    }
}
