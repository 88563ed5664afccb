//! Signals to the runner, while a run lasts.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag::register_conditional_default;
use signal_hook::iterator;

/// Those that end a run; the system's default is to end the program.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Whether no run is under way, so that the system's default holds again. A
/// handler once installed stays, and it has to be told.
static IDLE: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Signals are passed on until this is dropped.
#[derive(Debug)]
pub(super) struct Signals {
    handle: iterator::Handle,
    idle: Arc<AtomicBool>,
}

impl Signals {
    /// Passes SIGINT, SIGTERM, SIGHUP and SIGUSR1 on to `to`, which says whether
    /// it wants more.
    ///
    /// # Errors
    ///
    /// No descriptors or threads are left.
    pub(super) fn forward(to: impl Fn(i32) -> bool + Send + 'static) -> io::Result<Self> {
        let idle = match IDLE.get() {
            Some(idle) => Arc::clone(idle),
            None => {
                let idle = Arc::new(AtomicBool::new(false));
                for signal in ENDING {
                    register_conditional_default(signal, Arc::clone(&idle))?;
                }
                Arc::clone(IDLE.get_or_init(|| idle))
            }
        };
        idle.store(false, Ordering::SeqCst);
        let mut signals = iterator::Signals::new(ENDING.into_iter().chain([SIGUSR1]))?;
        let handle = signals.handle();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || signals.forever().take_while(|&s| to(s)).for_each(drop))?;
        Ok(Self { handle, idle })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        self.idle.store(true, Ordering::SeqCst);
    }
}
