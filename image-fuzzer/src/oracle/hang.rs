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
/// else the machine was busy with something else. So it may have been where it is known to
/// be `busy` and the program had less than `limit` of a processor.
pub fn confirm(second: &Observation, limit: Duration, busy: bool) -> Option<Class> {
    match second.end {
        End::TimedOut if second.cpu < limit && busy => None,
        End::TimedOut | End::OverLimit(Limit::Cpu) => Some(Class::Hang),
        _ if second.cpu >= limit => Some(Class::Slow),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_is_no_hang() {
        let seconds = Duration::from_secs;
        let seen = |end: End, cpu| Observation {
            end,
            wall: seconds(30),
            cpu: seconds(cpu),
            ..Observation::not_started(String::new())
        };
        let confirm = |end, cpu, busy| confirm(&seen(end, cpu), seconds(5), busy);
        // It waited for something that did not come, or turned in a loop.
        assert_eq!(confirm(End::TimedOut, 0, false), Some(Class::Hang));
        assert_eq!(confirm(End::TimedOut, 6, true), Some(Class::Hang));
        assert_eq!(confirm(End::TimedOut, 3, true), None);
        assert_eq!(confirm(End::Exit(0), 6, true), Some(Class::Slow));
        assert_eq!(confirm(End::Exit(0), 1, false), None);
    }
}
