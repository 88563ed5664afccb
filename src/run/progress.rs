//! What a running job tells.

use std::time::{Duration, SystemTime};

use crate::model::{Event, Job};

/// What is told of a job while it runs.
#[derive(Debug)]
pub(super) enum Progress {
    /// It runs for this long.
    Slow(Duration),
    /// See [`Event::WaitsForGdb`].
    WaitsForGdb { program: String, command: String },
    /// See [`Event::Debugging`].
    Debugging { program: String },
    /// See [`Event::Output`].
    Output(Vec<u8>),
}

impl Progress {
    /// The event of a job.
    pub(super) fn event(self, job: Job) -> Event {
        match self {
            Self::Slow(running) => Event::Slow {
                job,
                running,
                at: SystemTime::now(),
            },
            Self::WaitsForGdb { program, command } => Event::WaitsForGdb {
                job,
                program,
                command,
            },
            Self::Debugging { program } => Event::Debugging { job, program },
            Self::Output(bytes) => Event::Output { job, bytes },
        }
    }
}
