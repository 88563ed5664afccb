//! How long the commands of a test may take, and what becomes of those that take longer.

use std::time::Duration;

/// What a command may take under [`TimeoutPolicy::Short`].
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// How the commands of a test are timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutPolicy {
    /// A command has the time that the settings allow; one that exceeds it runs a second
    /// time, for longer, which tells hangs from what is slow.
    Confirm,
    /// As [`Confirm`](Self::Confirm), but what is at the place of a known hang is assumed to
    /// be that hang and not waited for: for counting hits. What is slow there is counted too,
    /// so that such a violation is no example.
    Count,
    /// A command has the time that the settings allow; what exceeds it is called a hang.
    Once,
    /// A command has at most [`SHORT_TIMEOUT`]; what exceeds it is called a hang: for trying
    /// many variations of a known finding.
    Short,
}

impl TimeoutPolicy {
    /// What a command may take where the settings allow `limit`.
    pub(super) fn limit(self, limit: Duration) -> Duration {
        match self {
            Self::Short => limit.min(SHORT_TIMEOUT),
            _ => limit,
        }
    }

    /// Whether a command that exceeds its limit is run a second time.
    pub(super) fn confirms(self) -> bool {
        matches!(self, Self::Confirm | Self::Count)
    }
}
