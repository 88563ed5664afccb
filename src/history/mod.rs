//! What is remembered of earlier runs: verdicts and times by test and
//! combination.

use std::path::Path;

use crate::model::{Combo, Event, Reporter, Test};

/// A verdict's kind, as the history keeps it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It passed.
    Pass,
    /// It failed.
    Fail,
    /// It was not run.
    NotRun,
    /// It failed, then passed.
    Flaky,
    /// The run ended before it did.
    Interrupted,
}

/// What is remembered of a test under a combination.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Past {
    /// How long it took when it last passed (seconds).
    pub last_passed_secs: Option<f64>,
    /// The last verdict; absent where only the old runner's times are known.
    pub last_verdict: Option<Kind>,
}

/// The results of the run before this one, for comparison.
#[derive(Debug, Clone, Default)]
pub struct Previous {}

/// The history, open for reading and for the run's own results.
#[derive(Debug)]
pub struct History {}

impl History {
    /// Opens the history in `dir`, which is made where it does not exist.
    ///
    /// # Errors
    /// The directory or its files cannot be made or read.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let _ = dir;
        Ok(Self {})
    }

    /// Reads times from the old runner's `.last-elapsed-cache` at `path` too, and
    /// keeps it up to date.
    #[must_use]
    pub fn with_elapsed_cache(self, path: &Path) -> Self {
        let _ = path;
        self
    }

    /// What is remembered of `test` under `combo`.
    #[must_use]
    pub fn last(&self, test: &Test, combo: &Combo) -> Option<Past> {
        let _ = (test, combo);
        None
    }

    /// What failed in the last run: names of tests with their combinations.
    #[must_use]
    pub fn failed_last(&self) -> Vec<(String, Combo)> {
        Vec::new()
    }

    /// What the last run did not get to.
    #[must_use]
    pub fn not_reached_last(&self) -> Vec<(String, Combo)> {
        Vec::new()
    }

    /// The last run's results.
    #[must_use]
    pub fn previous(&self) -> Previous {
        Previous::default()
    }
}

impl Reporter for History {
    fn event(&mut self, event: &Event) {
        let _ = event;
    }
}
