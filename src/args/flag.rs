//! An option as one item.

use super::low::LowArgs;

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// None.
    Nothing,
    /// One: `--opt V`, `--opt=V`, `-oV`.
    Value,
    /// One if it is joined with `=`.
    Maybe,
}

/// What an option does to the arguments; the text is its value, empty for none.
pub(super) type Effect = fn(&mut LowArgs, Option<&str>) -> Result<(), String>;

/// An option.
#[derive(Debug)]
pub struct Flag {
    /// How the help shows it: its words, dashes included, shortest first, and its value:
    /// `-n, --dry-run`, `-j N`, `--shuffle[=SEED]`.
    pub usage: &'static str,
    /// Whether QEMU's runner has it: abbreviations that were unambiguous there
    /// stay so here.
    pub classic: bool,
    /// At most one of the options with the same name here may be given.
    pub exclusive: Option<&'static str>,
    /// What it does, in a line; empty where the word says it.
    pub short: &'static str,
    /// More of it, for `--help`; may be empty.
    pub long: &'static str,
    /// What the value must hold where it directly follows the letter: else a misspelt
    /// word (`-nope`) would be taken for letters and a value (`-n -o pe`).
    pub(super) attached: Option<char>,
    pub(super) effect: Effect,
}

impl Flag {
    /// Its words, dashes included.
    pub fn words(&self) -> impl Iterator<Item = &'static str> {
        let word = |part: &'static str| part.split([' ', '[']).next();
        self.usage.split(", ").filter_map(word)
    }

    /// Whether it takes a value.
    #[must_use]
    pub fn takes(&self) -> Takes {
        match self.usage.rsplit(", ").next() {
            Some(last) if last.ends_with(']') => Takes::Maybe,
            Some(last) if last.contains(' ') => Takes::Value,
            _ => Takes::Nothing,
        }
    }

    /// How errors name it: `-n/--dry-run`.
    #[must_use]
    pub fn title(&self) -> String {
        self.words().collect::<Vec<_>>().join("/")
    }

    pub(super) const fn new(usage: &'static str, short: &'static str, effect: Effect) -> Self {
        Self {
            usage,
            classic: false,
            exclusive: None,
            short,
            long: "",
            attached: None,
            effect,
        }
    }

    /// One that QEMU's runner has.
    pub(super) const fn classic(usage: &'static str, short: &'static str, effect: Effect) -> Self {
        let mut flag = Self::new(usage, short, effect);
        flag.classic = true;
        flag
    }

    pub(super) const fn exclusive(mut self, group: &'static str) -> Self {
        self.exclusive = Some(group);
        self
    }

    pub(super) const fn attached_with(mut self, part: char) -> Self {
        self.attached = Some(part);
        self
    }

    pub(super) const fn long(mut self, long: &'static str) -> Self {
        self.long = long;
        self
    }
}
