//! What a run uses while it goes on, seen from outside.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use childproc::Process;
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
    let alive = alive(server)?;
    let memory = alive.iter().filter_map(|p| resident(p.pid)).sum();
    Ok(Usage {
        processes: alive.len(),
        memory,
    })
}

/// Sends SIGKILL to every process below `server`, and gives their names.
pub(super) fn kill_below(server: i32) -> io::Result<Vec<String>> {
    let alive = alive(server)?;
    for process in &alive {
        // It may have ended in the meantime.
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
    Ok(alive.into_iter().map(|p| p.name).collect())
}

fn alive(server: i32) -> io::Result<Vec<Process>> {
    let mut below = childproc::descendants(server)?;
    below.retain(|p| !p.has_ended());
    Ok(below)
}

/// Resident memory of a process in bytes; `None` when it has ended.
fn resident(pid: i32) -> Option<u64> {
    let pages: u64 = fs::read_to_string(format!("/proc/{pid}/statm"))
        .ok()?
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    pages.checked_mul(u64::try_from(page).ok()?)
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
