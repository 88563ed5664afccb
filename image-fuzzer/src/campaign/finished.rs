//! The numbers of finished tests, as the file `done` holds them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::num::ParseIntError;

/// The numbers of finished tests: all below one, and some beyond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Finished {
    /// All numbers below this one are finished.
    pub(super) below: u64,
    /// These are finished as well.
    pub(super) beyond: BTreeSet<u64>,
}

impl Finished {
    /// Reads the text of the file: a line for each number, and `below N` for all below N. A
    /// last line without its end was being written when the fuzzer was killed.
    ///
    /// # Errors
    ///
    /// A line is not a number.
    pub(super) fn parse(text: &str) -> Result<Self, ParseIntError> {
        let mut finished = Self::default();
        let lines = text.split_inclusive('\n');
        for line in lines.filter(|line| line.ends_with('\n')) {
            if let Some(count) = line.trim().strip_prefix("below ") {
                finished.below = count.parse()?;
            } else {
                finished.beyond.insert(line.trim().parse()?);
            }
        }
        finished.compact();
        Ok(finished)
    }

    /// The shortest text for the file.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!("below {}\n", self.below);
        for number in &self.beyond {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{number}");
        }
        text
    }

    /// Counts `number` among the finished.
    pub(super) fn add(&mut self, number: u64) {
        self.beyond.insert(number);
        self.compact();
    }

    /// Adds the numbers of another campaign, each higher by `first`.
    pub(super) fn merge(&mut self, other: &Self, first: u64) {
        self.beyond.extend(first..first + other.below);
        self.beyond
            .extend(other.beyond.iter().map(|number| first + number));
        self.compact();
    }

    /// The lowest number that is higher than all that are finished.
    pub(super) fn end(&self) -> u64 {
        self.beyond.last().map_or(self.below, |last| last + 1)
    }

    /// How many are finished.
    pub(super) fn count(&self) -> u64 {
        self.below + self.beyond.len() as u64
    }

    /// Whether `number` is among the finished.
    pub(super) fn contains(&self, number: u64) -> bool {
        number < self.below || self.beyond.contains(&number)
    }

    fn compact(&mut self) {
        self.beyond = self.beyond.split_off(&self.below);
        while self.beyond.remove(&self.below) {
            self.below += 1;
        }
    }
}
