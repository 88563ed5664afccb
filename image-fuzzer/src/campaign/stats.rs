//! The statistics of a campaign.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::fleet::FleetStats;
use crate::exec::End;
use crate::input::recipe::Recipe;
use crate::oracle::runner::{Outcome, Ran};
use crate::oracle::{Class, Violation};

/// Counted since the fuzzer was started.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// Images that programs were run on.
    pub images: u64,
    /// Programs run, those of the oracles included.
    pub commands: u64,
    /// Images that a command opened that can do so: it neither refused them nor crashed.
    pub opened: u64,
    /// Images on which no command exited.
    pub hung: u64,
    /// Suspected hangs that wait to be confirmed.
    pub suspected: usize,
    /// Distinct messages and exit statuses, those of earlier runs included.
    pub messages: usize,
    /// Blocks of programs that were reached, those of earlier runs included; 0 where they are
    /// not noted.
    pub blocks: usize,
    /// Images in the queue, those of earlier runs included.
    pub queue: usize,
    /// Those of them that are varied: others are set aside, since these reach the same.
    pub scheduled: usize,
    /// Groups of findings, those of earlier runs included.
    pub groups: usize,
    /// Tests of the sweep that are finished, those of earlier runs included, and how many
    /// it has.
    pub sweep: (u64, u64),
    /// What was exchanged with the other instances of the fleet, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetStats>,
    /// Tests that hit a group, by class.
    pub hits: BTreeMap<Class, u64>,
    /// The images of each mutation family.
    pub families: BTreeMap<String, FamilyStats>,
}

/// The images of a mutation family.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct FamilyStats {
    /// Images with a mutation of it.
    pub images: u64,
    /// Those that got past being opened.
    pub opened: u64,
    /// New features they showed; those of images that did not open count a quarter.
    pub novelty: u64,
}

impl Stats {
    /// Counts a test; whether its image opened is counted by the caller.
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
            // A new feature past the checks of the header is worth more than one more way
            // to fail them.
            used.novelty += if outcome.opened { novelty } else { novelty / 4 };
        }
        let hangs = |ran: &Ran| ran.seen.end == End::TimedOut;
        self.hung += u64::from(!outcome.ran.is_empty() && outcome.ran.iter().all(hangs));
        self.images += 1;
        self.commands += outcome.runs;
        outcome.violations.iter().for_each(|it| self.hit(it));
    }

    /// Counts a violation.
    pub(super) fn hit(&mut self, violation: &Violation) {
        *self.hits.entry(violation.class).or_default() += 1;
    }

    /// The share of images that got past being opened, in percent.
    pub fn opened_percent(&self) -> f64 {
        if self.images == 0 {
            return 0.0;
        }
        self.opened as f64 * 100.0 / self.images as f64
    }

    /// How far the sweep is; `None` where there is none.
    pub fn sweep_text(&self) -> Option<String> {
        let (finished, total) = self.sweep;
        (total > 0).then(|| format!("sweep {finished} of {total}"))
    }
}
