//! Runs of earlier, from the files that they left: those of `--json` and of `--record`.
//!
//! A file is read twice: [`Survey`] learns what reports must know from the beginning, and
//! whether it can be read at all, before anything is shown; then each event is told.

mod extract;
mod merge;
mod source;
mod survey;

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;

pub use extract::extract;
pub use merge::Merged;
pub use source::Source;
pub use survey::Survey;

use crate::model::{Combo, Event, Kind, Verdict};
use crate::report::{Decoded, Parts};

/// How a run of earlier ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Jobs that failed.
    pub failed: usize,
    /// Jobs that failed, and passed when tried again.
    pub flaky: usize,
    /// Whether it was interrupted or killed.
    pub interrupted: bool,
}

impl Ending {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Finished(finished) => match finished.verdict {
                Verdict::Fail(_) => self.failed += 1,
                Verdict::Flaky { .. } => self.flaky += 1,
                _ => {}
            },
            Event::RunFinished { interrupted, .. } => self.interrupted |= interrupted,
            _ => {}
        }
    }
}

/// Tells the events of the run in `source`, those of a run that was killed up to there, and
/// then what its end leaves open.
///
/// # Errors
///
/// The file cannot be read.
pub fn replay(
    source: &Source,
    survey: &Survey,
    tell: &mut dyn FnMut(&Event, Option<Parts>),
) -> Result<Ending> {
    let mut ending = Ending::default();
    let mut tell = |event: &Event, parts: Option<Parts>| {
        ending.event(event);
        tell(event, parts);
    };
    source.each(&mut |decoded| {
        match decoded {
            Decoded::RunStarted { event, .. } | Decoded::Other(event) => tell(&event, None),
            Decoded::Finished { event, parts, .. } => tell(&event, Some(*parts)),
            Decoded::Unknown => {}
        }
        Ok(())
    })?;
    for (event, parts) in survey.after_kill() {
        tell(&event, parts);
    }
    Ok(ending)
}

/// How long each test took under each combination in the run that `file` is of, in seconds:
/// the longest of several repetitions.
///
/// # Errors
///
/// The file cannot be read, or is none of a run.
pub fn times(file: &Path) -> Result<HashMap<(String, Combo), f64>> {
    let source = Source::open(file)?;
    Survey::new(&source)?;
    let mut times = HashMap::<(String, Combo), f64>::new();
    source.each(&mut |decoded| {
        let Decoded::Finished { event, .. } = decoded else {
            return Ok(());
        };
        let Event::Finished(finished) = event else {
            return Ok(());
        };
        let seconds = match (Kind::from(&finished.verdict), &finished.outcome) {
            // It would have taken longer.
            (Kind::Interrupted, _) => return Ok(()),
            (_, outcome) => outcome.as_ref().map_or(0.0, |o| o.wall.as_secs_f64()),
        };
        let key = (
            finished.job.test.name.clone(),
            (*finished.job.combo).clone(),
        );
        let longest = times.entry(key).or_default();
        *longest = longest.max(seconds);
        Ok(())
    })?;
    Ok(times)
}
