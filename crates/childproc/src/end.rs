//! Ending every process below this one.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::proc::{self, Process};
use crate::sys::{self, Status, Waited};

/// How long processes that were sent SIGKILL may take to end. Only one that hangs in
/// the kernel, or belongs to another user, still exists after it.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long new processes may appear while they are being ended.
const NEW_PROCESSES_LIMIT: Duration = Duration::from_secs(60);

/// The most children whose end is waited for at once; each takes a descriptor.
const WATCHED_AT_ONCE: usize = 128;

/// How often processes are looked for while they are being stopped. What cannot
/// be stopped (another user's) could appear without end.
const STOP_PASSES: u32 = 256;

/// How processes are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// SIGKILL at once.
    Kill,
    /// SIGTERM, and SIGKILL for what is still there after this time.
    Term(Duration),
}

/// A process that was still there and had to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// Its name (`/proc/PID/comm`).
    pub name: String,
    /// Its process id.
    pub pid: i32,
}

/// Makes this process adopt every orphan below it from now on. Children do not
/// inherit this.
///
/// # Errors
///
/// Fails if the kernel has no subreapers (before Linux 3.4).
pub fn become_subreaper() -> io::Result<()> {
    prctl::set_child_subreaper(true).map_err(Into::into)
}

/// Ends every process below this one, but for the trees that start at `spare`,
/// and reaps each of its children. Returns those it had to end, in the order in
/// which they were found.
///
/// With [`become_subreaper`] in force this reaches daemons too: when it returns,
/// nothing that was started below still runs, but for processes that cannot be
/// ended (another user's, or one that hangs in the kernel for more than 5 s).
/// Without children it costs one system call.
///
/// Call it from one thread at a time; another thread that waits for children of
/// its own would not find them.
pub fn end_all_children(how: How, spare: &[i32]) -> Vec<LeftBehind> {
    let mut ender = Ender::new(spare);
    ender.end(how, None);
    ender.ended
}

/// Why a wait for children returned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// No child is left.
    AllEnded,
    /// The deadline has passed.
    TimedOut,
    /// The descriptor watched beside the children is readable.
    Readable,
}

/// Ends children and records which, and how those that were reaped ended.
pub(crate) struct Ender<'a> {
    spare: &'a [i32],
    seen: HashSet<i32>,
    /// Those that had to be ended.
    pub(crate) ended: Vec<LeftBehind>,
    /// How children ended that were waited for.
    pub(crate) statuses: Vec<(i32, Status)>,
}

impl<'a> Ender<'a> {
    /// One that leaves the trees that start at `spare` alone.
    pub(crate) fn new(spare: &'a [i32]) -> Self {
        Self {
            spare,
            seen: HashSet::new(),
            ended: Vec::new(),
            statuses: Vec::new(),
        }
    }

    /// Ends all children, as `how` says; at once as soon as `commands` is
    /// readable.
    pub(crate) fn end(&mut self, how: How, commands: Option<BorrowedFd<'_>>) {
        if self.all_ended() {
            return;
        }
        if let How::Term(grace) = how {
            for process in self.alive() {
                self.note(&process);
                send(process.pid, Signal::SIGTERM);
                // One that is stopped would never see the signal.
                send(process.pid, Signal::SIGCONT);
            }
            if self.wait_all(Instant::now() + grace, commands) == Wake::AllEnded {
                return;
            }
        }
        let last = Instant::now() + NEW_PROCESSES_LIMIT;
        let mut deadline = Instant::now() + KILL_TIMEOUT;
        while Instant::now() < deadline {
            if self.kill_all() {
                // New ones still appear, so it is not one process that hangs.
                deadline = last.min(Instant::now() + KILL_TIMEOUT);
            }
            // The end of one child is enough to look again: its own children
            // have become ours by then.
            if self.wait_some(deadline) == Wake::AllEnded {
                return;
            }
        }
    }

    /// Sends SIGKILL to all there is. They are stopped first, again and again
    /// until no new one appears: what forks faster than it is killed does not
    /// fork when it is stopped. Returns whether it found a process for the first time.
    fn kill_all(&mut self) -> bool {
        let known = self.seen.len();
        let mut stopped = HashSet::new();
        for _ in 0..STOP_PASSES {
            let before = stopped.len();
            self.stop_below(Pid::this().as_raw(), &mut stopped);
            if stopped.len() == before {
                break;
            }
            // The ended ones of a fork bomb would make each pass longer than the last.
            self.all_ended();
        }
        for pid in stopped {
            send(pid, Signal::SIGKILL);
        }
        self.seen.len() > known
    }

    /// Stops what is below `parent`. A process gets its signal as soon as it
    /// is found, before its name is read: a fork bomb starts the next one within
    /// microseconds.
    fn stop_below(&mut self, parent: i32, stopped: &mut HashSet<i32>) {
        let mut parents = vec![parent];
        while let Some(parent) = parents.pop() {
            for child in proc::children(parent) {
                if self.spare.contains(&child) {
                    continue;
                }
                if stopped.insert(child) {
                    send(child, Signal::SIGSTOP);
                    if let Some(process) = proc::one(child).filter(|p| !p.has_ended()) {
                        self.note(&process);
                    }
                }
                parents.push(child);
            }
        }
    }

    /// Waits until no child is left, `deadline` has come, or `commands`
    /// is readable.
    pub(crate) fn wait_all(&mut self, deadline: Instant, commands: Option<BorrowedFd<'_>>) -> Wake {
        loop {
            if self.all_ended() {
                return Wake::AllEnded;
            }
            match self.wait_once(deadline, commands) {
                Some(woken) => return woken,
                None => continue,
            }
        }
    }

    /// Waits until a child ends.
    fn wait_some(&mut self, deadline: Instant) -> Wake {
        match self.wait_once(deadline, None) {
            Some(woken) => woken,
            None if self.all_ended() => Wake::AllEnded,
            None => Wake::TimedOut,
        }
    }

    /// Waits for the end of any of the children there are now; `None` when one
    /// ended, or when there is none to watch.
    fn wait_once(&mut self, deadline: Instant, commands: Option<BorrowedFd<'_>>) -> Option<Wake> {
        let watched: Vec<OwnedFd> = self
            .children()
            .iter()
            .filter_map(|&pid| sys::pidfd_open(pid).ok())
            .take(WATCHED_AT_ONCE)
            .collect();
        let mut fds: Vec<PollFd<'_>> = commands
            .into_iter()
            .chain(watched.iter().map(AsFd::as_fd))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let mut left = deadline.saturating_duration_since(Instant::now());
        if watched.is_empty() {
            // They have just ended, or no descriptor is left to watch them.
            left = left.min(Duration::from_millis(5));
        }
        match poll(&mut fds, timeout(left)) {
            Ok(0) if Instant::now() >= deadline => Some(Wake::TimedOut),
            Ok(_) if commands.is_some() && fds[0].any() == Some(true) => Some(Wake::Readable),
            _ => None,
        }
    }

    /// Reaps every child that has ended; returns whether none is left.
    pub(crate) fn all_ended(&mut self) -> bool {
        if self.spare.is_empty() {
            loop {
                match sys::try_wait(-1) {
                    Waited::Ended(pid, status) => self.statuses.push((pid, status)),
                    Waited::NoneYet => return false,
                    Waited::NoChild => return true,
                }
            }
        }
        // Children that are spared have a parent elsewhere in this program that
        // waits for them: their status is not ours to take.
        let mut ended = true;
        for pid in self.children() {
            match sys::try_wait(pid) {
                Waited::Ended(pid, status) => self.statuses.push((pid, status)),
                Waited::NoneYet => ended = false,
                Waited::NoChild => {}
            }
        }
        ended && self.children().is_empty()
    }

    /// Our direct children, ended ones included, less the spared.
    fn children(&self) -> Vec<i32> {
        let mut children = proc::children(Pid::this().as_raw());
        children.retain(|pid| !self.spare.contains(pid));
        children
    }

    /// What runs below us, less the spared. Where `/proc` cannot be read, nothing is
    /// found.
    pub(crate) fn alive(&self) -> Vec<Process> {
        let mut processes = proc::tree(Pid::this().as_raw(), self.spare).unwrap_or_default();
        processes.retain(|p| !p.has_ended());
        processes
    }

    fn note(&mut self, process: &Process) {
        if self.seen.insert(process.pid) {
            self.ended.push(LeftBehind {
                name: process.whole_name(),
                pid: process.pid,
            });
        }
    }
}

/// Sends a signal. A process that has just ended is no error; one that may not be
/// signalled is given up after the timeout.
fn send(pid: i32, signal: Signal) {
    let _: Result<(), Errno> = kill(Pid::from_raw(pid), signal);
}

/// A time to wait as poll(2) takes it, rounded up so that it never spins.
pub(crate) fn timeout(left: Duration) -> PollTimeout {
    let millis = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
