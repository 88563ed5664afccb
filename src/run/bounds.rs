//! The bounds of a running test: its time, its output, its disk space.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Settings;
use super::scratch::disk_usage;
use crate::model::{Ended, Limit};

/// How often the output's size is looked at.
const OUTPUT_EVERY: Duration = Duration::from_millis(100);

/// How often the disk space is measured, at most; measuring a large tree takes
/// long, and no more than a twentieth of the time is spent on it.
const SCRATCH_EVERY: Duration = Duration::from_millis(300);

/// What the look at a test's bounds found.
#[derive(Debug)]
pub(super) enum Due {
    /// It runs for long: this long.
    Slow(Duration),
    /// It has to be killed, and why.
    Over(Ended),
}

/// Bounds and when to look at them next.
#[derive(Debug)]
pub(super) struct Bounds {
    time_out: Option<Duration>,
    /// `None` where nothing is slow.
    slow_after: Option<Duration>,
    output: u64,
    scratch: u64,
    /// Whether nothing is bounded at all.
    lifted: bool,
    started: Instant,
    next_slow: Option<Instant>,
    next_output: Instant,
    next_scratch: Instant,
}

impl Bounds {
    /// The bounds of a test that declares the time-out `own`, where it does.
    pub(super) fn new(settings: &Settings, own: Option<Duration>) -> Self {
        let lifted = settings.is_debugged();
        let time_out = settings
            .timeout
            .filter(|_| !lifted)
            .map(|default| own.unwrap_or(default) * settings.timeout_factor.max(1));
        let now = Instant::now();
        Self {
            time_out,
            slow_after: (!settings.watch_gdbservers).then_some(settings.slow_after),
            output: settings.output_limit,
            scratch: settings.scratch_limit,
            lifted,
            started: now,
            next_slow: None,
            next_output: now,
            next_scratch: now,
        }
    }

    /// The test starts now.
    pub(super) fn start(&mut self) {
        self.started = Instant::now();
        self.next_slow = self.slow_after.map(|after| self.started + after);
        self.next_output = self.started + OUTPUT_EVERY;
        self.next_scratch = self.started + OUTPUT_EVERY;
    }

    /// For how long it runs.
    pub(super) fn running(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether `len` bytes of output are too many.
    pub(super) fn is_flood(&self, len: u64) -> bool {
        !self.lifted && len > self.output
    }

    /// When to look next.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.lifted {
            return None;
        }
        let time_out = self.time_out.map(|after| self.started + after);
        let looks = self.next_output.min(self.next_scratch);
        let others = [time_out, self.next_slow].into_iter().flatten();
        Some(others.fold(looks, Instant::min))
    }

    /// Looks at whatever is due.
    ///
    /// # Errors
    ///
    /// The output's size cannot be had.
    pub(super) fn due(&mut self, output: &File, scratch: &Path) -> io::Result<Option<Due>> {
        if self.lifted {
            return Ok(None);
        }
        let now = Instant::now();
        if let Some(after) = self.time_out
            && now >= self.started + after
        {
            return Ok(Some(Due::Over(Ended::TimeOut(after))));
        }
        if now >= self.next_output {
            self.next_output = now + OUTPUT_EVERY;
            if self.is_flood(output.metadata()?.len()) {
                let limit = Limit::Output(self.output);
                return Ok(Some(Due::Over(Ended::Limit(limit))));
            }
        }
        if now >= self.next_scratch {
            let used = disk_usage(scratch);
            let cost = now.elapsed();
            self.next_scratch = now + SCRATCH_EVERY.max(cost * 20);
            if used > self.scratch {
                let limit = Limit::Scratch(self.scratch);
                return Ok(Some(Due::Over(Ended::Limit(limit))));
            }
        }
        if self.next_slow.is_some_and(|at| now >= at) {
            self.next_slow = self.slow_after.map(|after| now + after);
            return Ok(Some(Due::Slow(self.running())));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_person_is_not_slow() {
        let mut settings = Settings::new("/t".into(), "/s".into());
        settings.slow_after = Duration::ZERO;
        let due = |settings: &Settings| {
            let mut bounds = Bounds::new(settings, None);
            bounds.start();
            let output = tempfile::tempfile().unwrap();
            bounds.due(&output, Path::new("/nowhere")).unwrap()
        };
        assert!(matches!(due(&settings), Some(Due::Slow(_))));
        settings.watch_gdbservers = true;
        assert!(due(&settings).is_none());
    }
}
