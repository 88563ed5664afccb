//! One worker: draws a test, carries it out, learns from it, writes down what it
//! found, and takes the next.

use std::sync::{Mutex, MutexGuard};

use anyhow::{Result, anyhow};

use super::choose::{Bases, another, variation};
use super::shared::Shared;
use super::{Campaign, Watch};
use crate::base::NamedFile;
use crate::case::Maker;
use crate::finding::{self, Example};
use crate::recipe::Recipe;
use crate::rng::Rng;
use crate::triage::{Key, name};
use crate::trial::{Bench, Outcome};

/// Works until the campaign is over.
///
/// Fails where the machine does: the work folder is full, a program is gone.
pub(super) fn work(campaign: &Campaign, shared: &Mutex<Shared>, watch: &Watch<'_>) -> Result<()> {
    let mut worker = Worker {
        campaign,
        shared,
        watch,
        bench: Bench::new(campaign.settings.clone())?,
        maker: Maker::default(),
        bases: Bases::default(),
    };
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
        if self.watch.stop.load(std::sync::atomic::Ordering::SeqCst) {
            // An interrupt reaches the programs too: what they did then is nobody's
            // fault. The test is done again when the campaign goes on.
            return Ok(false);
        }
        self.learn(number, &recipe, &files, &outcome)?;
        if !outcome.suspicions.is_empty() {
            self.found(number, &recipe, &files, &outcome)?;
        }
        finding::log_test(self.campaign, number, &recipe, &files, &outcome)?;
        let mut shared = self.lock()?;
        shared.store.finish(number)?;
        shared.finished.add(number);
        Ok(true)
    }

    /// The next test and its number.
    fn draw(&mut self) -> Result<Option<(u64, Recipe)>> {
        let (number, seed, parent, weights) = {
            let mut shared = self.lock()?;
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

    /// Groups what the oracles found, and makes a finding of a new group.
    fn found(
        &mut self,
        number: u64,
        recipe: &Recipe,
        files: &[NamedFile],
        outcome: &Outcome,
    ) -> Result<()> {
        for key in name(&mut self.bench, recipe, files, outcome)? {
            let fresh = {
                let mut shared = self.lock()?;
                let fresh = shared.findings.hit(&key, number)?;
                shared.stats.groups = shared.findings.len();
                fresh
            };
            if fresh {
                self.write_down(&key, recipe)?;
            }
        }
        Ok(())
    }

    /// Confirms and minimises the first example of a group and writes its folder.
    fn write_down(&mut self, key: &Key, recipe: &Recipe) -> Result<()> {
        let budget = self.campaign.budget;
        let (bench, maker) = (&mut self.bench, &mut self.maker);
        let example = Example::smallest(recipe, key, bench, maker, budget)?;
        let mut shared = self.lock()?;
        shared.findings.write(&example)?;
        shared.stats.groups = shared.findings.len();
        Ok(())
    }

    fn lock(&self) -> Result<MutexGuard<'_, Shared>> {
        self.shared
            .lock()
            .map_err(|_| anyhow!("another worker panicked"))
    }
}
