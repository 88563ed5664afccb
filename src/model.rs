//! The data that all parts of the runner share: test, combination, job, outcome,
//! verdict, event.
//!
//! In one direction: a [`Job`] (test x combination) is run and gives an
//! [`Outcome`] (facts only); [`crate::verdict`] judges it, purely, to a
//! [`Verdict`]; the run tells reporters and history about it in [`Event`]s, and
//! in nothing else.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// One way to run the suite: format, protocol, cache mode, aio mode, options, build of QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Combo {
    /// Image format, such as `qcow2` (`IMGFMT`).
    pub format: String,
    /// Protocol, such as `file` (`IMGPROTO`).
    pub protocol: String,
    /// Cache mode, such as `writeback` (`CACHEMODE`).
    pub cache: String,
    /// Aio mode, such as `threads` (`AIOMODE`).
    pub aio: String,
    /// Image creation options as handed to tests (`IMGOPTS`), those the runner
    /// adds for luks and vmdk included; empty for none.
    pub options: String,
    /// The folder of the programs under test (`--qemu`), absolute; empty where none is named.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub qemu: String,
}

/// How a test is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The file itself.
    Exec(PathBuf),
    /// `$PYTHON FILE`.
    Python(PathBuf),
    /// A multi-call program with its first arguments: `iotest NNN`.
    Call(PathBuf, Vec<OsString>),
}

/// A test as found in a tree.
#[derive(Debug, Clone)]
pub struct Test {
    /// The name it is asked for by and shown as: `030`, or a named test's name.
    pub name: String,
    /// Its source file: what the header was read from.
    pub source: PathBuf,
    /// How it is started.
    pub start: Start,
    /// The working directory it runs in.
    pub cwd: PathBuf,
    /// Where its references are.
    pub golden_dir: PathBuf,
    /// The groups it is in, `group.local` included.
    pub groups: BTreeSet<String>,
    /// The sentence of its header; empty where there is none.
    pub summary: String,
    /// What its header says it needs.
    pub needs: Vec<String>,
    /// Its own time-out.
    pub timeout: Option<Duration>,
    /// How often it is run again after a failure, where the run does not say more.
    pub retries: u32,
}

/// Which run of which test: the key all events of a job share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId(pub u32);

/// One run of one test under one combination.
#[derive(Debug, Clone)]
pub struct Job {
    /// Position in the plan, from 0.
    pub id: JobId,
    /// The test.
    pub test: Arc<Test>,
    /// The combination.
    pub combo: Arc<Combo>,
    /// Which repetition (`--repeat`), from 0.
    pub repetition: u32,
    /// Known before anything starts: why it is not run (exclude files,
    /// `QEMU_TEST_IO_SKIP`, no reference, ...).
    pub skip: Option<String>,
    /// Whether it is known to fail.
    pub known: Option<KnownFailure>,
}

/// A failure that is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFailure {
    /// Why it fails, or where that it does is said.
    pub reason: String,
    /// Whether it may pass too.
    pub flaky: bool,
}

/// How the test's own process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this status.
    Status(i32),
    /// It was ended by this signal, not by us.
    Signal(i32),
    /// It could not be started; why.
    NotStarted(String),
}

/// A process that a test left running and that had to be ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftBehind {
    /// Its name (`/proc/PID/comm`).
    pub name: String,
    /// Its process id.
    pub pid: i32,
}

/// A bound that a test went over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// More output than allowed (bytes).
    Output(u64),
    /// More scratch space than allowed (bytes).
    Scratch(u64),
}

/// Why we ended a test before it ended itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// The time-out (which one).
    TimeOut(Duration),
    /// A bound.
    Limit(Limit),
    /// The run was interrupted.
    Interrupted,
}

/// What happened when a test ran: facts, no verdict.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How its own process ended.
    pub exit: Exit,
    /// Whether and why we ended it.
    pub ended: Option<Ended>,
    /// The file with stdout and stderr (`NAME.out.bad`).
    pub output: PathBuf,
    /// The text of `NAME.notrun`, where the test wrote one.
    pub notrun: Option<Vec<u8>>,
    /// The text of `NAME.casenotrun`, where the test wrote one.
    pub casenotrun: Option<Vec<u8>>,
    /// Sanitizer logs that are not empty.
    pub sanitizer_logs: Vec<PathBuf>,
    /// Processes that outlived the test and were ended.
    pub left_behind: Vec<LeftBehind>,
    /// FUSE mounts that outlived the test and were unmounted.
    pub left_mounts: Vec<PathBuf>,
    /// Core files, kept.
    pub cores: Vec<PathBuf>,
    /// The file with the stacks taken before a time-out ended the test.
    pub stacks: Option<PathBuf>,
    /// The test's own `TEST_DIR`.
    pub scratch: PathBuf,
    /// When it started.
    pub start: SystemTime,
    /// How long it ran.
    pub wall: Duration,
    /// CPU time of everything it started.
    pub cpu: Duration,
}

/// Why a test failed. More than one may hold; they are kept in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// It could not be started: why.
    NotStarted(String),
    /// It ran into its time-out.
    TimeOut(Duration),
    /// It went over a bound.
    Limit(Limit),
    /// A signal ended it.
    Signal(i32),
    /// Its exit status is not 0.
    ExitStatus(i32),
    /// A sanitizer reported.
    Sanitizer,
    /// Its output is not the reference.
    Output,
    /// It left processes or mounts behind.
    LeftBehind,
    /// It passed, though it is known to fail (why).
    Unexpected(String),
}

/// The result of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Its output equals the reference.
    Pass,
    /// It failed; at least one reason.
    Fail(Vec<Failure>),
    /// It failed, which is expected; why.
    KnownFail(String),
    /// It cannot run here; why.
    NotRun(String),
    /// It failed, and passed when tried again: passes of tries.
    Flaky {
        /// How many of the tries passed.
        passed: u32,
        /// How many tries there were.
        tries: u32,
    },
    /// The run ended before it did.
    Interrupted,
}

/// A verdict's kind, without its reasons: what is counted, compared and kept. From the one
/// that says least to the worst: of several results of a test the greatest is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It was not run.
    NotRun,
    /// It passed.
    Pass,
    /// The run ended before it did.
    Interrupted,
    /// It failed, as expected.
    KnownFail,
    /// It failed, then passed.
    Flaky,
    /// It failed.
    Fail,
}

impl From<&Verdict> for Kind {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Fail(_) => Self::Fail,
            Verdict::KnownFail(_) => Self::KnownFail,
            Verdict::NotRun(_) => Self::NotRun,
            Verdict::Flaky { .. } => Self::Flaky,
            Verdict::Interrupted => Self::Interrupted,
        }
    }
}

/// A finished job, all a reporter may want to show.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The job.
    pub job: Job,
    /// The verdict.
    pub verdict: Verdict,
    /// What happened; absent where nothing was started.
    pub outcome: Option<Outcome>,
    /// The reference that applied, where there is one.
    pub reference: Option<PathBuf>,
    /// Where output and reference differ: both, as bytes, bounded in length.
    pub mismatch: Option<Mismatch>,
    /// Cases the test left out, a line each.
    pub cases_not_run: Vec<String>,
    /// How long it took when it last passed (seconds).
    pub last: Option<f64>,
    /// `passed` of `tries` where a failure was tried again and did not pass.
    pub retries: Option<(u32, u32)>,
    /// The command that runs just this again.
    pub rerun: String,
    /// Messages to show with it, such as `reference written: ...`.
    pub notes: Vec<String>,
}

/// Output and reference of a job that differ.
#[derive(Debug, Clone)]
pub struct Mismatch {
    /// The reference's bytes (empty where there is none).
    pub expected: Arc<Vec<u8>>,
    /// The output's bytes, cut at the output bound.
    pub actual: Arc<Vec<u8>>,
}

/// One line of the header: a name and what it says.
pub type HeaderLine = (String, String);

/// What reporters and the history are told.
#[derive(Debug, Clone)]
pub enum Event {
    /// First of all.
    RunStarted {
        /// The header: one line each, name and value, in order.
        header: Vec<HeaderLine>,
        /// How many jobs there are.
        jobs: usize,
        /// Every combination, in order.
        combos: Vec<Arc<Combo>>,
        /// Names of all tests selected, in order.
        tests: Vec<String>,
        /// The seed of the order, where it was shuffled.
        shuffle: Option<u64>,
        /// When.
        at: SystemTime,
    },
    /// A job is about to start.
    Started {
        /// The job.
        job: Job,
        /// How long it took when it last passed (seconds).
        last: Option<f64>,
        /// When.
        at: SystemTime,
    },
    /// A job runs for long.
    Slow {
        /// The job.
        job: Job,
        /// For how long so far.
        running: Duration,
        /// When.
        at: SystemTime,
    },
    /// A program under test waits for gdb to connect.
    WaitsForGdb {
        /// The job.
        job: Job,
        /// The program's command line, as a shell takes it.
        program: String,
        /// The command that connects gdb to it, as a shell takes it.
        command: String,
    },
    /// A debugger is about to take the terminal.
    Debugging {
        /// The job.
        job: Job,
        /// The command line of the program that it debugs, as a shell takes it.
        program: String,
    },
    /// What a job has printed since it was last told (`--no-capture`).
    Output {
        /// The job.
        job: Job,
        /// The bytes; they may end anywhere.
        bytes: Vec<u8>,
    },
    /// A job has ended (after its retries).
    Finished(Box<Finished>),
    /// The user asks how things stand (SIGUSR1).
    StatusAsked {
        /// When.
        at: SystemTime,
    },
    /// The user interrupts the run: no new jobs.
    Interrupting {
        /// How many jobs are running.
        running: usize,
    },
    /// Last of all.
    RunFinished {
        /// Jobs that were not started.
        not_reached: Vec<Job>,
        /// Whether the user interrupted.
        interrupted: bool,
        /// How long it all took.
        wall: Duration,
    },
}

/// Receives the events of a run. Only reporters write to the terminal and to report files.
pub trait Reporter {
    /// Handles one event. A reporter keeps its own errors (a full disk, a closed
    /// pipe) and returns them at the end: they do not end the run.
    fn event(&mut self, event: &Event);
    /// Anything the reporter could not do, a line each; called once, last.
    fn finish(&mut self) -> Vec<String> {
        Vec::new()
    }
}
