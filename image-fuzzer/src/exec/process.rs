//! A program that runs on while it is talked to: an emulator.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{SysconfVar, sysconf};

use super::launch::{Contained, contain};
use super::program::{GUARD, guard_env, library, own_paths};
use super::recorded::RecordedBlocks;
use super::sandbox::{AllowedPaths, Network, ruleset};
use super::{ExecError, Limits, sanitizer};
use crate::input::guard::Guard;
use crate::path::DEFAULT_PATH;

/// What a program is started with.
pub struct Start<'a> {
    /// Its file, as an absolute path.
    pub program: &'a Path,
    /// Its arguments, without its own name.
    pub args: &'a [String],
    /// The folder that it runs and writes in.
    pub scratch: &'a Path,
    /// More files and folders that it may read.
    pub readable: &'a [PathBuf],
    /// Whether it runs in a sandbox: files by Landlock, no TCP.
    pub sandbox: bool,
    /// The guarding allocator that it runs under.
    pub guard: Option<Guard>,
    /// Where the blocks are noted that it reaches.
    pub blocks: Option<&'a RecordedBlocks<'a>>,
}

/// A program that runs. It is killed when this is dropped, and when the thread that started it
/// ends.
pub struct Process {
    child: Child,
    stderr: PathBuf,
    deadline: Deadline,
}

/// Its standard output, which fails with [`ErrorKind::TimedOut`] when its [`Deadline`] is over.
pub struct Output {
    stdout: ChildStdout,
    deadline: Deadline,
}

/// How long a program may take to answer.
#[derive(Clone)]
pub struct Deadline {
    pid: i32,
    state: Arc<Mutex<Limited>>,
}

/// What a program may take from a moment on.
#[derive(Clone, Copy)]
struct Limited {
    since: Instant,
    limit: Duration,
    /// The CPU time that it had used at that moment.
    cpu: Duration,
}

/// How long a program may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How many times its limit a program may take that waits for a processor.
const BUSY_FACTOR: u32 = 4;

impl Process {
    /// Starts it, with pipes to its standard input and from its standard output.
    ///
    /// # Errors
    ///
    /// It cannot be started, or not in its sandbox.
    pub fn start(start: &Start<'_>) -> Result<(Self, ChildStdin, Output), ExecError> {
        let failed = |cause| ExecError::Program {
            program: start.program.to_owned(),
            cause,
        };
        let stderr = start.scratch.join("stderr");
        let file =
            File::create(&stderr).map_err(|cause| ExecError::setup_at("create", &stderr, cause))?;
        let mut command = Command::new(start.program);
        command
            .args(start.args)
            .env_clear()
            .envs(environment(start).map_err(failed)?)
            .current_dir(start.scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file);
        let inherited = start.blocks.map(RecordedBlocks::descriptors);
        let inherited = inherited.unwrap_or_default();
        let ruleset = match start.sandbox {
            true => ruleset(&allowed_paths(start), Network::NoTcp)
                .map_err(|why| failed(io::Error::other(why)))?,
            false => None,
        };
        contain(
            &mut command,
            Contained {
                ruleset,
                inherited: inherited.iter().map(AsRawFd::as_raw_fd).collect(),
                file_size: Limits::default().file_size,
            },
        );
        let mut child = command.spawn().map_err(failed)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(ErrorKind::BrokenPipe.into()));
        };
        let deadline = Deadline {
            pid: i32::try_from(child.id()).unwrap_or(i32::MAX),
            state: Arc::new(Mutex::new(Limited {
                since: Instant::now(),
                limit: START_LIMIT,
                cpu: Duration::ZERO,
            })),
        };
        let output = Output {
            stdout,
            deadline: deadline.clone(),
        };
        let process = Self {
            child,
            stderr,
            deadline,
        };
        Ok((process, stdin, output))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.deadline.pid
    }

    /// How long it may take to answer.
    #[must_use]
    pub fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// Waits until it has ended by itself: when its output is closed, it does at once.
    ///
    /// # Errors
    ///
    /// The system does not say how it ended.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it printed on its standard error, at most `bound` bytes from the end.
    #[must_use]
    pub fn stderr(&self, bound: usize) -> Vec<u8> {
        let mut text = fs::read(&self.stderr).unwrap_or_default();
        let excess = text.len().saturating_sub(bound);
        text.drain(..excess);
        text
    }

    /// How long its standard error is, in bytes.
    #[must_use]
    pub fn stderr_len(&self) -> u64 {
        fs::metadata(&self.stderr).map_or(0, |meta| meta.len())
    }

    /// Its resident memory, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap_or_default();
        let pages = text.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok());
        pages.unwrap_or(0) * system(SysconfVar::PAGE_SIZE, 4096)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Deadline {
    /// It may take so long from now on. Where it has to wait for a processor it may take up to
    /// four times as long, as long as it uses no more than `limit` of CPU time.
    pub fn set(&self, limit: Duration) {
        *self.limited() = Limited {
            since: Instant::now(),
            limit,
            cpu: cpu(self.pid),
        };
    }

    fn limited(&self) -> MutexGuard<'_, Limited> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait before it is looked at again; `None` where its time is over.
    fn left(&self) -> Option<Duration> {
        const LOOK_AGAIN: Duration = Duration::from_millis(200);
        let Limited {
            since,
            limit,
            cpu: before,
        } = *self.limited();
        let passed = since.elapsed();
        if let Some(left) = limit.checked_sub(passed).filter(|left| !left.is_zero()) {
            return Some(left);
        }
        let used = cpu(self.pid).saturating_sub(before);
        (used < limit && passed < limit * BUSY_FACTOR).then_some(LOOK_AGAIN)
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(left) = self.deadline.left() else {
                return Err(ErrorKind::TimedOut.into());
            };
            let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, wait) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return self.stdout.read(buffer),
                Err(why) => return Err(why.into()),
            }
        }
    }
}

/// The CPU time that a process has used; nothing where it has ended.
fn cpu(pid: i32) -> Duration {
    // The times are the 14th and the 15th word of proc_pid_stat(5), counted from behind the name,
    // which may have blanks.
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let words = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let times = words.split_ascii_whitespace().skip(11).take(2);
    let ticks: u64 = times.filter_map(|it| it.parse::<u64>().ok()).sum();
    let per_second = system(SysconfVar::CLK_TCK, 100);
    Duration::from_millis(ticks.saturating_mul(1000) / per_second.max(1))
}

/// A constant of the system.
fn system(what: SysconfVar, default: u64) -> u64 {
    let found = sysconf(what).ok().flatten();
    found
        .and_then(|it| u64::try_from(it).ok())
        .unwrap_or(default)
}

/// The environment: the same everywhere, and what loads the libraries that are asked for.
fn environment(start: &Start<'_>) -> io::Result<Vec<(OsString, OsString)>> {
    let scratch = || start.scratch.as_os_str().to_owned();
    let mut env: Vec<(OsString, OsString)> = vec![
        ("PATH".into(), DEFAULT_PATH.into()),
        ("HOME".into(), scratch()),
        ("TMPDIR".into(), scratch()),
        ("LC_ALL".into(), "C".into()),
    ];
    let mut preloaded = Vec::new();
    if let Some(blocks) = start.blocks {
        let (name, value) = blocks.variable();
        env.push((name.into(), value.into()));
        preloaded.push(blocks.program().library().to_owned());
    }
    if let Some(guard) = start.guard {
        let library = library(GUARD)?;
        let variables = guard.variables();
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let [_, allocator] = guard_env(&library);
        env.extend(variables.into_iter().chain([allocator]));
        preloaded.push(library);
    }
    if !preloaded.is_empty() {
        let joined = std::env::join_paths(preloaded).map_err(io::Error::other)?;
        env.push(("LD_PRELOAD".into(), joined));
    }
    for (name, value) in sanitizer::options(start.program, false)? {
        env.push((name.into(), value.into()));
    }
    Ok(env)
}

fn allowed_paths(start: &Start<'_>) -> AllowedPaths {
    let mut read = start.readable.to_vec();
    read.extend(own_paths(start.program));
    read.extend(start.blocks.map(|it| it.program().library().to_owned()));
    read.extend(start.guard.and_then(|_| library(GUARD).ok()));
    AllowedPaths {
        read,
        write: vec![start.scratch.to_owned()],
    }
}

/// What a program prints for a question, such as `-device help`.
///
/// # Errors
///
/// It cannot be run, or fails; its standard error is then in the error.
pub fn ask(program: &Path, args: &[&str]) -> io::Result<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().next().unwrap_or("it printed nothing");
        return Err(io::Error::other(format!("{}: {first}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
