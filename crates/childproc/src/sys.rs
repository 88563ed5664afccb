//! The system calls that have no safe wrapper with what is needed here.
#![allow(unsafe_code)] // Raw system calls; each block says why it is sound.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It exited with this status (0..=255).
    Exited(i32),
    /// This signal ended it.
    Signaled {
        /// The signal's number, real-time signals included.
        signal: i32,
        /// Whether the kernel wrote a core file.
        core: bool,
    },
}

/// What [`try_wait`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// This child has ended and was reaped.
    Ended(i32, Status),
    /// There are children, none of which has ended.
    NoneYet,
    /// There is no such child.
    NoChild,
}

/// Reaps `pid`, or any child where it is -1, if it has ended; does not block.
///
/// nix's `waitpid` fails on a child that a real-time signal ended, after having
/// reaped it; so this calls the kernel itself.
pub(crate) fn try_wait(pid: i32) -> Waited {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a live integer the call writes to.
        let found = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        return match found {
            0 => Waited::NoneYet,
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => continue,
            -1 => Waited::NoChild,
            found => Waited::Ended(found, status_of(status)),
        };
    }
}

/// The status that wait(2) gave as a number. Stopped and continued children are
/// never asked for.
fn status_of(raw: i32) -> Status {
    if libc::WIFSIGNALED(raw) {
        Status::Signaled {
            signal: libc::WTERMSIG(raw),
            core: libc::WCOREDUMP(raw),
        }
    } else {
        Status::Exited(libc::WEXITSTATUS(raw))
    }
}

/// A descriptor that becomes readable when process `pid` ends (Linux 5.3).
///
/// # Errors
///
/// Fails if there is no such process any more, or no descriptor is left.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets any process of this user trace this one, and what it becomes by exec: a system that
/// allows it to ancestors alone (Yama) would refuse a debugger that is none. Where there is
/// no such rule it does nothing.
pub fn allow_tracing() {
    let anyone = libc::c_ulong::MAX;
    // SAFETY: the call takes integers and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, anyone, 0, 0, 0) };
}

/// Clock ticks a second: the unit of times in `/proc/PID/stat`.
pub(crate) fn ticks_per_second() -> u32 {
    sysconf(libc::_SC_CLK_TCK).unwrap_or(100)
}

/// Bytes in a page: the unit of resident memory in `/proc/PID/stat`.
pub(crate) fn page_size() -> u32 {
    sysconf(libc::_SC_PAGESIZE).unwrap_or(4096)
}

/// A value of sysconf(3) above 0.
fn sysconf(name: libc::c_int) -> Option<u32> {
    // SAFETY: the call takes an integer and touches no memory of ours.
    let value = unsafe { libc::sysconf(name) };
    u32::try_from(value).ok().filter(|&v| v > 0)
}

/// Waits for the child `pid`, which is about to end.
pub(crate) fn wait_for(pid: i32) {
    let mut status = 0;
    // SAFETY: `status` is a live integer the call writes to.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } == -1
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}
