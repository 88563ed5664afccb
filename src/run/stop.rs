//! How far a run is on its way to a stop; every running job can wait for it.

use std::io::{PipeReader, PipeWriter, pipe};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

/// How urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// The run goes on.
    None,
    /// Running jobs are ended, with time to tidy up.
    Soon,
    /// Running jobs are ended at once.
    Now,
}

/// One step: a pipe whose reading end becomes readable for everyone who polls
/// it when its writing end is closed.
#[derive(Debug)]
struct Step {
    reader: PipeReader,
    writer: Mutex<Option<PipeWriter>>,
}

impl Step {
    fn new() -> std::io::Result<Self> {
        let (reader, writer) = pipe()?;
        Ok(Self {
            reader,
            writer: Mutex::new(Some(writer)),
        })
    }

    fn take(&self) {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn taken(&self) -> bool {
        self.writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }
}

/// The two steps to a stop.
#[derive(Debug)]
pub(super) struct Stop {
    soon: Step,
    now: Step,
}

impl Stop {
    /// A run that goes on.
    ///
    /// # Errors
    ///
    /// No descriptors are left.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            soon: Step::new()?,
            now: Step::new()?,
        })
    }

    /// Takes the next step, and says how urgent it is now.
    pub(super) fn step(&self) -> Urgency {
        if self.soon.taken() {
            self.now.take();
        }
        self.soon.take();
        self.urgency()
    }

    /// How urgent it is.
    pub(super) fn urgency(&self) -> Urgency {
        if self.now.taken() {
            Urgency::Now
        } else if self.soon.taken() {
            Urgency::Soon
        } else {
            Urgency::None
        }
    }

    /// What becomes readable when it gets more urgent than `known`.
    pub(super) fn more_than(&self, known: Urgency) -> Option<BorrowedFd<'_>> {
        match known {
            Urgency::None => Some(self.soon.reader.as_fd()),
            Urgency::Soon => Some(self.now.reader.as_fd()),
            Urgency::Now => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_lead_to_a_stop() {
        let stop = Stop::new().unwrap();
        assert_eq!(stop.urgency(), Urgency::None);
        assert_eq!(stop.step(), Urgency::Soon);
        assert_eq!(stop.step(), Urgency::Now);
        assert_eq!(stop.step(), Urgency::Now);
        assert!(stop.more_than(Urgency::Now).is_none());
    }
}
