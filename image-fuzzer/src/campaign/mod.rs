//! A campaign: workers that generate tests, run them and judge what the programs did.

mod activity;
mod afl_stats;
mod corpus;
mod cover;
mod export;
mod finished;
mod fleet;
mod generate;
mod merge;
mod novelty;
mod reach_log;
mod reached;
mod runs;
mod shared;
mod state;
mod stats;
mod status;
mod store;
mod sweep;
mod sync;
mod task_queue;
mod test_log;
mod totals;
mod worker;

pub use export::{Exported, ExportedImage, exported};
pub use fleet::{Fleet, FleetStats};
pub use generate::{Plan, fresh};
pub use merge::{Merged, merge};
pub use novelty::{Credit, NoveltySources, Operator};
pub(crate) use reached::Reached;
pub use reached::{BlockCounts, BlockLog, First};
pub use runs::Run;
pub use shared::Feedback;
pub use state::{CampaignConfig, sweep_progress};
pub use stats::{FamilyStats, Stats};
pub use status::StatusMode;
pub use sweep::{SweepMode, sweep, sweep_recipe};
pub use test_log::{LoggedTest, TestLog};
pub use totals::{Moment, Totals, moments};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{ScopedJoinHandle, Thread};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::finding::Findings;
use crate::input::recipe::FUZZER;
use crate::input::sweep::Sweep;
use crate::oracle::KnownHangs;
use crate::oracle::runner::Settings;
use crate::oracle::timeout::TimeBudgets;
use crate::triage::minimise::Budget;
use activity::Activities;
use shared::Shared;
use state::State;
use status::Rates;
use store::{Progress, Store};
use sweep::SweepQueue;
use sync::Sync;
use task_queue::TaskQueue;

/// What a campaign is to do.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The work folder.
    pub dir: PathBuf,
    /// The seed; `None` for that of the campaign in the folder or, in a new one, any.
    pub seed: Option<String>,
    /// What tests are drawn from.
    pub plan: Plan,
    /// How much of it is the sweep.
    pub sweep: SweepMode,
    /// The indices of given commands that fail on a valid image too: they do not tell whether
    /// an image opened.
    pub failing: BTreeSet<usize>,
    /// What decides which recipes are varied, and how.
    pub feedback: Feedback,
    /// How programs are run.
    pub settings: Settings,
    /// The time after which no command is started, and running ones are soon ended.
    pub duration: Option<Duration>,
    /// How many tests the campaign has, those of earlier runs included.
    pub tests: Option<u64>,
    /// The number of workers, each with its own scratch folder and executors.
    pub workers: usize,
    /// Folders of tests that passed are kept.
    pub keep_passed: bool,
    /// Tests that passed are logged.
    pub verbose: bool,
    /// How much is spent on minimising the first example of a group.
    pub budget: Budget,
    /// How the status is shown.
    pub status: StatusMode,
    /// The command line of this run, for reports.
    pub command_line: String,
    /// The programs under test that tell their version, and what they say, for reports.
    pub programs: BTreeMap<String, String>,
    /// How many groups end the campaign once they are confirmed.
    pub until_groups: Option<usize>,
    /// The fleet that it is an instance of.
    pub fleet: Option<Fleet>,
}

/// The result of a campaign.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The statistics of this run of the fuzzer.
    pub stats: Stats,
    /// What this and earlier runs came to.
    pub totals: Totals,
    /// The groups in the work folder, those of earlier runs included.
    pub groups: usize,
    /// Why a worker failed, where one did.
    pub error: Option<String>,
}

impl Campaign {
    /// A campaign in the work folder `dir` that draws everything, has no end and is silent.
    pub fn new(dir: &Path, settings: Settings) -> Self {
        Self {
            dir: dir.to_owned(),
            seed: None,
            plan: Plan::default(),
            sweep: SweepMode::default(),
            failing: BTreeSet::new(),
            feedback: Feedback::default(),
            settings,
            duration: None,
            tests: None,
            workers: default_workers(),
            keep_passed: false,
            verbose: false,
            budget: Budget::default(),
            status: StatusMode::Off,
            command_line: String::new(),
            programs: BTreeMap::new(),
            until_groups: None,
            fleet: None,
        }
    }

    /// Runs the campaign until its time is over, its tests are done, or `stop` is set. One
    /// that was begun earlier is resumed.
    ///
    /// # Errors
    ///
    /// The work folder cannot be used or belongs to another campaign.
    pub fn run(&self, stop: &Arc<AtomicBool>) -> Result<Summary> {
        let store = Store::open(&self.dir)?;
        let mut state = State::open(store.root(), self.seed.as_deref(), random_seed)?;
        let config = self.plan.config();
        let sweep = sweep(&self.plan, self.sweep)?;
        let total = sweep.as_ref().map(Sweep::len);
        let other = total.is_some_and(|total| !state.has_sweep(&config, total));
        state.set_config(store.root(), config, total)?;
        let run = Run {
            time: jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
            fuzzer: FUZZER.into(),
            command_line: self.command_line.clone(),
            seed: state.seed.clone(),
            programs: self.programs.clone(),
        };
        run.log(store.root())?;
        let findings = Findings::open(store.root())?;
        let hangs = KnownHangs::new(findings.hangs());
        let mut progress = store.progress()?;
        let mut sync = match &self.fleet {
            Some(fleet) => Some(Sync::open(
                fleet,
                store.root(),
                &state.seed,
                &self.command_line,
            )?),
            None => None,
        };
        let exchange = sync.as_ref().map(|sync| sync.exchange(&progress.queue));
        let queue = self.sweep_queue(&store, &mut progress, total, other)?;
        let tasks = TaskQueue::new(self.workers.max(1), self.settings.limits.wall, self.budget);
        let blocks = self.settings.blocks.clone();
        let mut shared = Shared::new(store, findings, progress, state.seed, tasks, queue, blocks);
        shared.feedback = self.feedback;
        shared.exchange = exchange;
        // From here on a kill leaves totals to go on from.
        shared.store_totals()?;
        if sync.is_some() {
            // For AFL++'s tools, which show the instance from its beginning.
            let timeout = self.settings.limits.wall;
            shared.write_afl_stats(0.0, timeout, &self.command_line)?;
        }
        let shared = Mutex::new(shared);
        if let Some(sync) = &mut sync {
            sync.begin(self, &shared);
        }
        let started = Instant::now();
        let control = RunControl {
            stop,
            done: AtomicBool::new(false),
            workers_done: AtomicBool::new(false),
            sync: OnceLock::new(),
            deadline: self.duration.map(|duration| started + duration),
            hangs,
            budgets: TimeBudgets::default(),
            activities: Activities::new(self.workers.max(1)),
        };
        let error = self.run_workers(&shared, &control, sweep.as_ref(), sync);
        let shared = shared
            .into_inner()
            .ok()
            .context("a worker panicked and left the campaign unfinished")?;
        shared.store.compact(&shared.finished)?;
        if sweep.is_some() {
            shared.store.compact_swept(shared.sweep.finished())?;
        }
        let mut rates = Rates::default();
        rates.add(started.elapsed(), shared.stats.commands);
        status::log(self, &shared, started, &rates)?;
        Ok(Summary {
            totals: shared.totals(),
            stats: shared.stats,
            groups: shared.findings.len(),
            error,
        })
    }

    /// The tests of the sweep that are left. Interrupted ones of another sweep are dropped.
    fn sweep_queue(
        &self,
        store: &Store,
        progress: &mut Progress,
        total: Option<u64>,
        other: bool,
    ) -> Result<SweepQueue> {
        let Some(total) = total else {
            return Ok(SweepQueue::default());
        };
        if other {
            let suspended = &mut progress.suspended;
            suspended.retain(|_, recipe| sweep::index_of(recipe).is_none());
        }
        let taken = progress.suspended.values().filter_map(sweep::index_of);
        let taken = taken.collect();
        Ok(SweepQueue::new(
            self.sweep,
            total,
            store.swept(other)?,
            taken,
        ))
    }

    /// Runs the workers until all of them are done; returns why one failed, where one did.
    fn run_workers(
        &self,
        shared: &Mutex<Shared>,
        control: &RunControl<'_>,
        sweep: Option<&Sweep>,
        sync: Option<Sync>,
    ) -> Option<String> {
        std::thread::scope(|scope| {
            let sync = sync.map(|sync| scope.spawn(|| sync.run(self, shared, control)));
            if let Some(sync) = &sync {
                // It is set here alone.
                let _ = control.sync.set(sync.thread().clone());
            }
            let workers: Vec<_> = (0..self.workers.max(1))
                .map(|index| scope.spawn(move || worker::work(self, shared, control, sweep, index)))
                .collect();
            let reporter = scope.spawn(|| status::report(self, shared, control));
            let mut error = None;
            for worker in workers {
                match worker.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(why)) => error = Some(format!("{why:#}")),
                    Err(_) => error = Some("a worker panicked".to_owned()),
                }
            }
            control.done.store(true, Ordering::SeqCst);
            control.workers_done.store(true, Ordering::SeqCst);
            reporter.thread().unpark();
            // A reporter that panicked has shown no more statistics, and lost nothing.
            let _ = reporter.join();
            control.wake_sync();
            // What it did not write it writes in the next run.
            let _ = sync.map(ScopedJoinHandle::join);
            error
        })
    }

    /// Where its tests are logged.
    fn test_log(&self) -> TestLog<'_> {
        TestLog {
            dir: &self.dir,
            keep_passed: self.keep_passed,
            verbose: self.verbose,
        }
    }
}

/// As many workers as use all processors: half as many more than there are, since a worker
/// waits between the end of one program and the start of the next.
pub fn default_workers() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    processors + processors.div_ceil(2)
}

/// What the threads of a running campaign share without a lock.
struct RunControl<'a> {
    /// Set when the user interrupts the campaign.
    stop: &'a Arc<AtomicBool>,
    /// Set when no further test is to be started, and when all workers are done.
    done: AtomicBool,
    /// Set when all workers are done.
    workers_done: AtomicBool,
    /// The thread that writes and reads the folder of the fleet.
    sync: OnceLock<Thread>,
    /// When no further test is started.
    deadline: Option<Instant>,
    /// The hangs that are known to all workers.
    hangs: KnownHangs,
    /// What commands may take before they are suspected to hang.
    budgets: TimeBudgets,
    /// What the workers do.
    activities: Activities,
}

impl RunControl<'_> {
    /// Whether the user interrupted the campaign.
    fn is_interrupted(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Has the folder of the fleet written and read now.
    fn wake_sync(&self) {
        if let Some(thread) = self.sync.get() {
            thread.unpark();
        }
    }

    /// The time until the campaign is over.
    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |end| {
            end.saturating_duration_since(Instant::now())
        })
    }

    /// Whether no further test is to be started.
    fn is_over(&self) -> bool {
        self.is_interrupted()
            || self.done.load(Ordering::SeqCst)
            || self.deadline.is_some_and(|end| Instant::now() >= end)
    }
}

/// A seed for a campaign that was given none.
fn random_seed() -> String {
    let nanoseconds = jiff::Timestamp::now().as_nanosecond();
    format!("{:x}-{:x}", nanoseconds, std::process::id())
}
