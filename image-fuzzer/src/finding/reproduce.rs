//! `reproduce` and `minimise`: a finding's recipe carried out again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};

use super::{Example, Record, write_folder};
use crate::input::case::Maker;
use crate::input::recipe::Recipe;
use crate::oracle::runner::{Outcome, Settings, TestRunner};
use crate::triage::minimise::{Budget, Task};
use crate::triage::{Key, coarse_of, name};

/// What came of carrying a recipe out again.
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
    /// Whether the fault showed: that of the folder, or any where it names none.
    pub fn shown(&self) -> bool {
        self.found().is_some()
    }

    /// The fault that showed, as it is named now.
    pub fn found(&self) -> Option<&Key> {
        let Some(wanted) = &self.wanted else {
            return self.seen.first();
        };
        let seen = |is: &dyn Fn(&Key) -> bool| self.seen.iter().find(|seen| is(seen));
        seen(&|seen| wanted.covers(seen))
            // A crash whose stack could not be had may be any by that signal.
            .or_else(|| seen(&|seen| coarse_of(seen) == *wanted))
            .or_else(|| seen(&|seen| wanted.signature.is_rebuilt(&seen.signature)))
    }

    /// A crash by the signal of the one that was to show, at another place.
    pub fn elsewhere(&self) -> Option<&Key> {
        let wanted = self.wanted.as_ref()?;
        self.seen
            .iter()
            .find(|seen| wanted.signature.has_signal_of(&seen.signature))
    }
}

/// How often a recipe is carried out, by each of some threads, whose fault does not show in
/// every run.
const TRIES: usize = 60;

/// Carries out the recipe in `folder`; where its fault does not show in every run, again and
/// again, several at a time, until it shows. When `stop` becomes true what was seen last is
/// all there is.
///
/// Fails where there is none, or it cannot be carried out.
pub fn reproduce_folder(
    folder: &Path,
    settings: &Settings,
    stop: &Arc<AtomicBool>,
) -> Result<Replay> {
    let recipe = Recipe::read(&folder.join("recipe.json"))?;
    let record = record(folder)?;
    let seldom = record.as_ref().is_some_and(|record| record.hits_in_10 < 10);
    let wanted = record.map(|record| record.key);
    let (threads, tries) = if seldom {
        let processors = std::thread::available_parallelism();
        (2 * processors.map_or(1, std::num::NonZero::get), TRIES)
    } else {
        (1, 1)
    };
    let shown = AtomicBool::new(false);
    let ends = std::thread::scope(|scope| {
        let attempts: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut runner = TestRunner::new(settings.clone())?;
                    runner.set_stop(Arc::clone(stop));
                    attempt(&recipe, wanted.as_ref(), runner, tries, &shown)
                })
            })
            .collect();
        let ends = attempts.into_iter().map(|thread| {
            let end = thread.join();
            end.unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
        });
        ends.collect::<Result<Vec<Replay>>>()
    })?;
    let best = ends.into_iter().max_by_key(Replay::shown);
    best.context("there is no thread to carry it out")
}

/// Carries a recipe out up to `tries` times, until it or another thread has `shown` the
/// fault, or it is stopped.
fn attempt(
    recipe: &Recipe,
    wanted: Option<&Key>,
    mut runner: TestRunner,
    tries: usize,
    shown: &AtomicBool,
) -> Result<Replay> {
    let files = Maker::default().files(recipe)?;
    let mut left = tries;
    loop {
        let outcome = runner.run(recipe, &files)?;
        let seen = name(&mut runner, recipe, &files, &outcome)?;
        let again = Replay {
            recipe: recipe.clone(),
            wanted: wanted.cloned(),
            seen,
            outcome,
        };
        left -= 1;
        if again.shown() {
            shown.store(true, Ordering::Relaxed);
        }
        if left == 0 || runner.is_aborted() || shown.load(Ordering::Relaxed) {
            return Ok(again);
        }
    }
}

/// Minimises the recipe in `folder` and writes the folder anew; gives the number
/// of edits before and after.
///
/// Fails where the fault does not show any more, or `stop` became true.
pub fn minimise_folder(
    folder: &Path,
    settings: Settings,
    budget: Budget,
    stop: &Arc<AtomicBool>,
) -> Result<(usize, usize)> {
    let hits_in_10 = record(folder)?.map_or(10, |record| record.hits_in_10);
    let again = reproduce_folder(folder, &settings, stop)?;
    let Some(found) = again.found().cloned() else {
        bail!("the fault of '{}' does not show any more", folder.display());
    };
    let Replay {
        recipe,
        wanted,
        outcome,
        ..
    } = again;
    let key = wanted.unwrap_or_else(|| found.clone());
    // Of another build the examples are to have the place that it has there.
    let sought = if key.signature.is_rebuilt(&found.signature) {
        found
    } else {
        key.clone()
    };
    let mut runner = TestRunner::new(settings)?;
    runner.set_stop(Arc::clone(stop));
    let stopped = || stop.load(Ordering::SeqCst);
    let mut maker = Maker::default();
    let mut task = Task::new(sought, recipe.clone(), budget);
    task.confirm(hits_in_10);
    task.set_outcome(outcome);
    let mut example = Example::smallest(&mut task, &mut runner, &mut maker, &stopped)?;
    if stopped() {
        bail!("it was interrupted");
    }
    example.key = key;
    let folder = std::path::absolute(folder)?;
    write_folder(&folder, &example)?;
    Ok((recipe.edits.len(), example.recipe.edits.len()))
}

/// What `finding.json` in `folder` says, where there is one.
fn record(folder: &Path) -> Result<Option<Record>> {
    let path = folder.join("finding.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map(Some)
        .with_context(|| format!("'{}' is damaged", path.display()))
}
