//! What every subcommand that runs programs does first: it handles interrupts, so that nothing
//! is left behind, and removes what killed fuzzers left.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{INTERRUPTED, print_message};
use crate::exec::scratch;

/// Returns the flag that an interrupt sets, and removes the scratch folders that killed
/// fuzzers left in memory and in `fallback`.
///
/// # Errors
///
/// The signal handlers cannot be installed.
pub(super) fn begin(fallback: &Path) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // A second one ends the program at once.
        let status = INTERRUPTED.into();
        signal_hook::flag::register_conditional_shutdown(signal, status, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("cannot install signal handlers")?;
    }
    scratch::sweep(&[Path::new("/dev/shm"), fallback]);
    Ok(stop)
}

/// The exit status of `finish`; where the program was interrupted, that of an interrupt
/// instead, since results of programs that were aborted mean nothing.
pub(super) fn unless_stopped(stop: &AtomicBool, finish: impl FnOnce() -> Result<u8>) -> Result<u8> {
    if stop.load(Ordering::SeqCst) {
        print_message("interrupted");
        return Ok(INTERRUPTED);
    }
    finish()
}
