//! What the time of a worker goes into.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Observation;

/// What a stretch of a worker's time was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Recipes and images are generated and written.
    Images,
    /// Commands of tests that exit soon.
    Commands,
    /// Commands of tests that take longer than a second.
    Stalls,
    /// `qemu-img check` around the commands of tests.
    Checks,
    /// Copying the guest's data and comparing with the copy.
    Copies,
    /// Tests are run again to note all the blocks that they reach.
    Samples,
    /// Runs of the same test with two fill bytes of the guarding allocator.
    Fills,
    /// The other program of `--compare-with`.
    Comparison,
    /// Suspected hangs are run again.
    Hangs,
    /// Crashes are run under a debugger to name them.
    Debugger,
    /// New findings are run again.
    Confirming,
    /// Examples are minimised.
    Minimising,
    /// Feedback, findings and logs are written; waiting for other workers.
    WorkFolder,
}

impl Purpose {
    /// What it is, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Images => "making images",
            Self::Commands => "commands",
            Self::Stalls => "commands longer than a second",
            Self::Checks => "checks around commands",
            Self::Copies => "copies and comparisons of data",
            Self::Samples => "samples of blocks",
            Self::Fills => "runs with another fill byte",
            Self::Comparison => "the program compared with",
            Self::Hangs => "suspected hangs",
            Self::Debugger => "debugger",
            Self::Confirming => "confirming findings",
            Self::Minimising => "minimising",
            Self::WorkFolder => "work folder and waiting",
        }
    }
}

/// From here on a command is counted as a stall.
const STALL: Duration = Duration::from_secs(1);

/// Time by purpose.
pub type Spent = BTreeMap<Purpose, Duration>;

/// Divides the time of a worker by purpose: each stretch ends with the [`lap`](Self::lap) that
/// says what it was for, so that all stretches together are all the time since the start.
#[derive(Debug)]
pub struct Stopwatch {
    since: Instant,
    spent: Spent,
    pinned: Option<Purpose>,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            spent: Spent::new(),
            pinned: None,
        }
    }
}

impl Stopwatch {
    /// Ends a stretch that was for `purpose`, or for that of [`pin`](Self::pin).
    pub fn lap(&mut self, purpose: Purpose) {
        self.lap_at(purpose, Instant::now());
    }

    fn lap_at(&mut self, purpose: Purpose, now: Instant) {
        let purpose = self.pinned.unwrap_or(purpose);
        *self.spent.entry(purpose).or_default() += now.saturating_duration_since(self.since);
        self.since = now;
    }

    /// Ends a stretch that a command of a test took.
    pub fn lap_command(&mut self, seen: &Observation) {
        self.lap(if seen.wall > STALL {
            Purpose::Stalls
        } else {
            Purpose::Commands
        });
    }

    /// From now on every lap is for `purpose`, where there is one; returns what every lap was
    /// for before. To be called right after a lap.
    pub fn pin(&mut self, purpose: Option<Purpose>) -> Option<Purpose> {
        std::mem::replace(&mut self.pinned, purpose)
    }

    /// The time by purpose up to the last lap, since the last call.
    pub fn take(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_add_up_to_the_time_since_the_start() {
        let mut watch = Stopwatch::default();
        let start = watch.since;
        let at = |seconds| start + Duration::from_secs(seconds);
        watch.lap_at(Purpose::Images, at(1));
        watch.lap_at(Purpose::Commands, at(3));
        watch.pin(Some(Purpose::Minimising));
        watch.lap_at(Purpose::Commands, at(7));
        watch.pin(None);
        watch.lap_at(Purpose::Images, at(15));
        let spent: Vec<_> = watch.take().into_iter().collect();
        let wanted = [
            (Purpose::Images, 9),
            (Purpose::Commands, 2),
            (Purpose::Minimising, 4),
        ];
        assert_eq!(
            spent,
            wanted.map(|(what, time)| (what, Duration::from_secs(time)))
        );
        watch.lap_at(Purpose::Checks, at(16));
        assert_eq!(watch.take().len(), 1);
    }
}
