//! Runs of earlier, from the files that they left: those of `--json` and of `--record`.
//!
//! A file is read twice: [`Survey`] learns what reports must know from the beginning, and
//! whether it can be read at all, before anything is shown; then each event is told.

mod extract;
mod merge;
mod source;
mod survey;

use anyhow::Result;

pub use extract::extract;
pub use merge::Merged;
pub use source::Source;
pub use survey::Survey;

use crate::model::{Event, Verdict};
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
