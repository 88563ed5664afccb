//! The process above one program: starts it, adopts its orphans, and ends what
//! is left of it.
//!
//! It talks to the caller over its control socket: events out, the command to
//! end everything in. The end of file there means that the caller has ended:
//! then everything is ended.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signalfd::{SfdFlags, SigSet, SignalFd};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::time::TimeVal;
use nix::unistd::{Pid, getpgid, setsid, tcsetpgrp};

use crate::end::{Ender, How, LeftBehind, Wake, become_subreaper};
use crate::exec::{self, Stdio, receive_with_fds};
use crate::mounts::{newest_below, unmount_below};
use crate::proc::Process;
use crate::spec::{Done, Event, Order, read_end, read_order, write_ready};
use crate::sys::Status;

/// Runs the program of `order`, and then those of the orders that follow on the
/// control socket: a new process for each would cost more than all the rest. `caller` is the caller's process id. Every signal is blocked already.
pub(crate) fn supervise(order: Order, stdio: Stdio, control: &OwnedFd, caller: i32) {
    let _ = prctl::set_name(c"supervisor");
    send_message(control, &write_ready(Pid::this().as_raw()));
    if !order.terminal {
        // It only keeps signals of a terminal away.
        let _ = setsid();
    }
    let children = become_subreaper()
        .map_err(|e| format!("failed to adopt orphans: {e}"))
        .and_then(|()| {
            let signals = SigSet::from(nix::sys::signal::Signal::SIGCHLD);
            SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
                .map_err(|e| format!("failed to watch for children: {e}"))
        });
    let children = match children {
        Ok(children) => children,
        Err(why) => return send_event(control, &Event::NotStarted(why)),
    };
    let mut next = Some((order, stdio));
    while let Some((order, stdio)) = next {
        let last = run_one(&order, stdio, control, &children, caller);
        if !last.leaves_room(order.terminal) {
            break;
        }
        next = next_order(control);
    }
}

/// Runs one program from start to end; returns its last event.
fn run_one(
    order: &Order,
    stdio: Stdio,
    control: &OwnedFd,
    children: &SignalFd,
    caller: i32,
) -> Event {
    let cpu_before = children_cpu();
    let started = Instant::now();
    let program = exec::start(order, &stdio);
    // From here on the program alone holds its output open.
    let terminal = order.terminal.then_some(stdio.stdin).flatten();
    drop((stdio.stdout, stdio.stderr));
    let last = match program {
        Ok(program) => {
            let supervisor = Pid::this().as_raw();
            let pid = program;
            send_event(control, &Event::Started { pid, supervisor });
            let supervision = Supervision {
                order,
                control,
                program,
                started,
                exited: None,
                exit_sent: false,
                ender: Ender::new(&[]),
            };
            let mut done = supervision.run(children, || give_back(terminal, caller));
            done.cpu = done.cpu.saturating_sub(cpu_before);
            Event::Done(done)
        }
        Err(why) => Event::NotStarted(why),
    };
    send_event(control, &last);
    last
}

/// Waits for the next order; `None` where there will be none.
fn next_order(control: &OwnedFd) -> Option<(Order, Stdio)> {
    loop {
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
        let len = recv(control.as_raw_fd(), &mut [], peek).ok()?;
        if len == 0 {
            return None;
        }
        let mut message = vec![0; len];
        let fds = receive_with_fds(control.as_raw_fd(), &mut message, MsgFlags::empty())?.1;
        // A command to end a program that has just exited is ignored.
        if let Some(order) = read_order(&message)
            && let Some(stdio) = Stdio::from_received(&order, fds)
        {
            return Some((order, stdio));
        }
    }
}

/// Makes the caller's process group the terminal's foreground again.
fn give_back(terminal: Option<OwnedFd>, caller: i32) {
    if let Some(terminal) = terminal
        && let Ok(group) = getpgid(Some(Pid::from_raw(caller)))
    {
        let _ = tcsetpgrp(&terminal, group);
    }
}

/// Sends an event.
pub(crate) fn send_event(control: &OwnedFd, event: &Event) {
    send_message(control, &event.write());
}

/// Sends a message. Where that fails, the caller has ended.
fn send_message(control: &OwnedFd, message: &[u8]) {
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let _ = send(control.as_raw_fd(), message, flags);
}

/// A program while it runs.
struct Supervision<'a> {
    order: &'a Order,
    control: &'a OwnedFd,
    program: i32,
    started: Instant,
    /// How and after what time the program itself has ended.
    exited: Option<(Status, Duration)>,
    /// Whether `Exited` was sent.
    exit_sent: bool,
    ender: Ender<'a>,
}

impl Supervision<'_> {
    /// Waits for the program and ends what is left of it.
    fn run(mut self, children: &SignalFd, after_exit: impl FnOnce()) -> Done {
        let command = self.wait_for_program(children);
        after_exit();
        let mut mounts = newest_below(&self.order.mounts_below);
        if let Some(how) = command {
            self.end(how);
        } else if !self.ender.all_ended() {
            self.send_exit();
            let settled = Instant::now() + self.order.settle;
            let how = match self.ender.wait_all(settled, Some(self.control.as_fd())) {
                Wake::AllEnded => None,
                Wake::TimedOut => Some(self.order.ending),
                Wake::Readable => Some(receive(self.control.as_fd())),
            };
            if let Some(how) = how {
                self.end(how);
            }
        }
        self.note_exit();
        // Only who was still there could have mounted something since.
        if !mounts.is_empty() || !self.ender.ended.is_empty() {
            for mount in unmount_below(&self.order.mounts_below) {
                if !mounts.contains(&mount) {
                    mounts.push(mount);
                }
            }
        }
        // A process may have waited for a file system that is unmounted now.
        if !self.ender.all_ended() {
            self.end(How::Kill);
        }
        self.done(mounts)
    }

    /// Waits until the program has ended; before that only where it is to be
    /// ended, and then how.
    fn wait_for_program(&mut self, children: &SignalFd) -> Option<How> {
        loop {
            // Orphans are reaped as they end: a test may wait for its daemon to
            // be gone.
            self.ender.all_ended();
            self.note_exit();
            if self.exited.is_some() {
                return None;
            }
            let mut fds = [
                PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
                PollFd::new(children.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) if fds[0].any() == Some(true) => return Some(receive(self.control.as_fd())),
                Ok(_) => while let Ok(Some(_)) = children.read_signal() {},
                Err(Errno::EINTR) => {}
                Err(_) => return Some(How::Kill),
            }
        }
    }

    fn end(&mut self, how: How) {
        self.send_exit();
        self.ender.end(how, Some(self.control.as_fd()));
        self.note_exit();
    }

    /// Records how the program has ended; drops how others did.
    fn note_exit(&mut self) {
        for (pid, status) in self.ender.statuses.drain(..) {
            if pid == self.program && self.exited.is_none() {
                self.exited = Some((status, self.started.elapsed()));
            }
        }
    }

    /// Sends `Exited`, once. Where `Done` follows at once both are sent together, so
    /// that the caller wakes up once.
    fn send_exit(&mut self) {
        if let Some((status, wall)) = self.exited
            && !self.exit_sent
        {
            self.exit_sent = true;
            send_event(self.control, &Event::Exited { status, wall });
        }
    }

    fn done(mut self, mounts: Vec<PathBuf>) -> Done {
        // Only a program that hangs in the kernel has not ended yet.
        let hangs = Status::Signaled {
            signal: libc::SIGKILL,
            core: false,
        };
        self.exited.get_or_insert((hangs, self.started.elapsed()));
        self.send_exit();
        // Reading /proc costs more than all the rest; as a rule there is
        // no child left, which the kernel reports at once.
        let alive = if self.ender.all_ended() {
            Vec::new()
        } else {
            let left = |p: Process| LeftBehind {
                name: p.whole_name(),
                pid: p.pid,
            };
            self.ender.alive().into_iter().map(left).collect()
        };
        let mut left_behind = self.ender.ended;
        left_behind.retain(|left| left.pid != self.program);
        Done {
            cpu: children_cpu(),
            left_count: left_behind.len(),
            left_behind,
            mounts,
            alive,
        }
    }
}

/// Reads the command on the control socket.
fn receive(control: BorrowedFd<'_>) -> How {
    let mut message = [0; 64];
    let len = recv(control.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT);
    read_end(len.ok().and_then(|len| message.get(..len)).unwrap_or(&[]))
}

/// CPU time of every child that was reaped, and of theirs.
fn children_cpu() -> Duration {
    let time = |t: TimeVal| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        Duration::from_secs(seconds) + Duration::from_micros(t.tv_usec().try_into().unwrap_or(0))
    };
    getrusage(UsageWho::RUSAGE_CHILDREN)
        .map(|usage| time(usage.user_time()) + time(usage.system_time()))
        .unwrap_or_default()
}
