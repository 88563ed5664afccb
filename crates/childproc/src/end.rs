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

/// How long processes that were sent SIGKILL may take to be gone. Only one that
/// hangs in the kernel, or belongs to another user, is still there after it.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);

/// How long new processes may turn up while they are being ended.
const STORM_ENDS_IN: Duration = Duration::from_secs(60);

/// The most children whose end is waited for at once; each takes a descriptor.
const WATCHED_AT_ONCE: usize = 128;

/// How often processes are looked for while they are being stopped. What cannot
/// be stopped (another user's) could go on for ever.
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

/// Makes this process adopt every orphan below it, for good. Children do not
/// inherit it.
///
/// # Errors
///
/// Fails if the kernel has no subreapers (before Linux 3.4).
pub fn become_subreaper() -> io::Result<()> {
    prctl::set_child_subreaper(true).map_err(Into::into)
}

/// Ends every process below this one, but for the trees that start at `spare`,
/// and takes notice of the end of each of its children. Gives those it had to
/// end, in the order they were found.
///
/// With [`become_subreaper`] in force this reaches daemons too: when it returns,
/// nothing that was started below lives on, but for processes that cannot be
/// ended (another user's, or one that hangs in the kernel for more than 5 s).
/// Without children it costs one system call.
///
/// Call it from one thread at a time; another thread that waits for children of
/// its own would find them gone.
pub fn end_all_children(how: How, spare: &[i32]) -> Vec<LeftBehind> {
    let mut ender = Ender::new(spare);
    ender.end(how, None);
    ender.ended
}

/// Why a wait for children returned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// No child is left.
    AllGone,
    /// Time is up.
    TimeOut,
    /// The descriptor watched beside the children has something to say.
    Asked,
}

/// Ends children and remembers whom, and how those that were waited for ended.
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

    /// Ends all children, as `how` says; at once as soon as `asked` has something
    /// to say.
    pub(crate) fn end(&mut self, how: How, asked: Option<BorrowedFd<'_>>) {
        if self.all_gone() {
            return;
        }
        if let How::Term(grace) = how {
            for process in self.alive() {
                self.note(&process);
                send(process.pid, Signal::SIGTERM);
                // One that is stopped would never see the signal.
                send(process.pid, Signal::SIGCONT);
            }
            if self.wait_all(Instant::now() + grace, asked) == Woken::AllGone {
                return;
            }
        }
        let last = Instant::now() + STORM_ENDS_IN;
        let mut deadline = Instant::now() + GIVE_UP_AFTER;
        while Instant::now() < deadline {
            if self.kill_all() {
                // New ones still turn up: that is no process that hangs.
                deadline = last.min(Instant::now() + GIVE_UP_AFTER);
            }
            // The end of one child is enough to look again: its own children
            // have become ours by then.
            if self.wait_some(deadline) == Woken::AllGone {
                return;
            }
        }
    }

    /// Sends SIGKILL to all there is. They are stopped first, again and again
    /// until no new one turns up: what forks faster than it is killed does not
    /// fork when it is stopped. Says whether it met a process for the first time.
    fn kill_all(&mut self) -> bool {
        let known = self.seen.len();
        let mut stopped = HashSet::new();
        for _ in 0..STOP_PASSES {
            let before = stopped.len();
            self.stop_below(Pid::this().as_raw(), &mut stopped);
            if stopped.len() == before {
                break;
            }
            // The dead of a storm would make each pass longer than the last.
            self.all_gone();
        }
        for pid in stopped {
            send(pid, Signal::SIGKILL);
        }
        self.seen.len() > known
    }

    /// Stops what is below `parent`. A process gets its signal at once when it
    /// is found, before its name is read: the next of a storm is started within
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

    /// Waits until no child is left, `deadline` has come, or `asked` has
    /// something to say.
    pub(crate) fn wait_all(&mut self, deadline: Instant, asked: Option<BorrowedFd<'_>>) -> Woken {
        loop {
            if self.all_gone() {
                return Woken::AllGone;
            }
            match self.wait_once(deadline, asked) {
                Some(woken) => return woken,
                None => continue,
            }
        }
    }

    /// Waits until a child ends.
    fn wait_some(&mut self, deadline: Instant) -> Woken {
        match self.wait_once(deadline, None) {
            Some(woken) => woken,
            None if self.all_gone() => Woken::AllGone,
            None => Woken::TimeOut,
        }
    }

    /// Waits for the end of any of the children there are now; `None` when one
    /// ended, or when there is none to watch.
    fn wait_once(&mut self, deadline: Instant, asked: Option<BorrowedFd<'_>>) -> Option<Woken> {
        let watched: Vec<OwnedFd> = self
            .children()
            .iter()
            .filter_map(|&pid| sys::pidfd_open(pid).ok())
            .take(WATCHED_AT_ONCE)
            .collect();
        let mut fds: Vec<PollFd<'_>> = asked
            .into_iter()
            .chain(watched.iter().map(AsFd::as_fd))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let mut left = deadline.saturating_duration_since(Instant::now());
        if watched.is_empty() {
            // They have just ended, or no descriptor is left to watch them by.
            left = left.min(Duration::from_millis(5));
        }
        match poll(&mut fds, timeout(left)) {
            Ok(0) if Instant::now() >= deadline => Some(Woken::TimeOut),
            Ok(_) if asked.is_some() && fds[0].any() == Some(true) => Some(Woken::Asked),
            _ => None,
        }
    }

    /// Takes notice of every child that has ended; whether none is left.
    pub(crate) fn all_gone(&mut self) -> bool {
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
        let mut gone = true;
        for pid in self.children() {
            match sys::try_wait(pid) {
                Waited::Ended(pid, status) => self.statuses.push((pid, status)),
                Waited::NoneYet => gone = false,
                Waited::NoChild => {}
            }
        }
        gone && self.children().is_empty()
    }

    /// Our direct children, ended ones included, less the spared.
    fn children(&self) -> Vec<i32> {
        let mut children = proc::children(Pid::this().as_raw());
        children.retain(|pid| !self.spare.contains(pid));
        children
    }

    /// What lives below us, less the spared. Where `/proc` cannot be read, nothing can
    /// be found: as good as nothing being there.
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

/// Sends a signal. That the process has just ended is no error, and one that
/// may not be signalled is given up on in the end.
fn send(pid: i32, signal: Signal) {
    let _: Result<(), Errno> = kill(Pid::from_raw(pid), signal);
}

/// A time to wait as poll(2) takes it, rounded up so that it never spins.
pub(crate) fn timeout(left: Duration) -> PollTimeout {
    let millis = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
