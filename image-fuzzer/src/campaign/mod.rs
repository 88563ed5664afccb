//! A campaign: workers that make, run and judge tests until time is over.

mod choose;
mod shared;
mod stats;
mod status;
pub mod store;
mod test_log;
mod triage;
mod worker;

pub use choose::{Plan, fresh};
pub use stats::Stats;
pub use test_log::log_test;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::campaign::store::Store;
use crate::finding::Findings;
use crate::oracle::KnownHangs;
use crate::oracle::runner::Settings;
use crate::triage::minimise::Budget;
use shared::Shared;

/// What a campaign is to do.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The work folder.
    pub dir: PathBuf,
    /// The seed; without one the campaign in the folder goes on, or a seed is drawn
    /// from the system and written down.
    pub seed: Option<String>,
    /// What tests are drawn from.
    pub plan: Plan,
    /// The given commands, by their place, that fail on a valid image too: what they do with
    /// others does not tell whether they open them.
    pub failing: BTreeSet<usize>,
    /// How they are carried out.
    pub settings: Settings,
    /// After so long no command is started, and those that run are ended soon.
    pub duration: Option<Duration>,
    /// No test of a higher number is started: the campaign has this many tests.
    pub tests: Option<u64>,
    /// How many workers there are, each with its own scratch folder and programs.
    pub workers: usize,
    /// Folders of tests that passed are kept.
    pub keep_passed: bool,
    /// Tests that passed are logged.
    pub verbose: bool,
    /// How long the first example of a group is made smaller.
    pub budget: Budget,
    /// The line that says how it goes is shown.
    pub status: bool,
}

/// What came of a campaign.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The numbers of this run of the fuzzer.
    pub stats: Stats,
    /// The groups in the work folder, those of earlier runs included.
    pub groups: usize,
    /// What went wrong in a worker, where something did.
    pub trouble: Option<String>,
}

impl Campaign {
    /// Runs the campaign until its time is over, its tests are done, or `stop` is
    /// set. What was begun before is taken up again.
    ///
    /// Fails where the work folder cannot be used or no worker can start.
    pub fn run(&self, stop: &Arc<AtomicBool>) -> Result<Summary> {
        let mut store = Store::open(&self.dir)?;
        let state = store.state(self.seed.as_deref(), drawn_seed)?;
        store.note_asked(&state, self.plan.asked())?;
        let findings = Findings::open(store.root())?;
        let hangs = KnownHangs::new(findings.hangs());
        let past = store.past()?;
        let triage = triage::Queue::new(self.workers.max(1), self.budget);
        let shared = Shared::new(store, findings, past, state.seed, triage);
        let shared = Mutex::new(shared);
        let started = Instant::now();
        let watch = Watch {
            stop,
            over: AtomicBool::new(false),
            end: self.duration.map(|duration| started + duration),
            hangs,
        };
        let trouble = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..self.workers.max(1))
                .map(|_| scope.spawn(|| worker::work(self, &shared, &watch)))
                .collect();
            let reporter = scope.spawn(|| status::report(self, &shared, &watch, started));
            let mut trouble = None;
            for handle in handles {
                match handle.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(why)) => trouble = Some(format!("{why:#}")),
                    Err(_) => trouble = Some("a worker panicked".to_owned()),
                }
            }
            watch.over.store(true, Ordering::SeqCst);
            reporter.thread().unpark();
            // The reporter shows numbers and can do nothing else wrong.
            let _ = reporter.join();
            trouble
        });
        let mut shared = shared
            .into_inner()
            .ok()
            .context("a worker panicked and left the campaign unfinished")?;
        let finished = shared.finished.clone();
        shared.store.settle(&finished)?;
        shared.log_stats(started)?;
        Ok(Summary {
            stats: shared.stats.clone(),
            groups: shared.findings.len(),
            trouble,
        })
    }
}

/// As many workers as keep the processors busy: half as many more than there are, since a
/// worker waits between the end of one program and the start of the next.
pub fn default_workers() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    processors + processors.div_ceil(2)
}

/// When to stop.
struct Watch<'a> {
    stop: &'a Arc<AtomicBool>,
    over: AtomicBool,
    end: Option<Instant>,
    /// What all workers know to hang.
    hangs: KnownHangs,
}

impl Watch<'_> {
    /// Whether the user wants the machine back.
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Whether no further test is to be started.
    fn ended(&self) -> bool {
        self.is_stopped()
            || self.over.load(Ordering::SeqCst)
            || self.end.is_some_and(|end| Instant::now() >= end)
    }
}

/// A seed nobody chose.
fn drawn_seed() -> String {
    let nanoseconds = jiff::Timestamp::now().as_nanosecond();
    format!("{:x}-{:x}", nanoseconds, std::process::id())
}
