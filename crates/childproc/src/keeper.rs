//! The keeper: a process that starts a supervisor for each program, and ends
//! everything when its caller has ended.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SigSet, SignalFd};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use nix::unistd::{Pid, setpgid};

use crate::child::Child;
use crate::end::{Ender, How, Wake, become_subreaper};
use crate::exec::{Stdio, close_all_but, close_in_child, fork_into, null_stdio, receive_with_fds};
use crate::idle::Idle;
use crate::mounts::{newest_below, unmount_below};
use crate::spec::{Done, Event, Order, Spec, read_order, write_order};
use crate::supervisor::{send_event, supervise};
use crate::sys::{self, Status, Waited};

/// How long supervisors have to clean up when the caller has ended.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts and supervises programs from a process of its own.
///
/// Start it first thing in `main`: it is a copy of the process as it is then, so
/// the smaller that is, the cheaper every start of a program is. Dropping it
/// ends everything that was started through it.
#[derive(Debug)]
pub struct Keeper {
    /// Requests are sent over it; its end of file ends the keeper.
    socket: Option<Mutex<UnixStream>>,
    pid: i32,
    idle: Arc<Idle>,
}

/// What a program finds as its standard streams.
#[derive(Debug, Clone, Copy)]
pub struct Streams<'a> {
    /// `None` is `/dev/null`.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Where its output goes.
    pub stdout: BorrowedFd<'a>,
    /// Where its standard error goes; the same as `stdout` for both together.
    pub stderr: BorrowedFd<'a>,
}

impl Keeper {
    /// Starts the keeper.
    ///
    /// # Errors
    ///
    /// Fails if the system has no room for a process or a socket.
    pub fn start() -> io::Result<Self> {
        Self::start_with(None)
    }

    /// Starts the keeper, which removes `dir` and all below it at the end, also when its
    /// caller was killed.
    ///
    /// # Errors
    ///
    /// Fails if the system has no room for a process or a socket.
    pub fn start_with(dir: Option<PathBuf>) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let caller = Pid::this().as_raw();
        let pid = fork_into(|| {
            let theirs = OwnedFd::from(theirs);
            close_all_but(theirs.as_raw_fd());
            if let Ok(mut keeping) = Keeping::new(theirs.into(), caller) {
                keeping.serve();
            }
            // What is still mounted there is not ours to remove.
            if let Some(dir) = dir.filter(|dir| newest_below(slice::from_ref(dir)).is_empty()) {
                let _ = std::fs::remove_dir_all(dir);
            }
        })?;
        Ok(Self {
            socket: Some(Mutex::new(ours)),
            pid,
            idle: Arc::default(),
        })
    }

    /// Starts a program. Whether it could be started is in the child's first
    /// event.
    ///
    /// # Errors
    ///
    /// Fails if the program is not found in `PATH`, the keeper has ended, or the system has
    /// no socket left.
    pub fn spawn(&self, spec: &Spec, streams: Streams<'_>) -> io::Result<Child> {
        let program = find_program(spec)?;
        let order = write_order(spec, &program, streams.stdin.is_some());
        let mut fds = vec![streams.stdout.as_raw_fd(), streams.stderr.as_raw_fd()];
        fds.extend(streams.stdin.map(|fd| fd.as_raw_fd()));
        let (control, supervisor) = match self.reuse(spec, &order, &fds) {
            Some((control, supervisor)) => (control, Some(supervisor)),
            None => {
                let (ours, theirs) = socketpair(
                    AddressFamily::Unix,
                    SockType::SeqPacket,
                    None,
                    SockFlag::SOCK_CLOEXEC,
                )?;
                fds.insert(0, theirs.as_raw_fd());
                self.request(&order, &fds).map_err(|e| {
                    let text = format!("the keeper, which starts programs, has ended: {e}");
                    io::Error::new(e.kind(), text)
                })?;
                (ours, None)
            }
        };
        Ok(Child::new(
            control,
            supervisor,
            spec,
            Arc::clone(&self.idle),
        ))
    }

    /// Sends the order to an idle supervisor, where there is one. One that has ended, or an order too long for a packet, is skipped.
    fn reuse(&self, spec: &Spec, order: &[u8], fds: &[RawFd]) -> Option<(OwnedFd, i32)> {
        if spec.terminal {
            return None;
        }
        let (control, supervisor) = self.idle.take()?;
        sendmsg::<()>(
            control.as_raw_fd(),
            &[IoSlice::new(order)],
            &[ControlMessage::ScmRights(fds)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .ok()?;
        Some((control, supervisor))
    }

    /// Sends an order, with the descriptors that belong to it on the first bytes.
    fn request(&self, order: &[u8], fds: &[RawFd]) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
        let header = (order.len() as u64).to_ne_bytes();
        // The header is far smaller than any socket's buffer: it goes whole.
        sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(&header)],
            &[ControlMessage::ScmRights(fds)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        socket.write_all(order)
    }
}

impl Drop for Keeper {
    /// Ends everything that was started, and the keeper.
    fn drop(&mut self) {
        self.idle.clear();
        self.socket = None;
        sys::wait_for(self.pid);
    }
}

/// Where the program is: as it is with a `/` in it, else the first executable
/// file of that name in `PATH`.
fn find_program(spec: &Spec) -> io::Result<OsString> {
    let name = &spec.program;
    if name.as_encoded_bytes().contains(&b'/') {
        return Ok(name.clone());
    }
    let path = spec.env.iter().find(|(k, _)| k == "PATH").map(|(_, v)| v);
    let path = path.map_or(OsStr::new("/usr/bin:/bin"), OsString::as_os_str);
    let found = which::which_in_global(name, Some(path)).ok();
    found
        .and_then(|mut files| files.next())
        .map(PathBuf::into_os_string)
        .ok_or_else(|| {
            let text = format!("no program {} in PATH", name.display());
            io::Error::new(io::ErrorKind::NotFound, text)
        })
}

/// A program under supervision, as the keeper knows it.
struct Running {
    /// The supervisor's end of the control socket, for when it was killed.
    control: OwnedFd,
    mounts_below: Vec<PathBuf>,
}

/// The keeper's own process.
struct Keeping {
    socket: UnixStream,
    children: SignalFd,
    caller: i32,
    /// By the supervisor's process id.
    running: HashMap<i32, Running>,
}

impl Keeping {
    fn new(socket: UnixStream, caller: i32) -> io::Result<Self> {
        null_stdio();
        let _ = prctl::set_name(c"keeper");
        // Out of reach of the terminal's signals, yet in its session, so that a
        // debugger can be given the terminal.
        let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
        become_subreaper()?;
        let children = SignalFd::with_flags(
            &SigSet::from(Signal::SIGCHLD),
            SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
        )?;
        Ok(Self {
            socket,
            children,
            caller,
            running: HashMap::new(),
        })
    }

    /// Serves until the caller has ended, then ends everything.
    fn serve(&mut self) {
        loop {
            let mut fds = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(_) => break,
            }
            let requested = fds[0].any() == Some(true);
            if fds[1].any() == Some(true) {
                while let Ok(Some(_)) = self.children.read_signal() {}
                self.reap();
            }
            if requested && !self.serve_one() {
                break;
            }
        }
        self.end_all();
    }

    /// Takes one order; `false` at the end of file.
    fn serve_one(&mut self) -> bool {
        let Some((order, mut fds)) = self.receive() else {
            return false;
        };
        if fds.is_empty() {
            return true;
        }
        let control = fds.remove(0);
        let mounts_below = order.mounts_below.clone();
        let Some(stdio) = Stdio::from_received(&order, fds) else {
            return true;
        };
        let caller = self.caller;
        let others = &mut self.running;
        let socket = self.socket.as_raw_fd();
        let supervisor = {
            let control = &control;
            fork_into(move || {
                // The callers of other programs, and ours, must get their ends of
                // file: no copies of the sockets may stay open here.
                others.clear();
                close_in_child(socket);
                supervise(order, stdio, control, caller);
            })
        };
        match supervisor {
            Ok(pid) => {
                let running = Running {
                    control,
                    mounts_below,
                };
                self.running.insert(pid, running);
            }
            Err(e) => send_event(
                &control,
                &Event::NotStarted(format!("failed to make a process: {e}")),
            ),
        }
        true
    }

    /// Receives an order and its descriptors; `None` at the end of file.
    fn receive(&mut self) -> Option<(Order, Vec<OwnedFd>)> {
        let mut header = [0; 8];
        let socket = self.socket.as_raw_fd();
        let (len, fds) = receive_with_fds(socket, &mut header, MsgFlags::empty())?;
        if len == 0 {
            return None;
        }
        self.socket.read_exact(&mut header[len..]).ok()?;
        let len = usize::try_from(u64::from_ne_bytes(header)).ok()?;
        let mut order = vec![0; len];
        self.socket.read_exact(&mut order).ok()?;
        Some((read_order(&order)?, fds))
    }

    /// Reaps supervisors that have ended. The orphans of one that was killed are now
    /// children of the keeper.
    fn reap(&mut self) {
        while let Waited::Ended(pid, status) = sys::try_wait(-1) {
            let Some(lost) = self.running.remove(&pid) else {
                continue;
            };
            let signal = match status {
                Status::Exited(0) => continue,
                Status::Exited(_) => libc::SIGABRT,
                Status::Signaled { signal, .. } => signal,
            };
            self.clean_up_after(&lost, signal);
        }
    }

    /// Cleans up in place of a supervisor that was killed.
    fn clean_up_after(&self, lost: &Running, signal: i32) {
        send_event(&lost.control, &Event::Lost { signal });
        let supervisors: Vec<i32> = self.running.keys().copied().collect();
        let mut ender = Ender::new(&supervisors);
        ender.end(How::Kill, None);
        let mounts = unmount_below(&lost.mounts_below);
        let done = Done {
            cpu: Duration::ZERO,
            left_count: ender.ended.len(),
            left_behind: ender.ended,
            mounts,
            alive: Vec::new(),
        };
        send_event(&lost.control, &Event::Done(done));
    }

    /// The caller has ended, which every supervisor notices itself. What still runs
    /// after a timeout is ended from here.
    fn end_all(&mut self) {
        let mut ender = Ender::new(&[]);
        let deadline = Instant::now() + CLEAN_UP_TIMEOUT;
        if ender.wait_all(deadline, None) != Wake::AllEnded {
            ender.end(How::Kill, None);
        }
        for running in self.running.values() {
            unmount_below(&running.mounts_below);
        }
    }
}
