//! One worker: draws a test, carries it out, learns from it, writes down what it
//! found, and takes the next.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use anyhow::{Result, anyhow};

use super::choose::{Bases, another, fresh, variation};
use super::shared::Shared;
use super::test_log::log_test;
use super::triage::SLICE;
use super::{Campaign, Watch};
use crate::finding::{Example, Hit};
use crate::input::case::Maker;
use crate::input::recipe::Recipe;
use crate::named_file::NamedFile;
use crate::oracle::runner::{Outcome, Ran, TestRunner};
use crate::oracle::timeout::TimeoutPolicy;
use crate::rng::Rng;
use crate::triage::judge::{Judge as _, RunnerJudge};
use crate::triage::minimise::Task;
use crate::triage::{Key, name};

/// Works until the campaign is over.
///
/// Fails where the machine does: the work folder is full, a program is gone.
pub(super) fn work(campaign: &Campaign, shared: &Mutex<Shared>, watch: &Watch<'_>) -> Result<()> {
    let mut runner = TestRunner::new(campaign.settings.clone())?;
    runner.set_end(watch.end);
    runner.set_stop(watch.stop.clone());
    runner.share_hangs(&watch.hangs);
    let mut worker = Worker {
        campaign,
        shared,
        watch,
        runner,
        maker: Maker::default(),
        bases: Bases::default(),
    };
    while !watch.ended() {
        let task = worker.lock()?.triage.next();
        match task {
            Some(task) => worker.make_smaller(task)?,
            None if worker.test()? => {}
            None => break,
        }
    }
    // With all tests done there is all the time for what they found.
    while !watch.ended() {
        let task = worker.lock()?.triage.any();
        let Some(task) = task else { break };
        worker.make_smaller(task)?;
    }
    Ok(())
}

/// A test to carry out.
struct Drawn {
    number: u64,
    recipe: Recipe,
    /// Whether its seed alone gives it again.
    fresh: bool,
}

struct Worker<'a> {
    campaign: &'a Campaign,
    shared: &'a Mutex<Shared>,
    watch: &'a Watch<'a>,
    runner: TestRunner,
    maker: Maker,
    bases: Bases,
}

impl Worker<'_> {
    /// Carries out one test; false when there is none left.
    fn test(&mut self) -> Result<bool> {
        let Some(Drawn {
            number,
            recipe,
            fresh,
        }) = self.draw()?
        else {
            return Ok(false);
        };
        let files = self.maker.files(&recipe)?;
        let policy = TimeoutPolicy::Count;
        let outcome = self.runner.run_with(&recipe, &files, policy)?;
        let keys = if self.is_aborted() {
            Vec::new()
        } else {
            name(&mut self.runner, &recipe, &files, &outcome)?
        };
        if self.is_aborted() {
            // What a program does that is told to end is nobody's fault. The test is
            // done again when the campaign goes on.
            self.lock()?.store.suspend(number, &recipe)?;
            return Ok(false);
        }
        self.learn(number, &recipe, &files, &outcome)?;
        for (key, violation) in keys.iter().zip(&outcome.violations) {
            if violation.assumed {
                let mut shared = self.lock()?;
                let key = shared.findings.group_of(key);
                shared.findings.count(&key, number)?;
            } else {
                self.found(number, key, &recipe, &outcome)?;
            }
        }
        log_test(self.campaign, number, &recipe, fresh, &files, &outcome)?;
        self.lock()?.finish(number)?;
        Ok(true)
    }

    /// Whether the end of the campaign fell into the test that was just run.
    fn is_aborted(&self) -> bool {
        self.watch.is_stopped() || self.runner.is_aborted()
    }

    /// The next test.
    fn draw(&mut self) -> Result<Option<Drawn>> {
        let suspended = self.lock()?.resume();
        if let Some((number, recipe)) = suspended {
            let again = fresh(&recipe.seed, &self.campaign.plan, &mut self.maker);
            return Ok(Some(Drawn {
                fresh: again.is_ok_and(|again| again == recipe),
                number,
                recipe,
            }));
        }
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
        let (recipe, fresh) = match parent {
            Some(parent) if plan.selection.is_none() => {
                let recipe = variation(&seed, &parent, plan, &weights, &mut self.maker)?;
                (recipe, false)
            }
            _ => another(&seed, plan, &weights, &mut self.bases, &mut self.maker)?,
        };
        Ok(Some(Drawn {
            number,
            recipe,
            fresh,
        }))
    }

    /// Takes in what the test showed; an image that showed something new is kept.
    fn learn(
        &mut self,
        number: u64,
        recipe: &Recipe,
        files: &[NamedFile],
        outcome: &Outcome,
    ) -> Result<()> {
        let notes = self.runner.take_notes();
        let mut shared = self.lock()?;
        for note in notes {
            shared.note(&note)?;
        }
        let failing = &self.campaign.failing;
        let opens = |ran: &Ran| ran.opened && !failing.contains(&ran.index);
        shared.stats.opened += u64::from(outcome.ran.iter().any(opens));
        shared.learn(number, recipe, files.first(), outcome)
    }

    /// Counts the test into a group. The first example of a group is tried once more and
    /// written down at once, to be made small later; so is one that takes its place since
    /// it is smaller, or since the first did not show the fault again.
    fn found(&mut self, number: u64, key: &Key, recipe: &Recipe, outcome: &Outcome) -> Result<()> {
        let (mut key, unsure) = {
            let shared = self.lock()?;
            let key = shared.findings.group_of(key);
            let unsure = shared.findings.is_unsure(&key);
            (key, unsure)
        };
        let again = if !unsure {
            None
        } else if key.is_of_time() {
            // To be called a hang it has run twice already, the second time for long.
            Some(key.clone())
        } else {
            self.judge(|judge| judge.again(&key, recipe))
        };
        let confirmed = again.is_some();
        let given_up = unsure && !confirmed && !self.watch.ended();
        if let Some(again) = again {
            key = again;
        }
        let hit = {
            let mut shared = self.lock()?;
            let hit = shared.findings.hit(&key, number, recipe, confirmed)?;
            shared.stats.groups = shared.findings.len();
            hit
        };
        let part = match hit {
            Hit::Known => return Ok(()),
            Hit::New => 1,
            // Most of the way to the smallest was gone before.
            Hit::Smaller => 4,
        };
        let mut hits_in_10 = confirmed.then_some(10);
        if hit == Hit::New {
            if confirmed {
                hits_in_10 = Some(self.judge(|judge| judge.hits_in_10(&key, recipe)));
            }
            let mut found =
                Example::found(recipe, &key, &mut self.runner, &mut self.maker, outcome)?;
            found.confirmed = confirmed;
            found.hits_in_10 = hits_in_10.unwrap_or(found.hits_in_10);
            found.minimised = given_up;
            self.lock()?.findings.write(&found)?;
        }
        let mut shared = self.lock()?;
        if given_up {
            shared.findings.release(&key);
        } else {
            let mut task = shared.triage.task(key, recipe.clone(), part);
            task.set_outcome(outcome.clone());
            if let Some(hits_in_10) = hits_in_10 {
                task.confirm(hits_in_10);
            }
            shared.triage.add(task);
        }
        Ok(())
    }

    /// Has something judged, until the campaign is over.
    fn judge<T>(&mut self, act: impl FnOnce(&mut RunnerJudge<'_>) -> T) -> T {
        let stop = || self.watch.ended();
        act(&mut RunnerJudge {
            runner: &mut self.runner,
            maker: &mut self.maker,
            stop: &stop,
        })
    }

    /// Works for a while on making an example smaller, and writes down what came of it.
    fn make_smaller(&mut self, mut task: Task) -> Result<()> {
        let (watch, began) = (self.watch, Instant::now());
        let stop = || watch.ended() || began.elapsed() >= SLICE;
        let example = Example::smallest(&mut task, &mut self.runner, &mut self.maker, &stop)?;
        let mut shared = self.lock()?;
        shared.findings.settle(&example)?;
        shared.triage.give_back(task, &example, began.elapsed());
        Ok(())
    }

    fn lock(&self) -> Result<MutexGuard<'_, Shared>> {
        self.shared
            .lock()
            .map_err(|_| anyhow!("another worker panicked"))
    }
}
