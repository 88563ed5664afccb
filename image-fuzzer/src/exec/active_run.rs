//! A run in progress: it is watched, and killed when it exceeds a limit.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runserver::wire::{Kind, Reply};

use super::canary::close_tcp_connections;
use super::program::Program;
use super::server::Server;
use super::{BUSY_FACTOR, End, Limit, Limits, TimeoutHandler, watch};

/// How often a run is checked against its limits. Most have ended before the first time.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How soon processes are looked for that were started while others were killed.
const RESCAN_INTERVAL: Duration = Duration::from_millis(5);

/// What processes may take to exit after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A run in progress.
pub(super) struct ActiveRun<'a> {
    pub(super) server: &'a mut Server,
    pub(super) program: &'a Program,
    /// Its standard output and error.
    pub(super) files: [&'a File; 2],
    pub(super) limits: &'a Limits,
    pub(super) cwd: &'a Path,
    /// Bytes allocated before it began.
    pub(super) before: u64,
    /// The canaries that it touched.
    pub(super) touched: BTreeSet<PathBuf>,
    /// Why it was killed, where we did it.
    pub(super) killed_for: Option<End>,
}

impl ActiveRun<'_> {
    /// Waits until the program has ended, and kills it when it goes over a limit.
    pub(super) fn until_ended(&mut self, mut handler: TimeoutHandler<'_>) -> io::Result<Reply> {
        let began = Instant::now();
        let mut deadline = began + self.limits.wall;
        let mut early = handler.inspect_early.map(|early| began + early);
        while !self.wait(deadline.min(Instant::now() + POLL_INTERVAL))? {
            let now = Instant::now();
            if handler.excuse_starvation && now >= deadline {
                let latest = began + self.limits.wall * BUSY_FACTOR;
                deadline = latest.min(began + self.limits.wall + self.starved()?);
            }
            self.killed_for = self.kill_cause(now >= deadline)?;
            if self.killed_for == Some(End::TimedOut) {
                self.inspect(&mut handler)?;
            } else if self.killed_for.is_none() && early.is_some_and(|early| now >= early) {
                early = None;
                if self.inspect(&mut handler)? {
                    self.killed_for = Some(End::TimedOut);
                }
                deadline += now.elapsed();
            }
            if self.killed_for.is_some() {
                self.kill()?;
                break;
            }
        }
        self.server.reply(Kind::Ended)
    }

    /// Why the program is to be killed now.
    fn kill_cause(&self, late: bool) -> io::Result<Option<End>> {
        if self.program.is_stopped() {
            return Ok(Some(End::Stopped));
        }
        if late {
            return Ok(Some(End::TimedOut));
        }
        Ok(self.over_limit()?.map(End::OverLimit))
    }

    /// Has the program inspected; whether it need not be waited for.
    fn inspect(&self, handler: &mut TimeoutHandler<'_>) -> io::Result<bool> {
        let Some(inspect) = &mut handler.inspect else {
            return Ok(false);
        };
        Ok(watch::first_below(self.server.pid())?.is_some_and(inspect))
    }

    /// How long the program was ready to run without a processor so far.
    fn starved(&self) -> io::Result<Duration> {
        let first = watch::first_below(self.server.pid())?;
        Ok(first.map_or(Duration::ZERO, watch::starved))
    }

    /// Kills the program with all its descendants, and waits until it has ended.
    fn kill(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + KILL_TIMEOUT;
        loop {
            // Again each time: a process that was just being started may have been missed.
            watch::kill_below(self.server.pid())?;
            if self.wait(Instant::now() + POLL_INTERVAL)? {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("the program did not exit after SIGKILL"));
            }
        }
    }

    /// Waits for a reply until a time; whether there is one. Connections to canaries are closed.
    fn wait(&mut self, until: Instant) -> io::Result<bool> {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = vec![PollFd::new(self.server.control_fd(), PollFlags::POLLIN)];
        let canaries = self.program.canaries().socket().into_iter();
        let canaries = canaries.chain(self.server.tcp().map(AsFd::as_fd));
        fds.extend(canaries.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut fds, timeout(left)) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let ready = fds.first().and_then(PollFd::any) == Some(true);
        if fds.iter().skip(1).any(|fd| fd.any() == Some(true)) {
            self.close_connections();
        }
        Ok(ready)
    }

    /// Closes connections to canaries, and notes them.
    pub(super) fn close_connections(&mut self) {
        self.program.canaries().close_connections(&mut self.touched);
        if let Some(tcp) = self.server.tcp() {
            close_tcp_connections(tcp, &mut self.touched);
        }
    }

    /// The limit that the run is over now.
    fn over_limit(&self) -> io::Result<Option<Limit>> {
        for file in self.files {
            if file.metadata()?.len() > self.limits.output as u64 {
                return Ok(Some(Limit::Output));
            }
        }
        let usage = watch::usage(self.server.pid())?;
        let growth = self.program.allocated(self.cwd).saturating_sub(self.before);
        Ok(if usage.memory > self.limits.memory {
            Some(Limit::Memory)
        } else if usage.processes > self.limits.processes {
            Some(Limit::Processes)
        } else if growth > self.limits.disk_growth {
            Some(Limit::DiskGrowth)
        } else {
            None
        })
    }

    /// Kills the processes that the program left behind, and gives their names.
    pub(super) fn sweep(&mut self) -> io::Result<Vec<String>> {
        let deadline = Instant::now() + KILL_TIMEOUT;
        let mut names = Vec::new();
        loop {
            let killed = watch::kill_below(self.server.pid())?;
            if names.is_empty() {
                names = killed;
            }
            // A process that was forked meanwhile is found in the next round.
            if self.wait(Instant::now() + RESCAN_INTERVAL)? {
                self.server.reply(Kind::Swept)?;
                // A run that we killed had no chance to end its children.
                let ours = self.killed_for.is_some();
                return Ok(if ours { Vec::new() } else { names });
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("a process did not exit after SIGKILL"));
            }
        }
    }
}

/// A timeout for poll(2), rounded up so that it never spins.
fn timeout(left: Duration) -> PollTimeout {
    PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
}
