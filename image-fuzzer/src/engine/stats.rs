//! The numbers of a campaign.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::oracle::Class;
use crate::trial::Outcome;

/// What has been done since the fuzzer was started.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// Images made and handed to a program.
    pub images: u64,
    /// Programs run, those of the oracles included.
    pub commands: u64,
    /// Images that got past being opened.
    pub opened: u64,
    /// Distinct messages and exit statuses.
    pub messages: usize,
    /// Images kept because they showed something new.
    pub queue: usize,
    /// Groups of findings, those of earlier runs included.
    pub groups: usize,
    /// Tests that hit a group, by class.
    pub hits: BTreeMap<Class, u64>,
    /// How often each family was used.
    pub used: BTreeMap<String, u64>,
}

impl Stats {
    /// Counts a test in.
    pub fn add(&mut self, outcome: &Outcome) {
        self.images += 1;
        self.commands += outcome.runs;
        self.opened += u64::from(outcome.opened);
        for suspicion in &outcome.suspicions {
            *self.hits.entry(suspicion.class).or_default() += 1;
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
