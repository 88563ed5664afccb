//! Runs programs and reports what was seen: the only room that starts the programs under test.
//!
//! An [`Executor`] is made for one program by [`for_program`] and then asked to
//! [`run`](Executor::run) one [`Request`] after another. How it does that, by a fork server
//! inside the program or by executing it each time, shows only in the time it takes, not in
//! the [`Observation`].
//!
//! An executor judges nothing. A signal, a timeout or a touched canary is recorded; whether it
//! is a finding is decided by the oracles.

mod active_run;
pub mod blocks;
mod canary;
pub mod deadline;
mod debugger;
pub mod debuggers;
mod encode;
mod late;
mod launch;
pub mod pool;
pub mod process;
mod program;
pub mod recorded;
mod sampler;
pub mod sandbox;
pub mod sanitizer;
pub mod scratch;
mod server;
mod server_executor;
pub mod stopwatch;
pub mod symbols;
pub mod trace;
mod watch;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use blocks::{BlockId, ProgramBlocks};
pub use canary::SECRET;
pub use debugger::Debugger;
use program::{Program, ServerKind};
pub use sampler::Sampler;
use server_executor::ServerExecutor;

use crate::input::guard::Guard;

/// One run of the executor's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The arguments, the program's own name (`argv[0]`) first.
    pub argv: Vec<OsString>,
    /// The directory the program starts in. It must be in the executor's scratch folder, or
    /// readable from inside the sandbox.
    pub cwd: PathBuf,
    /// Variables added to the executor's base environment, or replaced in it.
    pub env: Vec<(OsString, OsString)>,
    /// What the program finds on its standard input; `None` is `/dev/null`.
    pub stdin: Option<Vec<u8>>,
    /// What the run may use.
    pub limits: Limits,
    /// The guarding allocator it runs under, where the program can have one.
    pub guard: Option<Guard>,
    /// Whether [`Observation::blocks`] are to be all that it reaches.
    pub trace: bool,
}

impl Request {
    /// A request with no added environment, no input and the default limits.
    pub fn new(argv: Vec<OsString>, cwd: impl Into<PathBuf>) -> Self {
        Self {
            argv,
            cwd: cwd.into(),
            env: Vec::new(),
            stdin: None,
            limits: Limits::default(),
            guard: None,
            trace: false,
        }
    }
}

/// What one run may use. A run that uses more is killed and ends as [`End::OverLimit`], except
/// for `file_size`, where writes fail as on a full file system, and `open_files`, where opening
/// another file fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Time on the clock; a run that takes longer is [`End::TimedOut`].
    pub wall: Duration,
    /// CPU time of any one process, rounded up to whole seconds, at least one.
    pub cpu: Duration,
    /// Resident memory of all the run's processes together, in bytes. Address space does not
    /// count: a program built with a sanitizer maps terabytes that it never touches.
    pub memory: u64,
    /// Address space of each process, in bytes; allocations past it fail. Off by default.
    pub address_space: Option<u64>,
    /// Length of any one file that is written, in bytes; writes past it fail with `EFBIG`.
    pub file_size: u64,
    /// Files that a process may have open at once; opening another fails with `EMFILE`. A chain
    /// of images that goes on for ever ends there.
    pub open_files: u64,
    /// Processes alive at once in the run, the program itself included.
    pub processes: usize,
    /// Bytes of standard output and of standard error, each. What is captured is truncated
    /// there.
    pub output: usize,
    /// Bytes allocated on disk by the run, in the scratch folder and in its working directory
    /// where that is another writable one.
    pub disk_growth: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(10),
            cpu: Duration::from_secs(10),
            memory: 1 << 30,
            address_space: None,
            // Offsets past 32 bits can be written; a sparse file that takes minutes to read
            // cannot.
            file_size: (4 << 30) + (64 << 20),
            open_files: 256,
            processes: 64,
            output: 1 << 20,
            disk_growth: 512 << 20,
        }
    }
}

/// A limit that a run exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// [`Limits::cpu`].
    Cpu,
    /// [`Limits::memory`].
    Memory,
    /// [`Limits::processes`].
    Processes,
    /// [`Limits::output`].
    Output,
    /// [`Limits::disk_growth`].
    DiskGrowth,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The program exited with this status.
    Exit(i32),
    /// This signal, which we did not send, ended the program.
    Signal(i32),
    /// The program was killed at [`Limits::wall`].
    TimedOut,
    /// The program was killed because it exceeded a limit.
    OverLimit(Limit),
    /// The program was killed because [`ExecOptions::stop`] was set.
    Stopped,
    /// The program never ran; the text says why.
    NotStarted(String),
}

/// What was seen of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// How it ended.
    pub end: End,
    /// For a signal that an instruction caused: a number that is the same for all crashes at
    /// the same place of the program. `None` where only a debugger could tell.
    pub crash: Option<u64>,
    /// Standard output, at most [`Limits::output`] bytes of it.
    pub stdout: Vec<u8>,
    /// Standard error, at most [`Limits::output`] bytes of it.
    pub stderr: Vec<u8>,
    /// Time on the clock from start to end.
    pub wall: Duration,
    /// CPU time, user and system, of the program and of those of its children that it waited
    /// for.
    pub cpu: Duration,
    /// The largest resident set of any process of the run, in bytes. As the kernel counts, an
    /// executed program begins with what this process had when the executor was made.
    pub max_rss: u64,
    /// Bytes allocated after the run less those before, in the folders that
    /// [`Limits::disk_growth`] is about; negative when the run freed some.
    pub disk_growth: i64,
    /// The sanitizer's report, where the program was built with one and it reported something.
    pub sanitizer: Option<Vec<u8>>,
    /// Canaries that the run touched: files by their path, listening sockets as
    /// `tcp:127.0.0.1:PORT` or by the path of the socket. Sorted, each once.
    pub touched: Vec<PathBuf>,
    /// Names (as `ps` shows them) of processes that were still running when the program had
    /// ended, and that were then killed.
    pub left_behind: Vec<String>,
    /// Blocks of the program that it reached and no earlier run of the same server did, in the
    /// order in which it did, where they are noted ([`ExecOptions::blocks`]).
    pub blocks: Vec<BlockId>,
}

impl Observation {
    /// The first line of the output of a program that succeeded, such as its version.
    pub fn first_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.stdout);
        let line = text.lines().next().map(str::to_owned);
        line.filter(|_| self.end == End::Exit(0))
    }

    /// The observation of a program that could not be started.
    pub fn not_started(why: String) -> Self {
        Self {
            end: End::NotStarted(why),
            crash: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            max_rss: 0,
            disk_growth: 0,
            sanitizer: None,
            touched: Vec::new(),
            left_behind: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// Whether the program ended as in another run, with the same outputs.
    fn is_like(&self, other: &Self) -> bool {
        let [one, other] = [self, other].map(|seen| (&seen.end, &seen.stdout, &seen.stderr));
        one == other
    }

    /// Whether the program did not run: it was not started, or exited with the status of a
    /// shell or a loader that finds no program or cannot execute it.
    pub fn cannot_run(&self) -> bool {
        matches!(self.end, End::Exit(126 | 127) | End::NotStarted(_))
    }
}

/// Runs one program, one request at a time.
///
/// An executor stays in the thread that made it: its processes end with that thread.
pub trait Executor {
    /// Runs the program once and waits until it and all its descendants have ended.
    fn run(&mut self, request: &Request) -> Observation {
        self.run_with(request, TimeoutHandler::default())
    }

    /// As [`run`](Executor::run), but a program that exceeds its time is inspected.
    fn run_with(&mut self, request: &Request, handler: TimeoutHandler<'_>) -> Observation;

    /// How programs are run: `fork server` or `spawn`.
    fn name(&self) -> &str;

    /// What the user should be told once: why there is no fork server, which part of the
    /// sandbox is not available, why blocks are not noted. Empty otherwise.
    fn notes(&self) -> &[String];

    /// The notes that were added since the last call.
    fn take_notes(&mut self) -> Vec<String>;

    /// What the sandbox consists of, for the log: `files by Landlock 7, own network`.
    fn sandbox(&self) -> &str;

    /// The canaries that images may name, so that a touch of one is a finding.
    fn canaries(&self) -> &Canaries;
}

/// What is done with a program that exceeds its time on the clock ([`Limits::wall`]); by
/// default it is killed.
#[derive(Default)]
pub struct TimeoutHandler<'a> {
    /// The time after which it is inspected once before its time is over.
    pub inspect_early: Option<Duration>,
    /// Whether the time does not count in which it was ready to run and had no processor, up
    /// to [`BUSY_FACTOR`] times its limit.
    pub excuse_starvation: bool,
    /// Called with the program's process id, early and when the program is about to be ended
    /// since its time is over. Whether it need not be waited for any longer: it is then ended
    /// as if its time were over. The time this takes is not the program's.
    pub inspect: Option<&'a mut dyn FnMut(i32) -> bool>,
}

/// How the [note](Executor::notes) begins that tells which part of the sandbox is not
/// available.
pub const GAP: &str = "the sandbox has a gap: ";

/// What a [note](Executor::notes) has in it that tells that blocks of a program are not noted.
pub const NOT_NOTED: &str = " are not noted: ";

/// How many times its limit a run may take at most whose starvation is excused.
pub const BUSY_FACTOR: u32 = 4;

/// Files and sockets outside the scratch folder that no command names: a program that touches
/// one was made to by the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Canaries {
    /// Files with recognisable contents, one raw and one qcow2 image.
    pub files: Vec<PathBuf>,
    /// A UNIX socket that listens.
    pub socket: Option<PathBuf>,
    /// A TCP port of `127.0.0.1` that listens.
    pub port: Option<u16>,
}

/// How long a process, as a [`TimeoutHandler`] is given one, has been ready to run without a
/// processor so far: the longest wait of its threads.
pub fn starved(pid: i32) -> Duration {
    watch::starved(pid)
}

/// Whether this machine has many times as many runnable threads as processors, as a mean of
/// the last minute: then a process that waits may wait for a processor.
pub fn machine_is_busy() -> bool {
    const TIMES: f64 = 4.0;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|load| load.parse().ok());
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    load.is_some_and(|load: f64| load > TIMES * processors as f64)
}

/// How an executor is set up.
#[derive(Debug, Clone)]
pub struct ExecOptions {
    /// The folder that the program may write in; its growth is measured. Executors of one thread
    /// may share it, and then have the same canaries; those of different threads may not.
    pub scratch: PathBuf,
    /// More files and folders that the program may read.
    pub readable: Vec<PathBuf>,
    /// More files and folders that the program may read and write.
    pub writable: Vec<PathBuf>,
    /// Variables added to the base environment, which is the same everywhere:
    /// `PATH`, `HOME` and `TMPDIR` (both the scratch folder), `LC_ALL=C`.
    pub env: Vec<(OsString, OsString)>,
    /// Whether a fork server is tried.
    pub fork_server: bool,
    /// How many requests with the same number of arguments are made before there is a fork
    /// server for that number that forks later, at the program's first call of getopt(3),
    /// where the program can be forked there. `None`: there is never one.
    pub late_fork: Option<u32>,
    /// Whether the program runs in a sandbox.
    pub sandbox: bool,
    /// Whether a program that was built with a sanitizer reports leaks.
    pub leaks: bool,
    /// When this becomes true, runs in progress are killed.
    pub stop: Option<Arc<AtomicBool>>,
    /// The blocks of programs, where those that runs reach are to be noted.
    pub blocks: Option<Arc<ProgramBlocks>>,
}

/// The default of [`ExecOptions::late_fork`]: starting such a server takes as long as it saves
/// in some 30 runs.
const LATE_FORK: u32 = 16;

impl ExecOptions {
    /// A fork server where one works, in a sandbox around `scratch`.
    pub fn new(scratch: impl Into<PathBuf>) -> Self {
        Self {
            scratch: scratch.into(),
            readable: Vec::new(),
            writable: Vec::new(),
            env: Vec::new(),
            fork_server: true,
            late_fork: Some(LATE_FORK),
            sandbox: true,
            leaks: false,
            stop: None,
            blocks: None,
        }
    }
}

/// Why no executor could be made. The system's error is in the text; as a source of this error
/// it would be printed twice.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The program does not exist, or cannot be executed.
    #[error("cannot run {}: {cause}", program.display())]
    Program {
        /// The program asked for.
        program: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// Something the executor itself needs failed.
    #[error("cannot {what}: {cause}")]
    Setup {
        /// What was being done.
        what: String,
        /// The system's error.
        cause: std::io::Error,
    },
}

impl ExecError {
    fn setup(what: &str, cause: std::io::Error) -> Self {
        Self::Setup {
            what: what.to_owned(),
            cause,
        }
    }

    fn setup_at(what: &str, path: &Path, cause: std::io::Error) -> Self {
        Self::setup(&format!("{what} {}", path.display()), cause)
    }
}

/// Makes an executor for a program: with a fork server inside it where that works and behaves
/// as a plain start, else one that executes the program each time and says so in its
/// [notes](Executor::notes).
///
/// `program` is a path, or a name to look for in `PATH`.
///
/// # Errors
///
/// The program does not exist, or the scratch folder or the canaries cannot be created.
pub fn for_program(program: &Path, options: &ExecOptions) -> Result<Box<dyn Executor>, ExecError> {
    let mut notes = Vec::new();
    if options.fork_server {
        match fork_server(Program::new(program, options)?) {
            Ok(forked) => return Ok(Box::new(forked)),
            Err(why) => {
                // Blocks are noted by the fork server.
                let rest = match options.blocks {
                    Some(_) => format!(", so its blocks{NOT_NOTED}"),
                    None => ": ".into(),
                };
                notes.push(format!(
                    "no fork server in {}{rest}{why}",
                    program.display()
                ));
            }
        }
    }
    let program = Program::new(program, options)?;
    Ok(Box::new(ServerExecutor::start(
        program,
        ServerKind::Spawn,
        notes,
    )?))
}

/// The library of the guarding allocator.
///
/// # Errors
///
/// It was not built along with this program.
pub fn guard_library() -> std::io::Result<PathBuf> {
    program::library(program::GUARD)
}

/// Why a program cannot run under the guarding allocator; `None` where it can.
///
/// # Errors
///
/// The program does not exist.
pub fn cannot_guard(program: &Path) -> Result<Option<String>, ExecError> {
    let path = program::locate(program)?;
    Ok(program::guard_of(&path).err())
}

/// Tries a fork server in a program, and compares its version message with a plain start.
fn fork_server(program: Program) -> Result<ServerExecutor, String> {
    if let Some(why) = program::not_preloadable(program.path()) {
        return Err(why.into());
    }
    let library = program::library(program::PRELOAD).map_err(|e| e.to_string())?;
    let request = program.version_request();
    let mut forked = ServerExecutor::start(
        program,
        ServerKind::Fork {
            library,
            guarded: false,
        },
        Vec::new(),
    )
    .map_err(|e| format!("it cannot be stopped before main ({e})"))?;
    let fork = forked.run(&request);
    let plain = forked
        .spawn_fallback()
        .map_err(|e| e.to_string())?
        .run(&request);
    if fork.is_like(&plain) {
        forked.unclaimed.extend(fork.blocks);
        Ok(forked)
    } else {
        Err("with --version it behaves differently from a plain start".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "No space left on device: No space left on device" was printed once.
    #[test]
    fn the_systems_error_is_printed_once() {
        let full = || std::io::Error::from_raw_os_error(libc::ENOSPC);
        let program = ExecError::Program {
            program: "x".into(),
            cause: full(),
        };
        for error in [ExecError::setup("make x", full()), program] {
            let said = format!("{:#}", anyhow::Error::from(error));
            assert_eq!(said.matches("No space left").count(), 1, "{said}");
        }
    }
}
