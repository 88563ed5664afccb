//! Forking, and becoming another program.
#![allow(unsafe_code)] // fork and what a child does before exec; reasons below.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use nix::fcntl::OFlag;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::{ForkResult, fork, pipe2};

use crate::spec::Order;

/// The status of a process of ours that panicked; 0 and signals mean otherwise.
const PANICKED: i32 = 70;

/// Signals whose disposition is reset for a program, however our own process was
/// started.
const RESET: [i32; 12] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCHLD,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Runs `body` in a forked process, which ends with it: with status 0, without
/// running destructors or handlers of the caller. Gives its process id.
///
/// The caller may have threads. They do not exist in the child, and a lock that
/// one of them holds there stays held: `body` uses memory (glibc makes its
/// allocator usable in the child) and system calls, but no stdio, no
/// environment and no locks from before.
///
/// # Errors
///
/// Fails if the system has no room for another process.
pub(crate) fn fork_into(body: impl FnOnce()) -> io::Result<i32> {
    // SAFETY: the child runs `body` alone, which keeps to the rules above, and
    // leaves by `_exit`, so nothing of the caller's is run or dropped twice.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            let ended = catch_unwind(AssertUnwindSafe(body));
            let status = if ended.is_ok() { 0 } else { PANICKED };
            // SAFETY: `_exit` takes an integer and does not come back.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Closes every descriptor but 0, 1, 2 and `keep`.
pub(crate) fn close_all_but(keep: RawFd) {
    let close = |first: RawFd, last: libc::c_uint| {
        if let Ok(first) = libc::c_uint::try_from(first)
            && first <= last
        {
            // SAFETY: only called in a child that was forked for it and uses no
            // descriptor from before but `keep`; their owners are not run there.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    if let Ok(keep_unsigned) = libc::c_uint::try_from(keep) {
        close(3, keep_unsigned.saturating_sub(1));
    }
    close(keep + 1, libc::c_uint::MAX);
}

/// Closes a descriptor in a process that was just forked and never drops its
/// owner.
pub(crate) fn close_in_child(fd: RawFd) {
    // SAFETY: the process ends by `_exit`, so that the owner is not dropped, and
    // does not use it.
    unsafe { libc::close(fd) };
}

/// What the program finds as stdin, stdout and stderr.
#[derive(Debug)]
pub(crate) struct Stdio {
    /// `None`: what the supervisor has, `/dev/null`.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl Stdio {
    /// The descriptors that came with `order`: stdout, stderr, and stdin where it
    /// says so. `None` where they are too few.
    pub(crate) fn from_received(order: &Order, fds: Vec<OwnedFd>) -> Option<Self> {
        let mut fds = fds.into_iter();
        let (stdout, stderr) = (fds.next()?, fds.next()?);
        let stdin = if order.stdin { fds.next() } else { None };
        Some(Self {
            stdin,
            stdout,
            stderr,
        })
    }
}

/// Which step on the way to the program failed.
const STEPS: [&str; 4] = [
    "failed to set its limits",
    "failed to enter its directory",
    "failed to take the terminal",
    "failed to start",
];

/// Starts the program that `order` asks for, as a child. Gives its process id
/// once it really runs, else what failed.
///
/// # Errors
///
/// Fails with a text for people: the step, the path and the system's reason.
pub(crate) fn start(order: &Order, stdio: &Stdio) -> Result<i32, String> {
    let program = order.program.to_string_lossy();
    let prepared = Prepared::new(order)
        .ok_or_else(|| format!("failed to start {program}: a NUL byte in its arguments"))?;
    let (read, write) =
        pipe2(OFlag::O_CLOEXEC).map_err(|e| format!("failed to make a pipe: {e}"))?;
    let pid = fork_into(|| {
        let (step, error) = prepared.become_program(stdio);
        let mut report = [0; 5];
        report[0] = step;
        report[1..].copy_from_slice(&error.to_ne_bytes());
        // The parent always reads; where it has ended, the report is not needed.
        let _ = nix::unistd::write(&write, &report);
    })
    .map_err(|e| format!("failed to make a process: {e}"))?;
    drop(write);
    let mut report = Vec::new();
    // A successful exec closes the other end and writes nothing.
    match File::from(read).read_to_end(&mut report) {
        Ok(5) => {
            crate::sys::wait_for(pid);
            let step = STEPS.get(usize::from(report[0])).unwrap_or(&STEPS[3]);
            let errno = [report[1], report[2], report[3], report[4]];
            let error = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
            let at = match report[0] {
                1 => order.cwd.display().to_string(),
                _ => program.into_owned(),
            };
            Err(format!("{step} {at}: {error}"))
        }
        _ => Ok(pid),
    }
}

/// Everything exec needs, allocated before the fork.
struct Prepared<'a> {
    order: &'a Order,
    program: CString,
    cwd: CString,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    /// What `argv` and `envp` point into.
    _strings: Vec<CString>,
}

impl<'a> Prepared<'a> {
    /// `None` where a string holds a NUL byte, which exec cannot pass on.
    fn new(order: &'a Order) -> Option<Self> {
        let c = |s: &OsString| CString::new(s.clone().into_vec()).ok();
        let program = c(&order.program)?;
        let args: Vec<CString> = order.args.iter().map(c).collect::<Option<_>>()?;
        let env: Vec<CString> = order.env.iter().map(c).collect::<Option<_>>()?;
        let argv = [program.as_ptr()]
            .into_iter()
            .chain(args.iter().map(|s| s.as_ptr()))
            .chain([ptr::null()])
            .collect();
        let envp = env
            .iter()
            .map(|s| s.as_ptr())
            .chain([ptr::null()])
            .collect();
        let mut strings = args;
        // The strings are moved, not what they point to.
        strings.extend(env);
        Some(Self {
            order,
            program,
            cwd: CString::new(order.cwd.clone().into_os_string().into_vec()).ok()?,
            argv,
            envp,
            _strings: strings,
        })
    }

    /// Becomes the program. Comes back only where that failed: at which of
    /// [`STEPS`] and with which error number.
    fn become_program(&self, stdio: &Stdio) -> (u8, i32) {
        let errno = || io::Error::last_os_error().raw_os_error().unwrap_or(0);
        if let Some(stdin) = &stdio.stdin {
            put(stdin.as_raw_fd(), 0);
        }
        put(stdio.stdout.as_raw_fd(), 1);
        put(stdio.stderr.as_raw_fd(), 2);
        for &(resource, bound, hard) in &self.order.limits {
            if set_limit(resource, bound, hard).is_err() {
                return (0, errno());
            }
        }
        // SAFETY: the string is NUL-terminated and lives as long as we do.
        if unsafe { libc::chdir(self.cwd.as_ptr()) } < 0 {
            return (1, errno());
        }
        if self.order.terminal {
            if take_terminal().is_err() {
                return (2, errno());
            }
        } else {
            // SAFETY: no arguments. Fails only for a group leader, which a
            // process that was just forked is not.
            unsafe { libc::setsid() };
        }
        reset_signals();
        for _ in 0..BUSY_TRIES {
            // SAFETY: `argv` and `envp` end in a null pointer, and every other
            // pointer is to a NUL-terminated string that `self` keeps.
            unsafe {
                libc::execve(
                    self.program.as_ptr(),
                    self.argv.as_ptr(),
                    self.envp.as_ptr(),
                )
            };
            if errno() != libc::ETXTBSY {
                break;
            }
            // A process has it open for writing, often one that was forked just when the
            // file was written and has not reached its own exec yet.
            // SAFETY: the call takes an integer.
            unsafe { libc::usleep(BUSY_PAUSE) };
        }
        (3, errno())
    }
}

/// How often it is tried to start a program whose file is being written.
const BUSY_TRIES: u32 = 100;

/// Microseconds between two tries: a second for all.
const BUSY_PAUSE: u32 = 10_000;

/// Makes descriptor `to` a copy of `from`, which a later exec leaves open.
fn put(from: RawFd, to: RawFd) {
    // SAFETY: this process is about to become another program and owns 0, 1, 2
    // for that; `from` is above them, as every descriptor received here is.
    unsafe { libc::dup2(from, to) };
}

/// Sets a resource limit; a `bound` of all ones is what the hard limit allows,
/// and more where this user may raise it.
fn set_limit(resource: i32, bound: u64, hard: bool) -> io::Result<()> {
    let Ok(resource) = libc::__rlimit_resource_t::try_from(resource) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a live structure that the call fills.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if bound == u64::MAX {
        let most = libc::rlimit {
            rlim_cur: libc::RLIM_INFINITY,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: `most` is a live structure that the call reads.
        if unsafe { libc::setrlimit(resource, &raw const most) } == 0 {
            return Ok(());
        }
        limit.rlim_cur = limit.rlim_max;
    } else {
        limit.rlim_cur = bound.min(limit.rlim_max);
        if hard {
            limit.rlim_max = limit.rlim_cur;
        }
    }
    // SAFETY: `limit` is a live structure that the call reads.
    if unsafe { libc::setrlimit(resource, &raw const limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes this process a group of its own, in the foreground of the terminal that
/// stdin is. Without a terminal there is nothing to do.
fn take_terminal() -> io::Result<()> {
    // SAFETY: integers only. SIGTTOU is blocked at this point, so that a process
    // in the background may give the terminal to itself.
    unsafe {
        if libc::setpgid(0, 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::isatty(0) == 1 && libc::tcsetpgrp(0, libc::getpid()) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Unblocks every signal and gives those that programs use their default
/// disposition: what we block and ignore must not affect the program.
fn reset_signals() {
    // SAFETY: the set is live and initialised by sigemptyset before it is read;
    // SIG_DFL needs no handler to live on. No thread but this one exists.
    unsafe {
        for signal in RESET {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Turns stdin, stdout and stderr of this process into `/dev/null`.
pub(crate) fn null_stdio() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        for fd in 0..=2 {
            put(null.as_raw_fd(), fd);
        }
        // A caller without stdin would have it opened as one of the three.
        if null.as_raw_fd() <= 2 {
            std::mem::forget(null);
        }
    }
}

/// Receives bytes and the descriptors that came with them; `None` where that
/// fails. No bytes are the end of file.
pub(crate) fn receive_with_fds(
    socket: RawFd,
    buffer: &mut [u8],
    flags: MsgFlags,
) -> Option<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut buffers = [IoSliceMut::new(buffer)];
    let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket, &mut buffers, Some(&mut space), flags).ok()?;
    let mut fds = Vec::new();
    for control in message.cmsgs().ok()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just made these for us, and this is the only
            // place they are looked at.
            fds.extend(
                received
                    .iter()
                    .map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }),
            );
        }
    }
    Some((message.bytes, fds))
}
