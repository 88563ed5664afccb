//! Runs jobs: so many at once, each contained, bounded and cleaned up after.
//!
//! ```text
//! dispatcher (one thread, owns the reporters)
//!    | starts            ^ done, slow, signals, ticks
//!    v                   |
//! a worker thread for each running job -> keeper -> supervisor -> the test
//! ```
//!
//! Only the dispatcher decides what starts when, and only it sends events to reporters;
//! the workers do what may block: directories, files, waiting,
//! stacks, judging. What a job touches outside its own directories goes through
//! [`RunHost`].

mod attempt;
mod bounds;
mod cores;
mod debugger;
mod dirs;
mod dispatcher;
mod gdbserver;
mod job;
mod load;
mod looks;
mod order;
mod places;
mod progress;
mod sanitizers;
mod scratch;
mod signals;
mod stacks;
mod stop;
mod workers;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::history::Past;
use crate::model::{Finished, HeaderLine, Job};
use crate::verdict::Policy;

pub use debugger::{Debugged, START, start};
pub use dirs::SOCKET_PATH_MAX;
pub use dispatcher::run;
pub use places::Places;

/// How many jobs run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parallel {
    /// As many as keep the CPUs busy: more than there are CPUs while
    /// tests only wait, fewer when load or memory requires it.
    Auto,
    /// Exactly this many (at least 1).
    Exactly(usize),
}

/// What a run is to be like.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Lines of the header, told to reporters as they are.
    pub header: Vec<HeaderLine>,
    /// The caller's `TEST_DIR`; each job gets a directory below it.
    pub test_dir: PathBuf,
    /// The name by which tests are given `test_dir`, where they cannot use its own: a link to
    /// it ([`Places::link`]).
    pub test_dir_link: Option<PathBuf>,
    /// The `SOCK_DIR` of the run ([`Places::sockets`]); each job gets a directory below it.
    pub sock_dir: PathBuf,
    /// What `Start::Python` tests are run by (`PYTHON`).
    pub python: PathBuf,
    /// Arguments every test gets behind its own (`-d`).
    pub test_args: Vec<OsString>,
    /// How many jobs run at once.
    pub parallel: Parallel,
    /// Every job runs alone (`-gdb`), whatever `parallel` says.
    pub alone: bool,
    /// Random order from this seed, in place of longest first.
    pub shuffle: Option<u64>,
    /// The order of the jobs, in place of longest first.
    pub in_order: bool,
    /// No new jobs after the first failure; running ones end by themselves.
    pub fail_fast: bool,
    /// Run all jobs again and again until one fails or the user interrupts.
    pub until_fail: bool,
    /// How often a failed job is tried again, where its test does not say more.
    pub rerun_failed: u32,
    /// Whether a flaky job is no failure.
    pub flaky_passes: bool,
    /// Keep the scratch directories of passed jobs.
    pub keep: bool,
    /// How long a test may run that declares no time-out of its own; `None`
    /// lifts every time-out.
    pub timeout: Option<Duration>,
    /// What time-outs are multiplied by (under valgrind).
    pub timeout_factor: u32,
    /// After how long a running test is announced as slow, and again after as
    /// long.
    pub slow_after: Duration,
    /// The most a test may print, in bytes.
    pub output_limit: u64,
    /// The most disk space a test may fill, in bytes.
    pub scratch_limit: u64,
    /// Start tests that have no reference too (`--bless`); else they are not run.
    pub run_without_reference: bool,
    /// The test gets the terminal, its output is not captured, it runs alone and
    /// without a time-out or bound: the program and first arguments it is run
    /// under (`gdb --args`).
    pub debugger: Option<Vec<OsString>>,
    /// A program under test that runs in a debugger, which has the terminal: the test runs
    /// alone and without a time-out or bound.
    pub debugged: Option<Debugged>,
    /// Tell of programs that wait under gdbserver; a test is not slow then, but waits for a
    /// person.
    pub watch_gdbservers: bool,
    /// Tell what tests print as it comes; they run alone.
    pub stream: bool,
    /// What counts as a failure.
    pub policy: Policy,
}

impl Settings {
    /// Whether a person has a test in a debugger: then nothing is bounded.
    pub(crate) fn is_debugged(&self) -> bool {
        self.debugger.is_some() || self.debugged.is_some()
    }

    /// The defaults, with scratch below `test_dir` and sockets below `sock_dir`.
    #[must_use]
    pub fn new(test_dir: PathBuf, sock_dir: PathBuf) -> Self {
        Self {
            header: Vec::new(),
            test_dir,
            test_dir_link: None,
            sock_dir,
            python: PathBuf::from("python3"),
            test_args: Vec::new(),
            parallel: Parallel::Auto,
            alone: false,
            shuffle: None,
            in_order: false,
            fail_fast: false,
            until_fail: false,
            rerun_failed: 0,
            flaky_passes: false,
            keep: false,
            timeout: Some(Duration::from_secs(600)),
            timeout_factor: 1,
            slow_after: Duration::from_secs(60),
            output_limit: 64 << 20,
            scratch_limit: 16 << 30,
            run_without_reference: false,
            debugger: None,
            debugged: None,
            watch_gdbservers: false,
            stream: false,
            policy: Policy {
                left_behind_fails: true,
            },
        }
    }
}

/// What a run needs from the rest of the program. Jobs call it from their own
/// threads, so it is shared.
pub trait RunHost: Sync {
    /// The whole environment of a job's test (nothing else is inherited), given
    /// its own `TEST_DIR` and `SOCK_DIR`. Sanitizer options in it are extended.
    fn environment(&self, job: &Job, test_dir: &Path, sock_dir: &Path)
    -> Vec<(OsString, OsString)>;

    /// The reference that applies ([`crate::golden::find`]).
    fn reference(&self, job: &Job) -> Option<PathBuf>;

    /// What is remembered of the job; asked before anything runs.
    fn past(&self, job: &Job) -> Option<Past>;

    /// The command that runs just this job again.
    fn rerun(&self, job: &Job) -> String;

    /// A job has finished, its files are still there, and reporters are about to be told:
    /// the place to write references and add notes. Called one at a time.
    fn finished(&self, finished: &mut Finished);
}

/// How a run went: counts of jobs by verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Jobs that passed.
    pub passed: usize,
    /// Jobs that failed.
    pub failed: usize,
    /// Jobs that failed, as expected.
    pub known_failures: usize,
    /// Jobs that failed, and passed when tried again.
    pub flaky: usize,
    /// Jobs that cannot run here.
    pub not_run: usize,
    /// Jobs that the user's interrupt ended.
    pub interrupted_jobs: usize,
    /// Jobs that were never started.
    pub not_reached: usize,
    /// Whether the user interrupted the run.
    pub interrupted: bool,
}
