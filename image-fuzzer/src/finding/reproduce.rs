//! `reproduce` and `minimise`: a finding's recipe run again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};

use super::example::has_stack;
use super::record::every_run;
use super::{Example, Record, write_folder};
use crate::exec::symbols::Symbols;
use crate::exec::trace::Trace;
use crate::input::recipe::Recipe;
use crate::oracle::runner::{Outcome, Settings, TestRunner};
use crate::triage::minimise::{Budget, Task};
use crate::triage::{Key, full_keys};
use image_mutations::case::Maker;

/// The result of running a recipe again.
#[derive(Debug)]
pub struct Replay {
    /// The recipe.
    pub recipe: Recipe,
    /// The group the folder is of; `None` for a folder that holds a recipe alone.
    pub wanted: Option<Key>,
    /// The groups seen now.
    pub seen: Vec<Key>,
    /// What the programs did.
    pub outcome: Outcome,
}

impl Replay {
    /// Whether the finding was reproduced: that of the folder, or any where it names none.
    pub fn is_reproduced(&self) -> bool {
        self.found().is_some()
    }

    /// The finding that was reproduced, as it is named now.
    pub fn found(&self) -> Option<&Key> {
        let Some(wanted) = &self.wanted else {
            return self.seen.first();
        };
        let seen = |is: &dyn Fn(&Key) -> bool| self.seen.iter().find(|seen| is(seen));
        seen(&|seen| wanted.covers(seen))
            // A crash whose stack could not be had may be any by that signal.
            .or_else(|| seen(&|seen| seen.coarse() == *wanted))
            .or_else(|| seen(&|seen| wanted.signature.is_rebuilt(&seen.signature)))
    }

    /// A crash by the signal of the wanted one, at another place.
    pub fn elsewhere(&self) -> Option<&Key> {
        let wanted = self.wanted.as_ref()?;
        self.seen
            .iter()
            .find(|seen| wanted.signature.has_signal_of(&seen.signature))
    }
}

/// How often a recipe is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs {
    /// Threads that run it at the same time.
    threads: usize,
    /// How often each of them does, unless one of them reproduces the finding.
    tries: usize,
}

/// How often each of some threads runs a recipe whose finding not every run reproduces.
const TRIES: usize = 60;

impl Runs {
    /// As often as it takes to reproduce a finding that is there.
    fn persistent(hits_in_10: u8) -> Self {
        if hits_in_10 < 10 {
            let threads = Self::threads();
            Self {
                threads,
                tries: TRIES,
            }
        } else {
            Self::once()
        }
    }

    /// Once, or so often that a finding that is there is missed with a chance of 1 %.
    pub(super) fn to_tell(hits_in_10: u8) -> Self {
        /// The share of runs that show a finding that none of ten did.
        const SELDOM: f64 = 0.05;
        if hits_in_10 >= 10 {
            return Self::once();
        }
        let share = (f64::from(hits_in_10) / 10.0).max(SELDOM);
        let runs = (0.01_f64.ln() / (1.0 - share).ln()).ceil() as usize;
        let threads = Self::threads();
        Self {
            threads,
            tries: runs.div_ceil(threads),
        }
    }

    fn once() -> Self {
        Self {
            threads: 1,
            tries: 1,
        }
    }

    fn threads() -> usize {
        let processors = std::thread::available_parallelism();
        2 * processors.map_or(1, std::num::NonZero::get)
    }
}

/// Runs the recipe in `folder`. Where not every run reproduces its finding it is run
/// repeatedly, several at a time, until one does. Once `stop` is true the result is what was
/// seen last.
///
/// # Errors
///
/// There is no recipe, or it cannot be run.
pub fn reproduce_folder(
    folder: &Path,
    settings: &Settings,
    stop: &Arc<AtomicBool>,
) -> Result<Replay> {
    let recipe = Recipe::read(&folder.join("recipe.json"))?;
    let record = Record::read(folder)?;
    let hits_in_10 = record.as_ref().map_or(every_run(), |it| it.hits_in_10);
    let wanted = record.map(|record| record.key);
    replay(
        &recipe,
        wanted,
        settings,
        stop,
        Runs::persistent(hits_in_10),
    )
}

/// The stack of a crash that was just reproduced, from another run, else the recorded one,
/// with what the debug symbols on this machine tell; `None` where there is neither.
///
/// # Errors
///
/// The recipe cannot be run.
pub fn stack_of(folder: &Path, replay: &Replay, settings: &Settings) -> Result<Option<Trace>> {
    let mut symbols = Symbols::new(&settings.debug_folders);
    let mut violations = replay.outcome.violations.iter();
    let crash = violations.find(|it| has_stack(it.class));
    if let Some(crash) = crash.filter(|_| replay.is_reproduced()) {
        let mut runner = TestRunner::new(settings.clone())?;
        let files = Maker::default().files(&replay.recipe.base, &replay.recipe.edits)?;
        if let Some(stack) = runner.stack(&replay.recipe, &files, crash.command)? {
            return Ok(Some(Trace::new(&stack, &mut symbols)));
        }
    }
    let recorded = Record::read(folder)?.and_then(|record| record.trace);
    Ok(recorded.map(|stack| stack.resolve(&mut symbols)))
}

/// Runs a recipe, and looks for the finding `wanted`, or any.
///
/// # Errors
///
/// It cannot be run.
pub(super) fn replay(
    recipe: &Recipe,
    wanted: Option<Key>,
    settings: &Settings,
    stop: &Arc<AtomicBool>,
    runs: Runs,
) -> Result<Replay> {
    let class = wanted.as_ref().map(|key| key.class);
    let settings = settings.clone().to_reproduce(class);
    let reproduced = AtomicBool::new(false);
    let replays = std::thread::scope(|scope| {
        let attempts: Vec<_> = (0..runs.threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut runner = TestRunner::new(settings.clone())?;
                    runner.set_stop(Arc::clone(stop));
                    attempt(recipe, wanted.as_ref(), runner, runs.tries, &reproduced)
                })
            })
            .collect();
        let replays = attempts.into_iter().map(|thread| {
            let replay = thread.join();
            replay.unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
        });
        replays.collect::<Result<Vec<Replay>>>()
    })?;
    // What was seen at another place says more than nothing.
    let rank = |replay: &Replay| (replay.is_reproduced(), !replay.seen.is_empty());
    let best = replays.into_iter().max_by_key(rank);
    best.context("there is no thread to run it")
}

/// Runs a recipe up to `tries` times, until this or another thread has `reproduced` the
/// finding, or it is stopped.
fn attempt(
    recipe: &Recipe,
    wanted: Option<&Key>,
    mut runner: TestRunner,
    tries: usize,
    reproduced: &AtomicBool,
) -> Result<Replay> {
    let files = Maker::default().files(&recipe.base, &recipe.edits)?;
    let mut left = tries;
    loop {
        let outcome = runner.run(recipe, &files)?;
        let seen = full_keys(&mut runner, recipe, &files, &outcome)?;
        let replay = Replay {
            recipe: recipe.clone(),
            wanted: wanted.cloned(),
            seen,
            outcome,
        };
        left -= 1;
        if replay.is_reproduced() {
            reproduced.store(true, Ordering::Relaxed);
        }
        if left == 0 || runner.is_aborted() || reproduced.load(Ordering::Relaxed) {
            return Ok(replay);
        }
    }
}

/// Minimises the recipe in `folder` and writes the folder again; returns the number of edits
/// before and after.
///
/// # Errors
///
/// The finding is not reproducible, `stop` became true, or the folder cannot be written.
pub fn minimise_folder(
    folder: &Path,
    settings: Settings,
    budget: Budget,
    stop: &Arc<AtomicBool>,
) -> Result<(usize, usize)> {
    let hits_in_10 = Record::read(folder)?.map_or(every_run(), |record| record.hits_in_10);
    let replay = reproduce_folder(folder, &settings, stop)?;
    let Some(found) = replay.found().cloned() else {
        bail!("the finding in '{}' is not reproducible", folder.display());
    };
    let Replay {
        recipe,
        wanted,
        outcome,
        ..
    } = replay;
    let key = wanted.unwrap_or_else(|| found.clone());
    // In another build the same crash is at another place, by which it is recognised there.
    let sought = if key.signature.is_rebuilt(&found.signature) {
        found
    } else {
        key.clone()
    };
    let mut runner = TestRunner::new(settings.to_reproduce(Some(key.class)))?;
    runner.set_stop(Arc::clone(stop));
    let stopped = || stop.load(Ordering::SeqCst);
    let mut maker = Maker::default();
    let mut task = Task::new(sought, recipe.clone(), budget);
    task.confirm(hits_in_10);
    task.set_outcome(outcome);
    let mut example = Example::minimise(&mut task, &mut runner, &mut maker, &stopped)?;
    example.find_poked(&mut runner, &stopped)?;
    if stopped() {
        bail!("interrupted");
    }
    example.key = key;
    let folder = std::path::absolute(folder)?;
    write_folder(&folder, &example)?;
    Ok((recipe.edits.len(), example.recipe.edits.len()))
}
