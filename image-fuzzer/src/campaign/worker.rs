//! One worker: generates a test, runs it, learns from it, writes what it found, and takes
//! the next.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use anyhow::{Result, anyhow};

use super::activity::Activity;
use super::fleet::Source;
use super::generate::{BasePool, changes, fresh, generate, imported, spare, variation};
use super::novelty::Changes;
use super::shared::Shared;
use super::sweep::sweep_recipe;
use super::task_queue::{Parked, SLICE, Work};
use super::test_log::LoggedTest;
use super::{Campaign, RunControl};
use crate::exec::blocks::BlockId;
use crate::exec::stopwatch::Purpose;
use crate::finding::{Candidate, Example};
use crate::input::recipe::Recipe;
use crate::input::sweep::Sweep;
use crate::oracle::Class;
use crate::oracle::runner::{Outcome, Ran, TestRunner};
use crate::oracle::timeout::TimeoutPolicy;
use crate::triage::judge::{Judge as _, RunnerJudge};
use crate::triage::minimise::Task;
use crate::triage::{Key, full_keys};
use image_mutations::case::Maker;
use image_mutations::named_file::NamedFile;
use image_mutations::rng::Rng;

/// Works until the campaign is over.
///
/// # Errors
///
/// The work folder cannot be written, or a program cannot be run.
pub(super) fn work(
    campaign: &Campaign,
    shared: &Mutex<Shared>,
    control: &RunControl<'_>,
    sweep: Option<&Sweep>,
    index: usize,
) -> Result<()> {
    let mut runner = TestRunner::new(campaign.settings.clone())?;
    runner.set_end(control.deadline);
    runner.set_stop(control.stop.clone());
    runner.share_hangs(&control.hangs);
    runner.share_budgets(&control.budgets);
    let mut worker = Worker {
        campaign,
        shared,
        control,
        sweep,
        runner,
        maker: Maker::default(),
        bases: BasePool::default(),
        index,
        next_sample: Instant::now(),
        samples: 0,
        last: 0,
    };
    while !control.is_over() {
        let work = worker.lock()?.tasks.next(control.left());
        match work {
            Some(work) => worker.work_on(work)?,
            None if worker.test()? => {}
            None => break,
        }
    }
    // With all tests done the rest of the time is for what waits.
    while !control.is_over() {
        let work = worker.lock()?.tasks.pop();
        let Some(work) = work else { break };
        worker.work_on(work)?;
    }
    worker.begin(Activity::Idle);
    let (number, reached) = (worker.last, worker.runner.take_reached());
    worker.lock()?.add_blocks(number, &reached)?;
    worker.end_lap()
}

/// A test to run.
struct Test {
    number: u64,
    recipe: Recipe,
    /// What it has that no earlier test had that it was made from.
    changes: Changes,
    /// Whether its seed alone gives it again ([`fresh`]).
    fresh: bool,
    /// Whether an earlier run of the fuzzer began it.
    replayed: bool,
    /// The instance of the fleet whose image it has.
    source: Option<Source>,
}

struct Worker<'a> {
    campaign: &'a Campaign,
    shared: &'a Mutex<Shared>,
    control: &'a RunControl<'a>,
    sweep: Option<&'a Sweep>,
    runner: TestRunner,
    maker: Maker,
    bases: BasePool,
    /// Which of the workers it is.
    index: usize,
    /// When a test is a sample of the blocks that tests reach.
    next_sample: Instant,
    /// How many samples there were.
    samples: u64,
    /// The number of the last test.
    last: u64,
}

/// Of so many samples one is of a test that was just run, the others of recipes of the queue as
/// long as there are any whose blocks are not known.
const SAMPLED_TESTS: u64 = 4;

impl Worker<'_> {
    /// Runs one test; false when there is none left.
    fn test(&mut self) -> Result<bool> {
        let Some(Test {
            number,
            recipe,
            changes,
            fresh,
            replayed,
            source,
        }) = self.next_test()?
        else {
            return Ok(false);
        };
        self.begin(if replayed {
            Activity::Replay(number)
        } else {
            Activity::Test(number)
        });
        self.last = number;
        let files = self.maker.files(&recipe.base, &recipe.edits)?;
        self.lap(Purpose::Images);
        let policy = TimeoutPolicy::Park;
        let outcome = self.runner.run_with(&recipe, &files, policy)?;
        let keys = if self.is_aborted() {
            Vec::new()
        } else {
            full_keys(&mut self.runner, &recipe, &files, &outcome)?
        };
        if self.is_aborted() {
            // What a program does when it is ended from outside is no finding. The test is
            // run again when the campaign is resumed.
            self.lock()?.store.suspend(number, &recipe)?;
            self.finish_import(source, false)?;
            return Ok(false);
        }
        let kept = self.learn(number, &recipe, &changes, &files, &outcome)?;
        self.sample(number, &recipe, &files, &outcome)?;
        let mut telling = false;
        for (key, violation) in keys.iter().zip(&outcome.violations) {
            if violation.assumed {
                let mut shared = self.lock()?;
                let key = shared.findings.group_of(key);
                shared.findings.count(&key, number)?;
            } else {
                telling |= self.handle_finding(number, key, &recipe, &outcome)?;
            }
        }
        let test = LoggedTest {
            number,
            recipe: &recipe,
            fresh,
            files: &files,
            outcome: &outcome,
        };
        self.campaign.test_log().log(&test, telling)?;
        self.park(number, recipe.clone(), &outcome)?;
        self.lock()?.finish(number, &recipe)?;
        self.finish_import(source, kept)?;
        self.end_lap()?;
        Ok(true)
    }

    /// Notes that an image of another instance of the fleet was run, once the test is on disk.
    fn finish_import(&mut self, source: Option<Source>, kept: bool) -> Result<()> {
        if let Some(source) = source
            && self.lock()?.finish_import(source, kept)
        {
            self.control.wake_sync();
        }
        Ok(())
    }

    /// Keeps a test with a command that may hang, to be run again when there is time, unless
    /// enough of its kind wait already.
    fn park(&mut self, number: u64, recipe: Recipe, outcome: &Outcome) -> Result<()> {
        let Some(suspect) = outcome.suspects.first().cloned() else {
            return Ok(());
        };
        let mut shared = self.lock()?;
        let key = Key {
            class: Class::Hang,
            signature: suspect.signature.clone(),
        };
        if key.signature.frames().is_none() && shared.findings.is_confirmed(&key) {
            // Without a debugger all hangs of a command are one group.
            return shared.findings.count(&key, number);
        }
        shared.park(Parked {
            number,
            recipe,
            suspect: Some(suspect),
        })
    }

    /// Works on something that waited.
    fn work_on(&mut self, work: Work) -> Result<()> {
        match work {
            Work::Minimise(task) => self.minimise(*task),
            Work::Confirm(parked) => self.confirm(*parked),
        }
    }

    /// Runs a test again that may hang, for as long as it takes to tell.
    fn confirm(&mut self, parked: Parked) -> Result<()> {
        let began = Instant::now();
        self.begin(Activity::Hang(parked.number));
        let done = self.pinned(Purpose::Hangs, |worker| worker.judge_parked(&parked))?;
        let mut shared = self.lock()?;
        if done {
            shared.unpark(parked.number)?;
        }
        let again = (!done).then_some(parked);
        shared.tasks.confirmed(again, began.elapsed());
        shared.stats.suspected = shared.tasks.parked();
        drop(shared);
        self.end_lap()
    }

    /// Whether a test that may hang was run to its end; what it shows is a finding.
    fn judge_parked(&mut self, parked: &Parked) -> Result<bool> {
        let Parked {
            number,
            recipe,
            suspect,
        } = parked;
        let files = self.maker.files(&recipe.base, &recipe.edits)?;
        let outcome = self.runner.run(recipe, &files)?;
        if self.is_aborted() {
            return Ok(false);
        }
        let keys = full_keys(&mut self.runner, recipe, &files, &outcome)?;
        if self.is_aborted() {
            return Ok(false);
        }
        for (key, violation) in keys.iter().zip(&outcome.violations) {
            self.handle_finding(*number, key, recipe, &outcome)?;
            self.lock()?.stats.hit(violation);
        }
        if let Some(suspect) = suspect
            && !keys.iter().any(Key::is_of_time)
        {
            self.runner.acquit(suspect);
        }
        Ok(true)
    }

    /// Whether the end of the campaign interrupted the test that was just run.
    fn is_aborted(&self) -> bool {
        self.control.is_interrupted() || self.runner.is_aborted()
    }

    /// The next test.
    fn next_test(&mut self) -> Result<Option<Test>> {
        let suspended = self.lock()?.resume();
        if let Some((number, recipe)) = suspended {
            let again = fresh(&recipe.seed, &self.campaign.plan, &mut self.maker);
            return Ok(Some(Test {
                fresh: again.is_ok_and(|again| again == recipe),
                changes: Changes::default(),
                replayed: true,
                source: None,
                number,
                recipe,
            }));
        }
        let import = self.lock()?.next_import(self.campaign.tests);
        if let Some((number, import)) = import {
            let source = Some(import.source.clone());
            let recipe = imported(number, import, &self.campaign.plan);
            return Ok(Some(Test {
                changes: self.changes(&recipe)?,
                fresh: false,
                replayed: false,
                source,
                number,
                recipe,
            }));
        }
        let plan = &self.campaign.plan;
        let (number, seed, parent, guidance) = {
            let mut shared = self.lock()?;
            let swept = self.sweep.and_then(|sweep| shared.sweep.next(sweep));
            if swept.is_none() && shared.sweep.is_all() {
                return Ok(None);
            }
            let Some(number) = shared.number(self.campaign.tests) else {
                return Ok(None);
            };
            let recipe = self.sweep.zip(swept);
            if let Some(recipe) = recipe.and_then(|(sweep, index)| sweep_recipe(sweep, index, plan))
            {
                drop(shared);
                return Ok(Some(Test {
                    number,
                    changes: self.changes(&recipe)?,
                    recipe,
                    fresh: false,
                    replayed: false,
                    source: None,
                }));
            }
            let seed = format!("{}/{number}", shared.seed);
            let parent = shared.choose(&mut Rng::from_text(&format!("{seed}/parent")));
            (number, seed, parent, shared.guidance())
        };
        let (mut recipe, changes, fresh) = match parent {
            Some(parent) if plan.selection.is_none() => {
                let (recipe, changes) =
                    variation(&seed, &parent, plan, &guidance, &mut self.maker)?;
                (recipe, changes, false)
            }
            _ => {
                let weights = plan.restrict(guidance.families.clone());
                let (recipe, fresh) =
                    generate(&seed, plan, &weights, &mut self.bases, &mut self.maker)?;
                let changes = self.changes(&recipe)?;
                (recipe, changes, fresh)
            }
        };
        let spared = plan.commands.is_none() && spare(&mut recipe, number);
        Ok(Some(Test {
            number,
            recipe,
            changes,
            fresh: fresh && !spared,
            replayed: false,
            source: None,
        }))
    }

    /// Takes in the feedback of a test; an image that showed something new is kept. Whether
    /// this one is.
    fn learn(
        &mut self,
        number: u64,
        recipe: &Recipe,
        changes: &Changes,
        files: &[NamedFile],
        outcome: &Outcome,
    ) -> Result<bool> {
        let notes = self.runner.take_notes();
        let reached = self.runner.take_reached();
        let mut shared = self.lock()?;
        for note in notes {
            shared.note(&note)?;
        }
        let failing = &self.campaign.failing;
        let opens = |ran: &Ran| ran.has_opened() && !failing.contains(&ran.index);
        shared.stats.opened += u64::from(outcome.ran.iter().any(opens));
        let kept = shared.learn(number, recipe, changes, files.first(), outcome)?;
        // And what was reached between tests.
        shared.add_blocks(number, &reached)?;
        Ok(kept)
    }

    /// What a test without a parent has: all of it.
    fn changes(&mut self, recipe: &Recipe) -> Result<Changes> {
        let prepared = self.maker.prepared(&recipe.base)?;
        Ok(changes(recipe, None, &prepared.map))
    }

    /// Notes all the blocks of one test in a few, to learn how often each is reached, and of
    /// recipes of the queue, to learn what others reach too.
    fn sample(
        &mut self,
        number: u64,
        recipe: &Recipe,
        files: &[NamedFile],
        outcome: &Outcome,
    ) -> Result<()> {
        if self.campaign.settings.blocks.is_none() || Instant::now() < self.next_sample {
            return Ok(());
        }
        let began = Instant::now();
        self.samples += 1;
        let entry = match self.samples.is_multiple_of(SAMPLED_TESTS) {
            true => None,
            false => self.lock()?.next_untraced(),
        };
        if let Some((index, recipe)) = entry {
            let files = self.maker.files(&recipe.base, &recipe.edits)?;
            let blocks = self.trace(&recipe, &files)?;
            if !self.is_aborted() {
                let mut shared = self.lock()?;
                shared.traced(index, &blocks)?;
                // What it reached for the first time no other run notes.
                shared.add_blocks(number, &blocks)?;
            }
        } else if outcome.all_exit() {
            let blocks = self.trace(recipe, files)?;
            if !self.is_aborted() {
                let mut shared = self.lock()?;
                shared.sample(&blocks);
                shared.add_blocks(number, &blocks)?;
            }
        }
        let took = began.elapsed();
        let pause = self.lock()?.sample_pause();
        self.next_sample = Instant::now() + took * pause;
        Ok(())
    }

    /// All the blocks that a recipe reaches.
    fn trace(&mut self, recipe: &Recipe, files: &[NamedFile]) -> Result<Vec<BlockId>> {
        self.pinned(Purpose::Samples, |worker| {
            worker.runner.trace_blocks(recipe, files)
        })
    }

    /// Counts the test into a group. The first example of a group is run once more and written
    /// at once, to be minimised later; so is one that replaces it because it is smaller, or
    /// because the first was not reproduced. Returns whether it is one of these.
    fn handle_finding(
        &mut self,
        number: u64,
        key: &Key,
        recipe: &Recipe,
        outcome: &Outcome,
    ) -> Result<bool> {
        let (key, known) = {
            let shared = self.lock()?;
            let key = shared.findings.group_of(key);
            let known = shared.findings.is_confirmed(&key);
            (key, known)
        };
        let reproduced = if known {
            None
        } else {
            self.begin(Activity::Confirm(key.clone()));
            self.pinned(Purpose::Confirming, |worker| worker.reproduce(&key, recipe))
        };
        let confirmed = reproduced.is_some();
        let given_up = !known && !confirmed && !self.control.is_over();
        let key = reproduced.unwrap_or(key);
        let candidate = {
            let mut shared = self.lock()?;
            let candidate = shared.findings.hit(&key, number, recipe, confirmed)?;
            if shared.findings.len() > shared.stats.groups {
                shared.pace.group(key.is_of_time());
            }
            shared.stats.groups = shared.findings.len();
            candidate
        };
        let share = match candidate {
            Candidate::Duplicate => return Ok(false),
            Candidate::New => 1,
            // Most of the way to a minimal one is behind it.
            Candidate::Smaller => 4,
        };
        let hits_in_10 = match candidate {
            Candidate::New => self.pinned(Purpose::Confirming, |worker| {
                worker.write_new(&key, recipe, outcome, confirmed, given_up)
            })?,
            _ => 10,
        };
        let mut shared = self.lock()?;
        if let Some(groups) = self.campaign.until_groups
            && shared.findings.confirmed() >= groups
        {
            self.control.done.store(true, Ordering::SeqCst);
        }
        if given_up {
            shared.findings.release(&key);
        } else {
            let mut task = shared.tasks.task(key, recipe.clone(), share);
            task.set_outcome(outcome.clone());
            if confirmed {
                task.confirm(hits_in_10);
            }
            shared.tasks.add(task);
        }
        Ok(true)
    }

    /// Writes the first example of a group; returns how many of ten runs reproduce it.
    fn write_new(
        &mut self,
        key: &Key,
        recipe: &Recipe,
        outcome: &Outcome,
        confirmed: bool,
        given_up: bool,
    ) -> Result<u8> {
        let hits_in_10 = confirmed.then(|| self.judge(|judge| judge.hits_in_10(key, recipe)));
        let (runner, maker) = (&mut self.runner, &mut self.maker);
        let mut example = Example::new(key, recipe, outcome, runner, maker)?;
        example.confirmed = confirmed;
        example.hits_in_10 = hits_in_10.unwrap_or(example.hits_in_10);
        example.minimised = given_up;
        self.lock()?.findings.write(&example)?;
        Ok(example.hits_in_10)
    }

    /// The group of the finding when `recipe` is run again; `None` where it is not reproduced.
    fn reproduce(&mut self, key: &Key, recipe: &Recipe) -> Option<Key> {
        if key.is_of_time() {
            // To be called a hang it has run twice already, the second time for long.
            return Some(key.clone());
        }
        self.judge(|judge| judge.again(key, recipe))
    }

    /// Runs tests to judge them, until the campaign is over.
    fn judge<T>(&mut self, act: impl FnOnce(&mut RunnerJudge<'_>) -> T) -> T {
        let stop = || self.control.is_over();
        act(&mut RunnerJudge {
            runner: &mut self.runner,
            maker: &mut self.maker,
            stop: &stop,
        })
    }

    /// Minimises an example for a while, and writes the result.
    fn minimise(&mut self, mut task: Task) -> Result<()> {
        let (control, began) = (self.control, Instant::now());
        self.begin(Activity::Minimise(task.key.clone()));
        let stop = || control.is_over() || began.elapsed() >= SLICE;
        let example = self.pinned(Purpose::Minimising, |worker| {
            let (runner, maker) = (&mut worker.runner, &mut worker.maker);
            let mut example = Example::minimise(&mut task, runner, maker, &stop)?;
            // It has bounds of its own, and is not begun again in the next slice.
            example.find_poked(runner, &|| control.is_over())?;
            anyhow::Ok(example)
        })?;
        let mut shared = self.lock()?;
        shared.findings.update(&example)?;
        shared.tasks.give_back(task, &example, began.elapsed());
        drop(shared);
        self.end_lap()
    }

    /// Tells the status what this worker does from now on.
    fn begin(&self, activity: Activity) {
        self.control.activities.begin(self.index, activity);
    }

    /// Ends a stretch of time that was for `purpose`.
    fn lap(&mut self, purpose: Purpose) {
        self.runner.stopwatch().lap(purpose);
    }

    /// Ends the last stretch of a test, and counts what it spent.
    fn end_lap(&mut self) -> Result<()> {
        self.lap(Purpose::WorkFolder);
        let spent = self.runner.stopwatch().take();
        self.lock()?.pace.add(spent);
        Ok(())
    }

    /// Does something all of whose time is for `purpose`.
    fn pinned<T>(&mut self, purpose: Purpose, act: impl FnOnce(&mut Self) -> T) -> T {
        self.lap(Purpose::WorkFolder);
        let outer = self.runner.stopwatch().pin(Some(purpose));
        let done = act(self);
        self.lap(purpose);
        self.runner.stopwatch().pin(outer);
        done
    }

    fn lock(&self) -> Result<MutexGuard<'_, Shared>> {
        self.shared
            .lock()
            .map_err(|_| anyhow!("another worker panicked"))
    }
}
