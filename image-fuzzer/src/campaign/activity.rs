//! What each worker does now, for the status.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::triage::Key;

/// What a worker does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Activity {
    /// It has not begun, or has ended.
    #[default]
    Idle,
    /// It runs a test.
    Test(u64),
    /// It runs a test again that an earlier run of the fuzzer did not finish.
    Replay(u64),
    /// It runs a finding again.
    Confirm(Key),
    /// It runs a suspected hang again, for longer.
    Hang(u64),
    /// It minimises the example of a group.
    Minimise(Key),
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("idle"),
            Self::Test(number) => write!(f, "test {number}"),
            Self::Replay(number) => write!(f, "replay test {number}"),
            Self::Confirm(key) => write!(f, "confirm {}: {}", key.class, key.signature),
            Self::Hang(number) => write!(f, "confirm a suspected hang, test {number}"),
            Self::Minimise(key) => write!(f, "minimise {}: {}", key.class, key.signature),
        }
    }
}

/// What all workers do, and since when.
#[derive(Debug)]
pub(super) struct Activities(Vec<Mutex<(Activity, Instant)>>);

impl Activities {
    /// So many idle workers.
    pub(super) fn new(workers: usize) -> Self {
        let now = Instant::now();
        Self(
            (0..workers)
                .map(|_| Mutex::new((Activity::Idle, now)))
                .collect(),
        )
    }

    /// Worker `index` begins something.
    pub(super) fn begin(&self, index: usize, activity: Activity) {
        // A lock is poisoned by a panic, which ends the campaign.
        if let Some(mut slot) = self.0.get(index).and_then(|slot| slot.lock().ok()) {
            *slot = (activity, Instant::now());
        }
    }

    /// What each worker does, and for how long it has.
    pub(super) fn all(&self) -> Vec<(Activity, Duration)> {
        let slots = self.0.iter().filter_map(|slot| slot.lock().ok());
        slots
            .map(|slot| (slot.0.clone(), slot.1.elapsed()))
            .collect()
    }
}
