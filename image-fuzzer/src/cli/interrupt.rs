//! What every start that runs programs begins with: interrupts are watched for, so that
//! nothing is left behind, and what dead fuzzers left is removed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::complain;
use crate::exec::scratch;

/// Exit status: the user interrupted what cannot be gone on with. That of a shell whose
/// command was ended by SIGINT.
pub(super) const INTERRUPTED: u8 = 130;

/// What becomes true when the user wants the machine back; scratch folders that dead fuzzers
/// left in memory and in `fallback` are removed.
///
/// Fails where signals cannot be watched for.
pub(super) fn begin(fallback: &Path) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // A second one ends the program at once.
        let status = INTERRUPTED.into();
        signal_hook::flag::register_conditional_shutdown(signal, status, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("cannot watch for interrupts")?;
    }
    scratch::sweep(&[Path::new("/dev/shm"), fallback]);
    Ok(stop)
}

/// `done` where nobody interrupted it, else the exit status that says so: what was seen of
/// programs that were ended says nothing.
pub(super) fn unless_stopped(stop: &AtomicBool, done: impl FnOnce() -> Result<u8>) -> Result<u8> {
    if stop.load(Ordering::SeqCst) {
        complain("interrupted");
        return Ok(INTERRUPTED);
    }
    done()
}
