//! Which groups of findings a recipe shows when it is run again.

use image_formats::AnyImage;

use super::{Key, coarse_keys, full_keys};
use crate::input::recipe::Recipe;
use crate::oracle::Class;
use crate::oracle::runner::{Outcome, TestRunner};
use crate::oracle::timeout::TimeoutPolicy;
use image_mutations::case::Maker;
use image_mutations::named_file::NamedFile;

/// How often an example is run that does not reproduce its finding: what depends on where
/// the kernel puts a program in memory shows now and then.
const RETRIES: usize = 4;

/// Runs recipes and says which groups of findings they show.
pub trait Judge {
    /// The groups that `recipe` shows, as far as they can be told without a debugger; none
    /// where it cannot be run.
    fn coarse_keys(&mut self, recipe: &Recipe, policy: TimeoutPolicy) -> Vec<Key>;

    /// The groups that `recipe` shows, named in full, which takes a debugger's time for each
    /// crash, and what came of it; none where it cannot be run.
    fn full_keys(&mut self, recipe: &Recipe) -> (Vec<Key>, Option<Outcome>);

    /// The base image of `recipe`, for the values its fields had.
    fn base(&mut self, recipe: &Recipe) -> Option<AnyImage>;

    /// Whether to stop for now: time is over or the user interrupted it.
    fn is_over(&self) -> bool;

    /// Whether the last recipe was aborted, so that it says nothing.
    fn is_aborted(&self) -> bool;

    /// The group of the finding when `recipe`, an example of the group `key`, is run again:
    /// that one or, where it says no more than that there was a signal, the one that the
    /// stack tells this time. `None` where a few runs do not reproduce it, or time is over.
    fn again(&mut self, key: &Key, recipe: &Recipe) -> Option<Key> {
        let runs = if key.is_of_time() { 1 } else { RETRIES };
        (0..runs).find_map(|_| {
            if self.is_over() {
                return None;
            }
            let keys = self.full_keys(recipe).0;
            let same = |seen: &&Key| key.covers(seen) || seen.coarse() == *key;
            keys.iter().find(same).cloned()
        })
    }

    /// In how many of ten runs `recipe` shows the group `key`; ten without a run for classes
    /// that chance has no part in, or that take long.
    fn hits_in_10(&mut self, key: &Key, recipe: &Recipe) -> u8 {
        if !matches!(
            key.class,
            Class::Crash | Class::Sanitizer | Class::MemoryError
        ) {
            return 10;
        }
        let (key, policy) = (key.coarse(), TimeoutPolicy::Confirm);
        let hits =
            (0..10).filter(|_| !self.is_over() && key.is_among(&self.coarse_keys(recipe, policy)));
        u8::try_from(hits.count()).unwrap_or(10)
    }
}

/// A test runner that judges.
pub struct RunnerJudge<'a> {
    /// Where programs run.
    pub runner: &'a mut TestRunner,
    /// Where images are made.
    pub maker: &'a mut Maker,
    /// Says when to stop before the budget is spent.
    pub stop: &'a dyn Fn() -> bool,
}

impl RunnerJudge<'_> {
    /// The files of `recipe` and what came of it; `None` where it cannot be run.
    fn run(&mut self, recipe: &Recipe, policy: TimeoutPolicy) -> Option<(Vec<NamedFile>, Outcome)> {
        let files = self.maker.files(&recipe.base, &recipe.edits).ok()?;
        let outcome = self.runner.run_with(recipe, &files, policy).ok()?;
        Some((files, outcome))
    }
}

impl Judge for RunnerJudge<'_> {
    fn coarse_keys(&mut self, recipe: &Recipe, policy: TimeoutPolicy) -> Vec<Key> {
        let ran = self.run(recipe, policy);
        ran.map_or_else(Vec::new, |(_, outcome)| coarse_keys(&outcome))
    }

    fn full_keys(&mut self, recipe: &Recipe) -> (Vec<Key>, Option<Outcome>) {
        let Some((files, outcome)) = self.run(recipe, TimeoutPolicy::Confirm) else {
            return (Vec::new(), None);
        };
        let keys = full_keys(self.runner, recipe, &files, &outcome);
        (keys.unwrap_or_default(), Some(outcome))
    }

    fn base(&mut self, recipe: &Recipe) -> Option<AnyImage> {
        let prepared = self.maker.prepared(&recipe.base).ok()?;
        Some(prepared.image.clone())
    }

    fn is_over(&self) -> bool {
        (self.stop)()
    }

    fn is_aborted(&self) -> bool {
        self.runner.is_aborted()
    }
}
