//! One worker: draws a test, carries it out, learns from it, writes down what it
//! found, and takes the next.

use std::sync::{Mutex, MutexGuard};

use anyhow::{Result, anyhow};

use super::choose::{Bases, another, variation};
use super::shared::Shared;
use super::{Campaign, Watch};
use crate::base::NamedFile;
use crate::case::Maker;
use crate::finding::{self, Example, Hit};
use crate::recipe::Recipe;
use crate::rng::Rng;
use crate::triage::minimise::Budget;
use crate::triage::{Key, name};
use crate::trial::{Bench, Outcome};

/// Works until the campaign is over.
///
/// Fails where the machine does: the work folder is full, a program is gone.
pub(super) fn work(campaign: &Campaign, shared: &Mutex<Shared>, watch: &Watch<'_>) -> Result<()> {
    let mut bench = Bench::new(campaign.settings.clone())?;
    bench.set_end(watch.end);
    let mut worker = Worker {
        campaign,
        shared,
        watch,
        bench,
        maker: Maker::default(),
        bases: Bases::default(),
    };
    while !watch.ended() && worker.unfinished()? {}
    while !watch.ended() && worker.test()? {}
    Ok(())
}

struct Worker<'a> {
    campaign: &'a Campaign,
    shared: &'a Mutex<Shared>,
    watch: &'a Watch<'a>,
    bench: Bench,
    maker: Maker,
    bases: Bases,
}

impl Worker<'_> {
    /// Carries out one test; false when there is none left.
    fn test(&mut self) -> Result<bool> {
        let Some((number, recipe)) = self.draw()? else {
            return Ok(false);
        };
        let files = self.maker.files(&recipe)?;
        let outcome = self.bench.run(&recipe, &files)?;
        let keys = if self.is_cut() {
            Vec::new()
        } else {
            name(&mut self.bench, &recipe, &files, &outcome)?
        };
        if self.is_cut() {
            // An interrupt reaches the programs too: what they did then is nobody's
            // fault. The test is done again when the campaign goes on.
            self.lock()?.store.suspend(number, &recipe)?;
            return Ok(false);
        }
        self.learn(number, &recipe, &files, &outcome)?;
        for key in &keys {
            self.found(number, key, &recipe, &outcome)?;
        }
        finding::log_test(self.campaign, number, &recipe, &files, &outcome)?;
        self.lock()?.finish(number)?;
        Ok(true)
    }

    /// Whether the end of the campaign fell into the test that was just run.
    fn is_cut(&self) -> bool {
        self.watch.is_stopped() || self.bench.is_cut()
    }

    /// The next test and its number.
    fn draw(&mut self) -> Result<Option<(u64, Recipe)>> {
        let (number, seed, parent, weights) = {
            let mut shared = self.lock()?;
            if let Some(suspended) = shared.resume() {
                return Ok(Some(suspended));
            }
            let Some(number) = shared.number(self.campaign.tests) else {
                return Ok(None);
            };
            let seed = format!("{}/{number}", shared.seed);
            let parent = shared.parent(&mut Rng::from_text(&format!("{seed}/parent")));
            (
                number,
                seed,
                parent,
                self.campaign.plan.only(shared.weights()),
            )
        };
        let plan = &self.campaign.plan;
        let recipe = match parent {
            Some(parent) if plan.scope.is_none() => {
                variation(&seed, &parent, plan, &weights, &mut self.maker)?
            }
            _ => another(&seed, plan, &weights, &mut self.bases, &mut self.maker)?,
        };
        Ok(Some((number, recipe)))
    }

    /// Takes in what the test showed; an image that showed something new is kept.
    fn learn(
        &mut self,
        number: u64,
        recipe: &Recipe,
        files: &[NamedFile],
        outcome: &Outcome,
    ) -> Result<()> {
        let notes = self.bench.take_notes();
        let mut shared = self.lock()?;
        for note in notes {
            shared.note(&note)?;
        }
        let news = shared.learn(recipe, outcome);
        if news > 0
            && let Some(image) = files.first()
        {
            let name = shared.enqueue(recipe, number, news, outcome.opened);
            shared.store.enqueue(&name, recipe, image)?;
        }
        Ok(())
    }

    /// Counts the test into a group. The first example of a group is written down at
    /// once, and then made small; a later one takes its place where it is smaller.
    fn found(&mut self, number: u64, key: &Key, recipe: &Recipe, outcome: &Outcome) -> Result<()> {
        let hit = {
            let mut shared = self.lock()?;
            let hit = shared.findings.hit(key, number, recipe)?;
            shared.stats.groups = shared.findings.len();
            hit
        };
        match hit {
            Hit::Known => Ok(()),
            Hit::New => {
                let found = Example::found(recipe, key, &self.bench, &mut self.maker, outcome)?;
                self.lock()?.findings.write(&found)?;
                self.make_small(key, recipe, self.campaign.budget)
            }
            Hit::Smaller => {
                let budget = self.campaign.budget;
                let tests = budget.tests / 4;
                self.make_small(key, recipe, Budget { tests, ..budget })
            }
        }
    }

    /// Takes up a group whose example an earlier run had no time to make small;
    /// false when there is none.
    fn unfinished(&mut self) -> Result<bool> {
        let next = self.lock()?.findings.unfinished();
        let Some((key, recipe)) = next else {
            return Ok(false);
        };
        self.make_small(&key, &recipe, self.campaign.budget)?;
        Ok(true)
    }

    /// Confirms and minimises an example of a group and writes its folder.
    fn make_small(&mut self, key: &Key, recipe: &Recipe, budget: Budget) -> Result<()> {
        let watch = self.watch;
        let stop = || watch.ended();
        let (bench, maker) = (&mut self.bench, &mut self.maker);
        let example = Example::smallest(recipe, key, bench, maker, budget, &stop)?;
        self.lock()?.findings.settle(&example)
    }

    fn lock(&self) -> Result<MutexGuard<'_, Shared>> {
        self.shared
            .lock()
            .map_err(|_| anyhow!("another worker panicked"))
    }
}
