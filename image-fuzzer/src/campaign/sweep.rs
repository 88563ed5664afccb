//! The sweep in a campaign: which of its tests comes next, and its recipes.

use std::collections::BTreeSet;

use super::finished::Finished;
use super::generate::Plan;
use crate::commands::adapted;
use crate::commands::{Command, given};
use crate::input::recipe::{FUZZER, Recipe};
use crate::input::sweep::{Restriction, Sweep};
use image_mutations::rng::Rng;

use anyhow::Result;
use image_formats::Format;

/// How much of a campaign is the sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SweepMode {
    /// Its first pass comes first; of the tests after that the second one has three of four,
    /// the third one of four.
    #[default]
    Mixed,
    /// All, and the campaign ends with it.
    Only,
    /// None.
    Off,
}

/// What the seeds of its tests begin with.
const SEED: &str = "sweep/";

/// The tests of the sweep that `plan` leaves; none where images without mutations are asked
/// for, or of a format that has no fields.
///
/// # Errors
///
/// A base image cannot be made, which would be a bug of the fuzzer.
pub fn sweep(plan: &Plan, mode: SweepMode) -> Result<Option<Sweep>> {
    let is_raw = plan.formats.single() == Some(Format::Raw);
    if mode == SweepMode::Off || plan.intensity.asks_for_none() || is_raw {
        return Ok(None);
    }
    let restriction = Restriction {
        families: &plan.families,
        selection: plan.selection.as_ref(),
        keyless: plan.is_keyless(),
        without_commands: plan.commands.is_some(),
    };
    Ok(Some(Sweep::new(&plan.formats, restriction)?))
}

/// The recipe of test `index` of the sweep. Each command gets a fresh copy of the image.
pub fn sweep_recipe(sweep: &Sweep, index: u64, plan: &Plan) -> Option<Recipe> {
    let test = sweep.get(index)?;
    let seed = format!("{SEED}{index}");
    let commands = match &plan.commands {
        Some(commands) => {
            let mut rng = Rng::from_text(&seed);
            given::resolve(commands, test.base.virtual_size(), &mut rng)
        }
        None => {
            let unlock = |command: Command| adapted(test.base, command);
            test.commands.into_iter().map(unlock).collect()
        }
    };
    Some(Recipe {
        fuzzer: FUZZER.into(),
        guard: match sweep.pass(index) {
            0 => plan.guard.draw_first(&seed),
            _ => plan.guard.draw(&seed),
        },
        seed,
        base: test.base.clone(),
        edits: test.edits,
        commands,
        fresh_copies: true,
    })
}

/// The index in the sweep of the test with that recipe; `None` for others.
pub(super) fn index_of(recipe: &Recipe) -> Option<u64> {
    recipe.seed.strip_prefix(SEED)?.parse().ok()
}

/// How far the sweep is.
#[derive(Debug, Default)]
pub(super) struct SweepQueue {
    mode: SweepMode,
    total: u64,
    finished: Finished,
    /// The tests that are running or interrupted.
    taken: BTreeSet<u64>,
    next: u64,
    /// How many tests were asked for.
    turn: u64,
}

impl SweepQueue {
    /// A queue of `total` tests, of which some are `finished` and others `taken`.
    pub(super) fn new(
        mode: SweepMode,
        total: u64,
        finished: Finished,
        taken: BTreeSet<u64>,
    ) -> Self {
        Self {
            mode,
            total,
            next: finished.below,
            finished,
            taken,
            turn: 0,
        }
    }

    /// The test of the sweep that comes next, where it is its turn.
    pub(super) fn next(&mut self, sweep: &Sweep) -> Option<u64> {
        while self.finished.contains(self.next) || self.taken.contains(&self.next) {
            self.next += 1;
        }
        if self.next >= self.total {
            return None;
        }
        let of_four = match (self.mode, sweep.pass(self.next)) {
            (SweepMode::Only, _) | (_, 0) => 4,
            (_, 1) => 3,
            _ => 1,
        };
        let turn = self.turn % 4;
        self.turn += 1;
        if turn >= of_four {
            return None;
        }
        self.taken.insert(self.next);
        self.next += 1;
        Some(self.next - 1)
    }

    /// Counts a test among the finished.
    pub(super) fn finish(&mut self, index: u64) {
        self.taken.remove(&index);
        self.finished.add(index);
    }

    /// How many tests are finished, and how many there are.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.finished.count().min(self.total), self.total)
    }

    /// Whether nothing else is run.
    pub(super) fn is_all(&self) -> bool {
        self.mode == SweepMode::Only
    }

    /// The finished tests.
    pub(super) fn finished(&self) -> &Finished {
        &self.finished
    }
}
