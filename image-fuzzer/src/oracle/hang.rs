//! The program did not end in time. Whether it hangs or is only slow is found
//! out by running it again with a longer limit.

use std::time::Duration;

use super::{Class, Verdict};
use crate::commands::Command;
use crate::exec::{End, Limit, Observation};

/// How much longer the second run may take.
pub const PATIENCE: u32 = 6;

/// Judges by time alone. What is called a hang here is so until [`confirm`].
pub(super) fn judge(command: &Command, seen: &Observation) -> Verdict {
    let over = matches!(seen.end, End::TimedOut | End::OverLimit(Limit::Cpu));
    over.then(|| {
        let seconds = seen.wall.as_secs_f64();
        (
            Class::Hang,
            command.group_verb(),
            format!("still running after {seconds:.0} s"),
        )
    })
}

/// The class after a second run with [`PATIENCE`] times the limits. A run that
/// then ends by itself was slow if it took more than `limit` of the processor;
/// else the machine was busy with something else.
pub fn confirm(second: &Observation, limit: Duration) -> Option<Class> {
    match second.end {
        End::TimedOut | End::OverLimit(Limit::Cpu) => Some(Class::Hang),
        _ if second.cpu >= limit => Some(Class::Slow),
        _ => None,
    }
}
