//! System calls without allocation, as the server needs them.
#![allow(unsafe_code)] // Raw system calls; each block says why it is sound.

use std::ffi::c_int;
use std::fs::File;
use std::io::Read;

use crate::wire::UNLIMITED;

/// The error number of the last call that failed.
#[must_use]
pub fn errno() -> c_int {
    // SAFETY: the C library gives a pointer to this thread's own number.
    unsafe { *libc::__errno_location() }
}

/// Fills `place` from a descriptor; `false` at the end of the file or on an error.
pub fn read_all(fd: c_int, mut place: &mut [u8]) -> bool {
    while !place.is_empty() {
        // SAFETY: pointer and length are those of a live, writable slice.
        let got = unsafe { libc::read(fd, place.as_mut_ptr().cast(), place.len()) };
        match usize::try_from(got) {
            Ok(0) => return false,
            Ok(got) => match std::mem::take(&mut place).get_mut(got..) {
                Some(rest) => place = rest,
                None => return false,
            },
            Err(_) if errno() == libc::EINTR => {}
            Err(_) => return false,
        }
    }
    true
}

/// Reads the start of a file, as much as there is room for; `None` where it cannot be read.
#[must_use]
pub fn read_file<'a>(path: &str, place: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut file = File::open(path).ok()?;
    let mut len = 0;
    loop {
        match file.read(place.get_mut(len..)?).ok()? {
            0 => return place.get(..len),
            read => len += read,
        }
    }
}

/// Sends all of `bytes` over a socket; `false` on an error, as when it is closed.
pub fn send_all(fd: c_int, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        // SAFETY: pointer and length are those of a live slice.
        let sent =
            unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
        match usize::try_from(sent) {
            Ok(sent) => match bytes.get(sent..) {
                Some(rest) => bytes = rest,
                None => return false,
            },
            Err(_) if errno() == libc::EINTR => {}
            Err(_) => return false,
        }
    }
    true
}

/// The monotonic clock, in nanoseconds.
#[must_use]
pub fn now_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a live structure the call writes to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}

/// Exits at once, without running exit handlers.
pub fn exit_now(status: c_int) -> ! {
    // SAFETY: the call takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

/// Sets the soft and the hard limit of a resource, which [`UNLIMITED`] does not change;
/// `false` on an error.
pub fn limit(resource: libc::__rlimit_resource_t, value: u64) -> bool {
    if value == UNLIMITED {
        return true;
    }
    let limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: `limit` is a live structure the call reads.
    unsafe { libc::setrlimit(resource, &raw const limit) == 0 }
}

/// As [`limit`], but a hard limit that is lower already is kept.
pub fn lower(resource: libc::__rlimit_resource_t, value: u64) -> bool {
    let mut now = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `now` is a live structure the call writes to.
    let known = unsafe { libc::getrlimit(resource, &raw mut now) == 0 };
    known && (value >= now.rlim_max || limit(resource, value))
}

/// What becomes of signal handlers that are already set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handlers {
    /// They are kept.
    Keep,
    /// Their signals are reset to the default.
    Reset,
}

/// Prepares this process to serve: default signals, none blocked, except that `SIGXFSZ` is
/// ignored, so that a write past the limit on a file's length fails with `EFBIG`; no core
/// files; every orphaned descendant becomes its child.
pub fn become_server(handlers: Handlers) {
    // SAFETY: calls that take integers, or pointers to live structures, for both of which
    // all-zero is valid.
    unsafe {
        for signal in 1..=64 {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &raw mut action);
            if handlers == Handlers::Reset || action.sa_sigaction == libc::SIG_IGN {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
        libc::umask(0o022);
    }
    let _ = limit(libc::RLIMIT_CORE, 0);
}
