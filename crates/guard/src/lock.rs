//! A lock that neither allocates nor leaves the process waiting after a fork.
#![allow(unsafe_code)] // Shared mutable state; each block says why it is sound.

use std::cell::UnsafeCell;
use std::hint;
use std::sync::atomic::{AtomicBool, Ordering};

/// How often the lock is tried before the processor is given to another thread.
const SPINS: u32 = 100;

/// A value that one thread at a time changes.
pub(crate) struct Locked<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `with` gives out the value to one thread at a time; `peek` says what it needs.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            held: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits until no other thread has the lock, and takes it.
    pub(crate) fn acquire(&self) {
        let mut tries = 0_u32;
        while self
            .held
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            tries = tries.wrapping_add(1);
            if tries.is_multiple_of(SPINS) {
                // SAFETY: the call has no arguments.
                unsafe { libc::sched_yield() };
            }
            hint::spin_loop();
        }
    }

    /// Gives the lock back. Only for the thread that acquired it, or a fork of it.
    pub(crate) fn release(&self) {
        self.held.store(false, Ordering::Release);
    }

    /// Runs `action` while this thread has the lock. It must not lock again.
    pub(crate) fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R {
        self.acquire();
        // SAFETY: the lock is held, so this is the only reference.
        let result = action(unsafe { &mut *self.value.get() });
        self.release();
        result
    }

    /// A copy of what `read` reads without the lock: for the report of a fault, where the
    /// thread that has the lock may be the one that failed.
    ///
    /// # Safety
    ///
    /// `read` must bear values that another thread changes meanwhile: read numbers, check
    /// them against bounds, and follow no pointer that can become invalid.
    pub(crate) unsafe fn peek<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        // SAFETY: the caller promises it.
        read(unsafe { &*self.value.get() })
    }
}
