//! What an emulator's end means: which group of findings it belongs to.

use std::path::Path;
use std::time::Duration;

use super::emulator::{Emulator, Ran};
use super::machine::Machine;
use super::program::{Program, Step};
use crate::commands::Command;
use crate::exec::debuggers::DebuggerPool;
use crate::exec::{End, ExecOptions, Limits, Observation, Request, sanitizer};
use crate::oracle::{self, Class};
use crate::signature::{DEPTH, DEPTH_EXACT, Signature, Stack, message};
use crate::triage::Key;

/// A violation, as far as it is known without a debugger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its group.
    pub key: Key,
    /// What happened, in a sentence.
    pub summary: String,
}

/// What came of an input as a violation; `None` where all is well. An emulator that a guest has
/// turned off exits with 0.
#[must_use]
pub fn judge(machine: &Machine, ran: &Ran) -> Option<Failure> {
    match ran {
        Ran::Done => None,
        Ran::Hung => Some(Failure {
            key: Key {
                class: Class::Hang,
                signature: Signature::verb(machine.name.clone()),
            },
            summary: "no answer in time".into(),
        }),
        Ran::Memory(bytes) => Some(Failure {
            key: Key {
                class: Class::ResourceUse,
                signature: Signature::aspect("memory", machine.name.clone()),
            },
            summary: format!("{} MiB of memory in use", bytes >> 20),
        }),
        Ran::Ended { end, stderr } => ended(end, stderr),
    }
}

fn ended(end: &End, stderr: &[u8]) -> Option<Failure> {
    let seen = Observation {
        end: end.clone(),
        stderr: stderr.to_vec(),
        sanitizer: sanitizer::report_in(stderr).map(<[u8]>::to_vec),
        ..Observation::not_started(String::new())
    };
    if let Some(violation) = oracle::judge(&Command(Vec::new()), 0, &seen) {
        return Some(Failure {
            key: Key::of(&violation),
            summary: violation.summary,
        });
    }
    let End::Exit(status @ 1..) = *end else {
        return None;
    };
    // A device that gives up ends the whole machine.
    let said = String::from_utf8_lossy(stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    let last = last.unwrap_or("no diagnostic output");
    Some(Failure {
        key: Key {
            class: Class::Crash,
            signature: Signature::Failure {
                kind: "exit".into(),
                text: message::normalise(last),
            },
        },
        summary: format!("exit {status}: {last}"),
    })
}

/// What gdb may take for one stack.
const STACK_LIMIT: Duration = Duration::from_secs(40);

/// Looks at stacks, for which an input is run again, or the process that hangs is looked at.
pub struct Namer<'a> {
    machine: &'a Machine,
    /// The folder that the emulator runs in.
    scratch: &'a Path,
    sandbox: bool,
    debuggers: DebuggerPool,
}

impl<'a> Namer<'a> {
    /// For the findings of one worker.
    #[must_use]
    pub fn new(machine: &'a Machine, scratch: &'a Path, sandbox: bool) -> Self {
        Self {
            machine,
            scratch,
            sandbox,
            debuggers: DebuggerPool::default(),
        }
    }

    /// The stack at the crash that an input ends in, run from the start; `None` without a
    /// debugger, or where it does not crash.
    pub fn crash_stack(&mut self, program: &Program) -> Option<Stack> {
        let words = self.machine.args.iter().map(String::as_str);
        let more = ["-qtest", "stdio", "-qtest-log", "none"];
        let argv = ["qemu"].into_iter().chain(words).chain(more);
        let mut request = Request::new(argv.map(Into::into).collect(), self.scratch);
        // A reset behind an input may be what it crashes in.
        let text = format!("{program}{}\n", Step::Reset);
        request.stdin = Some(text.into_bytes());
        request.limits = Limits {
            memory: 4 << 30,
            ..Limits::default()
        };
        let options = ExecOptions {
            fork_server: false,
            sandbox: self.sandbox,
            readable: self.machine.readable.clone(),
            ..ExecOptions::new(self.scratch)
        };
        self.debuggers
            .crash_stack(&self.machine.program, &request, &options, STACK_LIMIT)
    }

    /// Where an emulator hangs.
    pub fn hang_stack(&mut self, emulator: &Emulator) -> Option<Stack> {
        let folder = self.scratch.join("gdb");
        std::fs::create_dir_all(&folder).ok()?;
        self.debuggers.sample(emulator.pid(), &folder, STACK_LIMIT)
    }
}

/// The group of a failure with this stack.
#[must_use]
pub fn with_stack(key: &Key, stack: Option<&Stack>) -> Key {
    let Some(stack) = stack else {
        return key.clone();
    };
    let depth = if stack.is_exact() { DEPTH_EXACT } else { DEPTH };
    let signature = match (&key.signature, stack.key(depth)) {
        (Signature::Signal { .. }, Some(frames)) => key.signature.clone().at(frames),
        (_, frames @ Some(_)) if key.class == Class::Hang => Signature::Hang(frames),
        (other, _) => other.clone(),
    };
    Key {
        class: key.class,
        signature,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(end: End, stderr: &str) -> Option<String> {
        ended(&end, stderr.as_bytes()).map(|it| it.key.to_string())
    }

    #[test]
    fn how_an_emulator_ends_is_judged() {
        let assertion = "qemu-system-x86_64: ../hw/scsi/lsi53c895a.c:614: lsi_do_dma: \
                         Assertion `s->current' failed.\n";
        assert_eq!(
            key(End::Signal(6), assertion).unwrap(),
            "crash: assertion: lsi53c895a.c: lsi_do_dma: s->current"
        );
        assert_eq!(key(End::Signal(11), "").unwrap(), "crash: SIGSEGV");
        assert_eq!(key(End::Exit(0), "anything"), None);
        assert_eq!(
            key(End::Exit(1), "warning: x\nqemu: cannot go on at 0x1234\n\n").unwrap(),
            "crash: exit: qemu: cannot go on at N"
        );
        let report = "==7==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x1\n    \
                      #0 0x1 in nvme_rw /src/hw/nvme/ctrl.c:9\n";
        assert!(
            key(End::Exit(1), report)
                .unwrap()
                .starts_with("sanitizer: heap-buffer-overflow")
        );
    }
}
