//! What a run uses while it goes on, seen from outside.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use childproc::descendants;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What the processes of a run use at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// How many there are.
    pub(super) processes: usize,
    /// Their resident memory, in bytes; pages that they share count for each.
    pub(super) memory: u64,
}

/// What the processes below `server` use.
pub(super) fn usage(server: i32) -> io::Result<Usage> {
    let mut below = descendants(server)?;
    // One that has ended has no memory, and only waits for its parent to take notice.
    below.retain(|process| process.memory > 0);
    Ok(Usage {
        processes: below.len(),
        memory: below.iter().map(|process| process.memory).sum(),
    })
}

/// The longest time that a thread of process `pid` was ready to run and had no processor;
/// nothing where the kernel does not count it (`CONFIG_SCHED_INFO`).
pub(super) fn starved(pid: i32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Duration::ZERO;
    };
    let waited = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().nth(1)?.parse().ok()
    });
    Duration::from_nanos(waited.max().unwrap_or(0))
}

/// The process that `server` started first of those that run.
pub(super) fn first_below(server: i32) -> io::Result<Option<i32>> {
    Ok(descendants(server)?.first().map(|process| process.pid))
}

/// Sends SIGKILL to every process below `server`, and gives the names of those that had not
/// ended.
pub(super) fn kill_below(server: i32) -> io::Result<Vec<String>> {
    let mut alive = descendants(server)?;
    alive.retain(|process| !process.has_ended());
    for process in &alive {
        // It may have ended in the meantime.
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
    Ok(alive.into_iter().map(|p| p.name).collect())
}

/// Bytes allocated to files in `folder` and below. What vanishes while it is looked at
/// counts as nothing.
pub(super) fn allocated(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let mut bytes = 0;
    for entry in entries.flatten() {
        // Does not follow symbolic links.
        let Ok(meta) = entry.metadata() else { continue };
        bytes += if meta.is_dir() {
            allocated(&entry.path())
        } else {
            meta.blocks() * 512
        };
    }
    bytes
}
