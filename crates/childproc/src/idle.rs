//! Supervisors that have nothing to do and wait for another program.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most supervisors that are kept with nothing to do.
const IDLE_MOST: usize = 64;

/// Control sockets and process ids. A supervisor ends when its socket is closed.
#[derive(Debug, Default)]
pub(crate) struct Idle(Mutex<Vec<(OwnedFd, i32)>>);

impl Idle {
    fn lock(&self) -> MutexGuard<'_, Vec<(OwnedFd, i32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self) -> Option<(OwnedFd, i32)> {
        self.lock().pop()
    }

    pub(crate) fn put(&self, control: OwnedFd, supervisor: i32) {
        let mut idle = self.lock();
        if idle.len() < IDLE_MOST {
            idle.push((control, supervisor));
        }
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }
}
