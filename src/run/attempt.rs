//! One try of one job: its directories, its process, its bounds, and the facts
//! of how it went.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use childproc::{Child, Event, How, Keeper, Resource, Spec, Status, Streams};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::bounds::{Bounds, Due};
use super::cores::Cores;
use super::debugger::Starts;
use super::dirs::Names;
use super::looks::Looks;
use super::progress::Progress;
use super::scratch::{Claim, Spares};
use super::stacks::Stacks;
use super::stop::{Stop, Urgency};
use super::{RunHost, Settings, sanitizers, scratch};
use crate::model::{Ended, Exit, Finished, Job, LeftBehind, Limit, Outcome, Start};

/// How long a test that is stopped may clean up.
const GRACE: Duration = Duration::from_secs(1);

/// How long after it was told to end everything a supervisor must be done; one
/// that is not was stopped by the test.
const SUPERVISOR_TAKES: Duration = Duration::from_secs(30);

/// The most that is read of `NAME.notrun` and `NAME.casenotrun`, in bytes.
const REASON_BYTES: u64 = 64 << 10;

/// What all jobs of a run share.
pub(super) struct Shared<'a> {
    pub(super) keeper: &'a Keeper,
    pub(super) settings: &'a Settings,
    pub(super) host: &'a dyn RunHost,
    pub(super) names: &'a Names,
    pub(super) stop: &'a Stop,
    pub(super) cores: &'a Cores,
    pub(super) spares: &'a Spares,
    /// Held while the host completes the result of a job.
    pub(super) settling: Mutex<()>,
}

impl Shared<'_> {
    /// Lets the host complete the result of a job, one at a time.
    pub(super) fn settle(&self, finished: &mut Finished) {
        let _one = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        self.host.finished(finished);
    }
}

/// A try's directories.
#[derive(Debug)]
pub(super) struct Dirs {
    /// Its `TEST_DIR`.
    pub(super) scratch: PathBuf,
    /// Its `SOCK_DIR`.
    pub(super) sockets: PathBuf,
}

/// What one try gave.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) outcome: Outcome,
    /// Messages to show with it.
    pub(super) notes: Vec<String>,
    pub(super) dirs: Dirs,
    /// Keeps other runs out of the directories.
    _claims: Vec<Claim>,
}

/// How long a job waits at most for another run that uses its directories, where tests
/// have no time-out of their own.
const OTHER_RUN_TAKES: Duration = Duration::from_secs(600);

/// Runs `job` once and cleans up its processes and mounts, not its files.
/// `attempt` counts tries from 0; `tell` is told how it goes.
pub(super) fn run_once(
    shared: &Shared<'_>,
    job: &Job,
    attempt: u32,
    tell: &dyn Fn(Progress),
) -> Tried {
    let name = shared.names.of(job, attempt);
    let mut dirs = Dirs {
        scratch: shared.settings.test_dir.join(&name),
        sockets: shared.settings.sock_dir.join(&name),
    };
    let start = SystemTime::now();
    let began = Instant::now();
    let mut watch = Watch::new(shared, job, tell, &dirs);
    let mut claims = Vec::new();
    let claimed = claim(shared, &dirs, &mut claims);
    let waited = began.elapsed();
    if waited > Duration::from_secs(1) {
        let waited = waited.as_secs_f64();
        let note = format!("waited {waited:.1} s for another run that uses the same TEST_DIR");
        watch.notes.push(note);
    }
    if matches!(&claimed, Err(e) if e.kind() == io::ErrorKind::Interrupted) {
        watch.outcome.ended = Some(Ended::Interrupted);
    }
    let prepared = claimed.and_then(|()| prepare(shared, job, &mut dirs));
    let result = prepared.and_then(|(spec, output, starts)| {
        watch.outcome.scratch.clone_from(&dirs.scratch);
        watch.outcome.output = dirs.scratch.join(format!("{}.out.bad", job.test.name));
        watch.looks = Looks::new(shared.settings, starts, File::open(&watch.outcome.output)?);
        watch.run(&spec, &output)
    });
    if let Err(e) = result {
        watch.outcome.exit = Exit::NotStarted(e.to_string());
        watch.outcome.wall = began.elapsed();
    }
    let Watch {
        mut outcome, notes, ..
    } = watch;
    outcome.start = start;
    collect(shared, job, &mut outcome);
    Tried {
        outcome,
        notes,
        dirs,
        _claims: claims,
    }
}

/// Keeps other runs out of the directories of a try.
fn claim(shared: &Shared<'_>, dirs: &Dirs, claims: &mut Vec<Claim>) -> io::Result<()> {
    let most = shared.settings.timeout.unwrap_or(OTHER_RUN_TAKES);
    let stopped = || shared.stop.urgency() > Urgency::None;
    shared.spares.put_at(&dirs.scratch);
    claims.push(Claim::new(&dirs.scratch, most, &stopped)?);
    // Both may be the same directory.
    if dirs.sockets != dirs.scratch {
        shared.spares.put_at(&dirs.sockets);
        claims.push(Claim::new(&dirs.sockets, most, &stopped)?);
    }
    Ok(())
}

/// Makes the directories and the output file, and says what is to be started, and how its
/// programs are started where one is debugged.
fn prepare(
    shared: &Shared<'_>,
    job: &Job,
    dirs: &mut Dirs,
) -> io::Result<(Spec, File, Option<Starts>)> {
    dirs.scratch = scratch::fresh(&dirs.scratch)?;
    dirs.sockets = scratch::fresh(&dirs.sockets)?;
    let test = &job.test;
    let output = dirs.scratch.join(format!("{}.out.bad", test.name));
    shared.spares.put_file_at(&output);
    let output = File::options().create(true).append(true).open(output)?;
    let link = shared.settings.test_dir_link.as_deref();
    let given = link
        .zip(dirs.scratch.file_name())
        .map(|(link, name)| link.join(name));
    let given = given.as_deref().unwrap_or(&dirs.scratch);
    let mut env = shared.host.environment(job, given, &dirs.sockets);
    sanitizers::extend(&mut env, given, &test.name);
    let debugged = shared.settings.debugged.as_ref();
    let starts = debugged.map(|d| Starts::new(d, &mut env)).transpose()?;
    let (program, args) = command(shared.settings, &test.start);
    let mut spec = Spec::new(program, env, test.cwd.clone());
    spec.args = args;
    spec.limits = vec![childproc::Limit {
        resource: Resource::RLIMIT_CORE,
        soft: None,
        hard: false,
    }];
    spec.mounts_below = vec![dirs.scratch.clone(), dirs.sockets.clone()];
    spec.ending = How::Term(GRACE);
    spec.terminal = shared.settings.debugger.is_some();
    Ok((spec, output, starts))
}

/// The program and arguments that start a test.
fn command(settings: &Settings, start: &Start) -> (OsString, Vec<OsString>) {
    let mut words: Vec<OsString> = settings.debugger.iter().flatten().cloned().collect();
    match start {
        Start::Exec(file) => words.push(file.into()),
        Start::Python(file) => words.extend([settings.python.clone().into(), file.into()]),
        Start::Call(program, args) => {
            words.push(program.into());
            words.extend_from_slice(args);
        }
    }
    words.extend_from_slice(&settings.test_args);
    let program = words.remove(0);
    (program, words)
}

/// A test while it runs.
struct Watch<'a> {
    shared: &'a Shared<'a>,
    job: &'a Job,
    tell: &'a dyn Fn(Progress),
    looks: Looks,
    bounds: Bounds,
    outcome: Outcome,
    notes: Vec<String>,
    /// How urgent the stop was that it was last told of.
    told: Urgency,
    /// When its supervisor must be done at the latest.
    must_be_done: Option<Instant>,
    exited: bool,
}

impl<'a> Watch<'a> {
    fn new(shared: &'a Shared<'a>, job: &'a Job, tell: &'a dyn Fn(Progress), dirs: &Dirs) -> Self {
        let settings = shared.settings;
        let outcome = Outcome {
            exit: Exit::NotStarted("the run ended".into()),
            ended: None,
            output: dirs.scratch.join(format!("{}.out.bad", job.test.name)),
            notrun: None,
            casenotrun: None,
            sanitizer_logs: Vec::new(),
            left_behind: Vec::new(),
            left_mounts: Vec::new(),
            cores: Vec::new(),
            stacks: None,
            scratch: dirs.scratch.clone(),
            start: SystemTime::now(),
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
        };
        Self {
            shared,
            job,
            tell,
            looks: Looks::default(),
            bounds: Bounds::new(settings, job.test.timeout),
            outcome,
            notes: Vec::new(),
            told: Urgency::None,
            must_be_done: None,
            exited: false,
        }
    }

    /// Starts the test and follows it to its end.
    fn run(&mut self, spec: &Spec, output: &File) -> io::Result<()> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let streams = if self.shared.settings.debugger.is_some() {
            Streams {
                stdin: Some(stdin.as_fd()),
                stdout: stdout.as_fd(),
                stderr: stderr.as_fd(),
            }
        } else {
            Streams {
                stdin: None,
                stdout: output.as_fd(),
                stderr: output.as_fd(),
            }
        };
        let mut child = self.shared.keeper.spawn(spec, streams)?;
        self.bounds.start();
        loop {
            self.heed_stop(&child);
            if wait(&child, self.next_deadline(), self.stop_fd())? {
                // Readable input need not be an event.
                if let Some(event) = child.wait_event(Some(Instant::now()))? {
                    let last = event.is_last();
                    self.event(event);
                    if last {
                        break;
                    }
                }
            }
            self.check_bounds(&child, output)?;
            let (keeper, stop) = (self.shared.keeper, self.shared.stop);
            let note = self.looks.look(keeper, stop, &child, self.tell)?;
            self.notes.extend(note);
        }
        let note = self.looks.finish(self.tell)?;
        self.notes.extend(note);
        // Too much output from a test that exited before it was noticed counts as well.
        let len = output.metadata()?.len();
        if self.bounds.is_flood(len) {
            let limit = Limit::Output(self.shared.settings.output_limit);
            self.outcome.ended.get_or_insert(Ended::Limit(limit));
            output.set_len(self.shared.settings.output_limit)?;
        }
        Ok(())
    }

    /// When something has to be looked at again.
    fn next_deadline(&self) -> Option<Instant> {
        let bounds = if self.outcome.ended.is_some() || self.exited {
            None
        } else {
            self.bounds.next()
        };
        let all = [bounds, self.must_be_done, self.looks.next()];
        all.into_iter().flatten().min()
    }

    fn stop_fd(&self) -> Option<BorrowedFd<'a>> {
        self.shared.stop.more_than(self.told)
    }

    /// Passes on that the run is to stop.
    fn heed_stop(&mut self, child: &Child) {
        let urgency = self.shared.stop.urgency();
        if urgency <= self.told {
            return;
        }
        self.told = urgency;
        if !self.exited {
            self.outcome.ended.get_or_insert(Ended::Interrupted);
        }
        let how = match urgency {
            Urgency::Now => How::Kill,
            _ => How::Term(GRACE),
        };
        self.end(child, how);
    }

    fn end(&mut self, child: &Child, how: How) {
        // Where this fails the supervisor is gone, and the next wait says so.
        let _ = child.end(how);
        self.must_be_done = Some(Instant::now() + SUPERVISOR_TAKES);
    }

    /// Records a supervisor's message.
    fn event(&mut self, event: Event) {
        match event {
            Event::Started { .. } => {}
            Event::NotStarted(why) => {
                let why = format!("{why}{}", advice(&self.job.test.start));
                self.outcome.exit = Exit::NotStarted(why);
            }
            Event::Exited { status, wall } => {
                self.exited = true;
                self.outcome.wall = wall;
                self.outcome.exit = match status {
                    Status::Exited(status) => Exit::Status(status),
                    Status::Signaled { signal, .. } => Exit::Signal(signal),
                };
            }
            Event::Lost { signal } => {
                self.outcome.wall = self.bounds.running();
                self.outcome.exit = Exit::Signal(signal);
                let note = "the test killed its supervisor; all of its processes were killed";
                self.notes.push(note.to_owned());
            }
            Event::Done(done) => {
                self.outcome.cpu = done.cpu;
                self.outcome.left_mounts = done.mounts;
                let left = |l: childproc::LeftBehind| LeftBehind {
                    name: l.name,
                    pid: l.pid,
                };
                // The processes of a test that we killed are not left behind: they were at
                // work.
                if self.outcome.ended.is_none() {
                    let more = done.left_count.saturating_sub(done.left_behind.len());
                    if more > 0 {
                        self.notes
                            .push(format!("processes left behind and not named: {more}"));
                    }
                    self.outcome.left_behind = done.left_behind.into_iter().map(left).collect();
                }
                for process in done.alive {
                    self.notes.push(format!(
                        "cannot kill {} {}: kill it manually",
                        process.name, process.pid
                    ));
                }
            }
        }
    }

    /// Kills the test if it exceeds a bound, and reports a slow one.
    fn check_bounds(&mut self, child: &Child, output: &File) -> io::Result<()> {
        if self.must_be_done.is_some_and(|at| Instant::now() >= at) {
            self.must_be_done = None;
            child.end_supervisor();
        }
        if self.outcome.ended.is_some() || self.exited {
            return Ok(());
        }
        let ended = match self.bounds.due(output, &self.outcome.scratch)? {
            None => return Ok(()),
            Some(Due::Slow(running)) => {
                (self.tell)(Progress::Slow(running));
                return Ok(());
            }
            Some(Due::Over(ended)) => ended,
        };
        let how = if let Ended::TimeOut(_) = ended {
            self.take_stacks(child);
            How::Term(GRACE)
        } else {
            How::Kill
        };
        self.outcome.ended = Some(ended);
        self.end(child, how);
        Ok(())
    }

    /// Records the stacks of all processes of the test.
    fn take_stacks(&mut self, child: &Child) {
        let stacks = Stacks {
            keeper: self.shared.keeper,
            output: &self.outcome.output,
            file: &self
                .outcome
                .scratch
                .join(format!("{}.stacks", self.job.test.name)),
        };
        match stacks.take(&child.pids()) {
            Ok(()) => self.outcome.stacks = Some(stacks.file.to_owned()),
            Err(e) => self.notes.push(format!("cannot record stacks: {e}")),
        }
    }
}

/// What to do about a file that cannot be started, where that can be seen.
fn advice(start: &Start) -> String {
    let Start::Exec(file) = start else {
        return String::new();
    };
    let Ok(meta) = fs::metadata(file) else {
        return String::new();
    };
    if meta.permissions().mode() & 0o111 == 0 {
        return format!("; make it executable: chmod +x {}", file.display());
    }
    // No more of a first line than the kernel looks at.
    let mut head = Vec::new();
    let read = File::open(file).and_then(|f| f.take(256).read_to_end(&mut head));
    match head.strip_prefix(b"#!") {
        Some(line) => missing_interpreter(line),
        None if read.is_ok() && head.starts_with(b"\x7fELF") => String::new(),
        None => "; its first line must name its interpreter, such as #!/bin/sh".to_owned(),
    }
}

/// What to do where the interpreter that `line` names is not there: the kernel
/// then says of the script that it does not exist.
fn missing_interpreter(line: &[u8]) -> String {
    let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
    // The kernel's blanks: a carriage return belongs to the name.
    let words = line.split(|b| matches!(b, b' ' | b'\t'));
    let name = words
        .into_iter()
        .find(|w| !w.is_empty())
        .unwrap_or_default();
    let interpreter = Path::new(OsStr::from_bytes(name));
    if interpreter.exists() {
        return String::new();
    }
    // A carriage return would move the cursor.
    let shown = name.escape_ascii();
    format!("; its interpreter {shown} is missing; change its first line or install it")
}

/// Waits until `child` has something to say, the run is to stop, or `deadline`
/// has come; whether the child has.
fn wait(
    child: &Child,
    deadline: Option<Instant>,
    stop: Option<BorrowedFd<'_>>,
) -> io::Result<bool> {
    let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
    let timeout = left.map_or(PollTimeout::NONE, |left| {
        let millis = left.as_nanos().div_ceil(1_000_000);
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
    });
    let mut fds: Vec<PollFd<'_>> = [child.as_fd()]
        .into_iter()
        .chain(stop)
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    match poll(&mut fds, timeout) {
        Ok(_) => Ok(fds[0].any() == Some(true)),
        Err(Errno::EINTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Records the files that the test has left in its directory.
fn collect(shared: &Shared<'_>, job: &Job, outcome: &mut Outcome) {
    let name = &job.test.name;
    let read = |ending: &str| {
        let path = outcome.scratch.join(format!("{name}.{ending}"));
        read_bounded(&path, REASON_BYTES).ok()
    };
    outcome.notrun = read("notrun");
    outcome.casenotrun = read("casenotrun");
    outcome.sanitizer_logs = sanitizers::logs(&outcome.scratch, name);
    outcome.cores = shared
        .cores
        .collect(&outcome.scratch, &job.test.cwd, name, outcome.start);
}

/// Reads a file, but no more than `most` bytes of it.
///
/// # Errors
///
/// It is not there, or cannot be read.
pub(super) fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let room = fs::metadata(path)?.len().min(most);
    let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
