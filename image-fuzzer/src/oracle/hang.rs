//! The program did not exit in time. Whether it hangs or is slow is found out by a second
//! run with a longer limit; where it hangs, by its stack.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::shell::Script;
use super::{Class, Oracle, Verdict, Violation};
use crate::commands::{Command, Programs};
use crate::exec::deadline::Deadline;
use crate::exec::debuggers::DebuggerPool;
use crate::exec::pool::ExecutorPool;
use crate::exec::{End, Limit, Limits, Observation, TimeoutHandler, machine_is_busy, starved};
use crate::signature::{DEPTH, Signature, Stack};

/// How many times its limits a second run may use.
const SECOND_RUN_FACTOR: u32 = 6;

/// The oracle.
pub(super) struct Hang;

impl Oracle for Hang {
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

/// Variables of a script in which a program may take [`SECOND_RUN_FACTOR`] times its time.
pub(super) fn time_limit(limits: &Limits) -> String {
    let seconds = limits.wall.as_secs().max(1) * u64::from(SECOND_RUN_FACTOR);
    format!("limit={seconds}\nbefore=\"timeout -k 1 $limit\"\n")
}

/// The signature of a hang at this place, as far as its stack tells it.
pub(super) fn signature(stack: &Stack) -> Option<Signature> {
    stack.key(DEPTH).map(|frames| Signature::Hang(Some(frames)))
}

/// The inspection of a run that does not exit in time: where it is.
pub(super) struct Inspection<'a> {
    debuggers: &'a mut DebuggerPool,
    folder: PathBuf,
    deadline: Deadline,
    stack: Option<Stack>,
}

impl<'a> Inspection<'a> {
    /// An inspection by debuggers that may work in `folder`.
    pub(super) fn new(
        debuggers: &'a mut DebuggerPool,
        folder: PathBuf,
        deadline: Deadline,
    ) -> Self {
        Self {
            debuggers,
            folder,
            deadline,
            stack: None,
        }
    }

    /// Samples the stack of process `pid`.
    pub(super) fn inspect(&mut self, pid: i32) {
        let timeout = self.deadline.left();
        self.stack = self.debuggers.sample(pid, &self.folder, timeout);
    }

    /// The stack at which the run was killed because its time was over.
    pub(super) fn stack(self) -> Option<Stack> {
        self.stack
    }
}

/// The violation where `found` is at the place of a known hang, which was waited for once.
pub(super) fn assume(found: Violation) -> Violation {
    Violation {
        summary: format!("{}, at the place of a known hang", found.summary),
        assumed: true,
        ..found
    }
}

/// Runs `command` again for longer and finds out whether it hangs, as `found` says, or is
/// slow; `None` when it was the machine that was slow, or the second run was aborted.
///
/// # Errors
///
/// The command cannot be run.
pub(super) fn confirm(
    executors: &mut ExecutorPool,
    programs: &Programs,
    command: &Command,
    limits: &Limits,
    found: Violation,
) -> Result<Option<Violation>> {
    let longer = Limits {
        wall: limits.wall * SECOND_RUN_FACTOR,
        cpu: limits.cpu * SECOND_RUN_FACTOR,
        ..limits.clone()
    };
    let mut waited = Duration::ZERO;
    let handler = TimeoutHandler {
        inspect_early: None,
        excuse_starvation: true,
        inspect: Some(&mut |pid| {
            waited = starved(pid);
            false
        }),
    };
    let second = executors.run(programs, command, longer, handler)?;
    if executors.totals.aborted {
        return Ok(None);
    }
    let class = classify(&second, limits.wall, waited, machine_is_busy());
    Ok(class.map(|class| Violation {
        class,
        summary: summary(class, &second),
        // A slow run is somewhere else in every sample.
        signature: if class == Class::Slow {
            Signature::verb(command.group_verb())
        } else {
            found.signature
        },
        ..found
    }))
}

/// What happened in the second run, in a sentence.
fn summary(class: Class, second: &Observation) -> String {
    let seconds = second.wall.as_secs_f64();
    match class {
        Class::Slow if second.end != End::TimedOut => format!("ended after {seconds:.0} s"),
        Class::Slow => format!(
            "still running after {seconds:.0} s, {:.0} s of them on a processor",
            second.cpu.as_secs_f64()
        ),
        _ => format!("still running after {seconds:.0} s"),
    }
}

/// The class after a second run with [`SECOND_RUN_FACTOR`] times the limits. A run that then
/// exits was slow if it used more CPU time than `limit`; else the machine was busy with
/// something else.
///
/// One that does not exit hangs if it had all of its time. The time that it was ready to run
/// and had no processor (`starved`) was not its own, though a busy machine may not tell it of
/// each process: one that used little CPU time may have waited for another process, and one
/// that used much may have been about to exit.
fn classify(second: &Observation, limit: Duration, starved: Duration, busy: bool) -> Option<Class> {
    let own = second.wall.saturating_sub(starved);
    // A little is lost between the end of its time and the look.
    let deprived = own < limit * SECOND_RUN_FACTOR * 9 / 10 || busy && starved.is_zero();
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
        classify(&seen, seconds(5), seconds(starved), busy)
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
