//! The program did not end in time. Whether it hangs or is only slow is found
//! out by running it again with a longer limit.

use std::time::Duration;

use super::shell::Script;
use super::{Class, Oracle, Verdict};
use crate::commands::Command;
use crate::exec::{End, Limit, Limits, Observation};
use crate::signature::Signature;

/// How much longer the second run may take.
pub const PATIENCE: u32 = 6;

/// The oracle.
pub(super) struct Hang;

impl Oracle for Hang {
    fn word(&self) -> &'static str {
        "hang"
    }

    fn meaning(&self) -> &'static str {
        "hung"
    }

    fn signature(&self, text: &str) -> Signature {
        Signature::hang(text)
    }

    /// Judges by time alone. What is called a hang here is so until [`confirm`].
    fn judge(&self, command: &Command, seen: &Observation) -> Verdict {
        let over = matches!(seen.end, End::TimedOut | End::OverLimit(Limit::Cpu));
        over.then(|| {
            let seconds = seen.wall.as_secs_f64();
            (
                Class::Hang,
                Signature::verb(command.group_verb()),
                format!("still running after {seconds:.0} s"),
            )
        })
    }

    fn is_hang(&self) -> bool {
        true
    }

    fn variables(&self, limits: &Limits) -> String {
        time_limit(limits)
    }

    fn verdict(&self, script: &Script<'_>) -> String {
        format!(
            "{}\nstatus=$?\n\
             echo \"status $status (124: still running after $limit s; 137: and killed)\"\n\
             [ \"$status\" -eq 124 ] || [ \"$status\" -eq 137 ]\n",
            script.line
        )
    }
}

/// Variables of a script in which a program may take [`PATIENCE`] times its time.
pub(super) fn time_limit(limits: &Limits) -> String {
    let seconds = limits.wall.as_secs().max(1) * u64::from(PATIENCE);
    format!("limit={seconds}\nbefore=\"timeout -k 1 $limit\"\n")
}

/// The class after a second run with [`PATIENCE`] times the limits. A run that
/// then ends by itself was slow if it took more than `limit` of the processor;
/// else the machine was busy with something else.
///
/// One that does not end hangs if it had all of its time. What it was ready to run and had
/// no processor (`starved`) was not its own, though a machine so busy may not tell that of
/// each process: what did little then may have waited for another one, and of what did
/// much nobody knows whether it was about to end.
pub fn confirm(
    second: &Observation,
    limit: Duration,
    starved: Duration,
    busy: bool,
) -> Option<Class> {
    let own = second.wall.saturating_sub(starved);
    // A little is lost between the end of its time and the look.
    let deprived = own < limit * PATIENCE * 9 / 10 || busy && starved.is_zero();
    match second.end {
        End::TimedOut if (deprived || busy) && second.cpu < limit => None,
        End::TimedOut if deprived && second.cpu < second.wall / 2 => Some(Class::Slow),
        End::TimedOut | End::OverLimit(Limit::Cpu) => Some(Class::Hang),
        _ if second.cpu >= limit => Some(Class::Slow),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a run of so many seconds, on so many of the processor, so many of them
    /// without one; five are allowed.
    fn came(end: End, [wall, cpu, starved]: [u64; 3], busy: bool) -> Option<Class> {
        let seconds = Duration::from_secs;
        let seen = Observation {
            end,
            wall: seconds(wall),
            cpu: seconds(cpu),
            ..Observation::not_started(String::new())
        };
        confirm(&seen, seconds(5), seconds(starved), busy)
    }

    #[test]
    fn a_busy_machine_is_no_hang() {
        // It waited for something that did not come, or turned in a loop.
        assert_eq!(came(End::TimedOut, [30, 0, 0], false), Some(Class::Hang));
        assert_eq!(came(End::TimedOut, [30, 30, 0], true), Some(Class::Hang));
        assert_eq!(came(End::TimedOut, [30, 3, 27], false), None);
        assert_eq!(came(End::TimedOut, [30, 3, 0], true), None);
        assert_eq!(came(End::Exit(0), [30, 6, 0], true), Some(Class::Slow));
        assert_eq!(came(End::Exit(0), [30, 1, 0], false), None);
    }

    /// What needed 18 s of a processor and got a fifth of one was once called a hang.
    #[test]
    fn a_small_share_of_a_processor_is_no_proof() {
        assert_eq!(came(End::TimedOut, [30, 6, 24], true), Some(Class::Slow));
        assert_eq!(came(End::TimedOut, [30, 6, 0], true), Some(Class::Slow));
        // All its time, though it took twice as long for it to come.
        assert_eq!(came(End::TimedOut, [60, 29, 30], true), Some(Class::Hang));
    }
}
