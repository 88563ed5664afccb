//! The numbers of a campaign.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::input::recipe::Recipe;
use crate::oracle::Class;
use crate::oracle::runner::Outcome;

/// What has been done since the fuzzer was started.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// Images made and handed to a program.
    pub images: u64,
    /// Programs run, those of the oracles included.
    pub commands: u64,
    /// Images that got past being opened, by a command that can do so.
    pub opened: u64,
    /// Distinct messages and exit statuses, those of earlier runs included.
    pub messages: usize,
    /// Images kept because they showed something new.
    pub queue: usize,
    /// Groups of findings, those of earlier runs included.
    pub groups: usize,
    /// Tests that hit a group, by class.
    pub hits: BTreeMap<Class, u64>,
    /// How often each family was used, and how many of those images opened.
    pub families: BTreeMap<String, Used>,
}

/// The use of a family.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Used {
    /// Images it had a part in.
    pub images: u64,
    /// Those that got past being opened.
    pub opened: u64,
    /// New messages they showed, those of images that did not open for a quarter.
    pub novelty: u64,
}

impl Stats {
    /// Counts a test in, but for whether its image opened.
    pub fn add(&mut self, recipe: &Recipe, outcome: &Outcome, novelty: u64) {
        let families: BTreeSet<&str> = recipe
            .edits
            .iter()
            .map(|mutation| mutation.family.as_str())
            .collect();
        for family in families {
            let used = self.families.entry(family.to_owned()).or_default();
            used.images += 1;
            used.opened += u64::from(outcome.opened);
            // What is new behind the checks of the header is worth more than one
            // more way to fail them.
            used.novelty += if outcome.opened { novelty } else { novelty / 4 };
        }
        self.images += 1;
        self.commands += outcome.runs;
        for violation in &outcome.violations {
            *self.hits.entry(violation.class).or_default() += 1;
        }
    }

    /// The share of images that got past being opened, in percent.
    pub fn opened_percent(&self) -> f64 {
        if self.images == 0 {
            return 0.0;
        }
        self.opened as f64 * 100.0 / self.images as f64
    }
}
