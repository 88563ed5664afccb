//! Several work folders as one: the fewest recipes that reach the same, and each group of
//! findings once.
//!
//! The new folder is made beside its place and renamed at the end, so that it is there whole or
//! not at all; those that it is made from are only read.

mod queue;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};

use super::corpus::REACH;
use super::finished::Finished;
use super::novelty::NoveltySources;
use super::reached::{BLOCKS, BlockLog, Reached};
use super::runs::Run;
use super::state::State;
use super::store::{Progress, Store, swept};
use super::totals::Totals;
use crate::files::write_whole;
use crate::finding::{Origin, regroup};
use queue::Queue;

/// What merging came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Tests of all campaigns.
    pub tests: u64,
    /// Recipes in all queues.
    pub recipes: usize,
    /// Those in the new one.
    pub kept: usize,
    /// Those of them of which it is not known what they reach.
    pub unknown: usize,
    /// Recipes that could not be read and are left out.
    pub damaged: usize,
    /// Findings in all folders.
    pub findings: usize,
    /// The groups that they are of.
    pub groups: usize,
}

/// A campaign that is merged.
struct Source {
    root: PathBuf,
    store: Store,
    state: State,
    progress: Progress,
    /// The number that its test 0 gets.
    first: u64,
}

/// Merges the campaigns in the work folders `sources` into the new one `into`.
///
/// # Errors
///
/// A folder is none, is damaged, is in use, or is of another version; `into` is not empty;
/// or `stop` became true.
pub fn merge(sources: &[PathBuf], into: &Path, stop: &AtomicBool) -> Result<Merged> {
    let into = std::path::absolute(into)?;
    if let Ok(mut entries) = fs::read_dir(&into)
        && entries.next().is_some()
    {
        bail!("'{}' is not empty: name another folder", into.display());
    }
    let sources = open(sources)?;
    let parent = into.parent().unwrap_or(Path::new("/"));
    let failed = || format!("cannot make '{}'", into.display());
    fs::create_dir_all(parent).with_context(failed)?;
    let temp = tempfile::Builder::new()
        .prefix(".merge-")
        .tempdir_in(parent)
        .with_context(failed)?;
    let merged = write(&sources, temp.path(), stop)?;
    if into.exists() {
        // It is empty.
        fs::remove_dir(&into).with_context(failed)?;
    }
    let temp = temp.keep();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&temp, mode).with_context(failed)?;
    fs::rename(&temp, &into).with_context(failed)?;
    Ok(merged)
}

/// Opens the work folders, and numbers their tests on from one to the next.
fn open(folders: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    let mut known = BTreeSet::new();
    let mut first = 0;
    for root in folders {
        let state = State::read(root)?;
        let real = root.canonicalize().unwrap_or_else(|_| root.clone());
        ensure!(known.insert(real), "'{}' is named twice", root.display());
        let store = Store::open_to_read(root)?;
        let progress = store.read();
        let progress = progress.with_context(|| format!("'{}' is damaged", root.display()))?;
        let pending = progress.suspended.keys().chain(progress.parked.keys());
        let end = pending.max().map_or(0, |number| number + 1);
        let end = end.max(progress.finished.end());
        sources.push(Source {
            root: root.clone(),
            store,
            state,
            progress,
            first,
        });
        first += end;
    }
    Ok(sources)
}

/// Writes the new work folder.
fn write(sources: &[Source], root: &Path, stop: &AtomicBool) -> Result<Merged> {
    let interrupted = || match stop.load(Ordering::SeqCst) {
        true => bail!("interrupted"),
        false => Ok(()),
    };
    let store = Store::open(root)?;
    let mut queue = Queue::default();
    let mut merged = Merged::default();
    for source in sources {
        interrupted()?;
        let count = fs::read_dir(source.root.join("recipes")).map_or(0, Iterator::count);
        merged.damaged += count.saturating_sub(source.progress.queue.len());
        queue.add(&source.root, source.first, &source.progress);
    }
    merged.recipes = queue.len();
    queue.minimise();
    (merged.kept, merged.unknown) = (queue.len(), queue.unknown());
    let reach = queue.write(&store, &interrupted)?;
    write_whole(&root.join(REACH), reach.as_bytes())?;
    let origins: Vec<Origin<'_>> = sources
        .iter()
        .map(|source| Origin {
            root: &source.root,
            first: source.first,
        })
        .collect();
    (merged.groups, merged.findings) = regroup(&origins, root)?;
    merged.tests = write_logs(sources, &store)?;
    interrupted()?;
    Ok(merged)
}

/// Writes what the campaigns did and saw; returns how many tests they finished.
fn write_logs(sources: &[Source], store: &Store) -> Result<u64> {
    let root = store.root();
    let states: Vec<State> = sources.iter().map(|source| source.state.clone()).collect();
    let state = State::merged(&states);
    let mut sweep = Finished::default();
    let mut finished = Finished::default();
    let mut features = BTreeSet::new();
    let (mut reached, mut blocks) = (Reached::default(), String::new());
    let mut totals = Totals::default();
    let mut novelty = NoveltySources::default();
    for source in sources {
        let Source {
            progress, first, ..
        } = source;
        finished.merge(&progress.finished, *first);
        for (number, recipe) in &progress.suspended {
            store.suspend(first + number, recipe)?;
        }
        for (number, recipe) in &progress.parked {
            store.park(first + number, &recipe.to_json()?)?;
        }
        if state.sweeps() {
            sweep.merge(&swept(&source.root)?, 0);
        }
        features.extend(progress.features.iter().copied());
        blocks += &blocks_of(&progress.blocks, &mut reached, *first, totals.seconds);
        totals.merge(Totals::last(&source.root));
        novelty.merge(NoveltySources::read(&source.root));
        for run in Run::all(&source.root) {
            run.log(root)?;
        }
        let line = format!(
            "merged from '{}': seed {}, test 0 there is test {first} here",
            source.store.root().display(),
            source.state.seed
        );
        store.log("run.log", &line)?;
    }
    let features: Vec<u64> = features.into_iter().collect();
    if !features.is_empty() {
        store.log_features(&features)?;
    }
    write_whole(&root.join(BLOCKS), blocks.as_bytes())?;
    totals.store(root)?;
    novelty.store(root)?;
    store.compact(&finished)?;
    store.compact_swept(&sweep)?;
    state.write(root)?;
    Ok(finished.count())
}

/// The lines of the log for blocks that no campaign before reached, as if this one had been run
/// after those, which took so many seconds.
fn blocks_of(log: &BlockLog, reached: &mut Reached, first: u64, seconds: f64) -> String {
    let mut text = String::new();
    for it in &log.reached {
        let new = reached.add(&[it.block]);
        if new.is_empty() {
            continue;
        }
        let files = || log.files.values().cloned().collect();
        text += &reached.lines(&new, first + it.test, seconds + it.seconds, files);
        text.push('\n');
    }
    text
}
