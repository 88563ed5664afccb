//! What can go wrong between a program and the emulator.

use std::io;

/// Why an operation or a request did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The emulator ended, or closed the connection.
    #[error("the emulator closed the connection at line {number}: {line}")]
    Closed {
        /// Which line was not answered, from 1.
        number: u64,
        /// Its text, shortened.
        line: String,
    },
    /// No answer came in time.
    #[error("no answer in time to line {number}: {line}")]
    NoAnswer {
        /// Which line was not answered, from 1.
        number: u64,
        /// Its text, shortened.
        line: String,
    },
    /// The emulator refused an operation.
    #[error("line {number}: {line}: {answer}")]
    Refused {
        /// Which line, from 1.
        number: u64,
        /// Its text, shortened.
        line: String,
        /// What the emulator said.
        answer: String,
    },
    /// The connection failed.
    #[error("line {number}: {line}: {error}")]
    Io {
        /// Which line, from 1.
        number: u64,
        /// Its text, shortened.
        line: String,
        /// What the system said.
        error: io::Error,
    },
    /// The guest's memory is used up.
    #[error("no {length} bytes of the guest's memory are free")]
    Memory {
        /// How many were asked for.
        length: u64,
    },
    /// A device is not there, or not what its driver expects.
    #[error("{device}: {what}")]
    Device {
        /// The driver that says so.
        device: &'static str,
        /// What is wrong.
        what: String,
    },
    /// A device does without something that is optional, and that its driver needs.
    #[error("{device}: there are no {what}")]
    Lacking {
        /// The driver that says so.
        device: &'static str,
        /// What there is not, in the plural.
        what: &'static str,
    },
    /// A device did not do in time what it has to.
    #[error("{device}: {what} did not happen in time")]
    Timeout {
        /// The driver that waited.
        device: &'static str,
        /// For what.
        what: String,
    },
}

/// With an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A device that is not what its driver expects.
    pub fn device(device: &'static str, what: impl Into<String>) -> Self {
        let what = what.into();
        Self::Device { device, what }
    }

    /// A device that did not do something in time.
    pub fn timeout(device: &'static str, what: impl Into<String>) -> Self {
        let what = what.into();
        Self::Timeout { device, what }
    }

    /// Whether the emulator is gone.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Io { .. })
    }
}
