//! The clock that tells when blocks are reached.
#![allow(unsafe_code)] // A system call without arguments of ours.

/// Milliseconds of the monotonic clock. May be called in a signal handler.
pub(crate) fn now_ms() -> u64 {
    // SAFETY: an all-zero structure is valid, and the call writes to it.
    let now = unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now);
        now
    };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1000)
        .saturating_add(nanos / 1_000_000)
}
