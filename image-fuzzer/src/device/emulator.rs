//! One emulator that runs inputs, one behind the other, with a reset of the machine between.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result};
use qtest::{Client, Guest, Op};

use super::disk::DiskImage;
use super::host::changes_machine;
use super::machine::Machine;
use super::monitor::Monitor;
use super::program::{Program, Step};
use crate::exec::End;
use crate::exec::process::{Process, Start};
use crate::exec::recorded::RecordedBlocks;
use crate::input::guard::Guard;

/// How emulators are started, and what they may use.
#[derive(Clone)]
pub struct Setup<'a> {
    /// What is fuzzed.
    pub machine: &'a Machine,
    /// The folder that they run in, which has what [`Machine::prepare`] writes.
    pub scratch: &'a Path,
    /// The image that the disk begins with, where it has one.
    pub image: Option<DiskImage>,
    /// Whether they run in a sandbox.
    pub sandbox: bool,
    /// The guarding allocator that they run under.
    pub guard: Option<Guard>,
    /// What they may use.
    pub limits: InputLimits,
}

/// What an input may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputLimits {
    /// Time for one input; one that takes longer hangs.
    pub time: Duration,
    /// Resident memory of the emulator, in bytes.
    pub memory: u64,
}

impl Default for InputLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(2),
            memory: 1 << 30,
        }
    }
}

/// What came of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ran {
    /// All was done.
    Done,
    /// The emulator ended by itself.
    Ended {
        /// How.
        end: End,
        /// What it printed on its standard error.
        stderr: Vec<u8>,
    },
    /// It did not answer in time. It still runs.
    Hung,
    /// It uses more memory than it may: so many bytes. It still runs.
    Memory(u64),
}

/// As many bytes of its standard error as are kept.
const STDERR_KEPT: usize = 64 << 10;

/// An emulator whose standard error is longer than this is started anew.
const STDERR_LONGEST: u64 = 8 << 20;

/// The longest block that is read or filled by one step, in bytes: what a trace from elsewhere
/// asks for beyond that is the protocol's business, not a device's.
const LONGEST_BLOCK: u64 = 64 << 20;

/// How long the monitor may take to answer.
const MONITOR_LIMIT: Duration = Duration::from_secs(20);

/// An emulator that runs.
pub struct Emulator {
    process: Process,
    guest: Guest,
    scratch: PathBuf,
    monitor: Option<Monitor>,
    limits: InputLimits,
    /// How many inputs it has run.
    inputs: u64,
    /// Whether a command of the monitor changed the machine.
    is_changed: bool,
    /// How many lines it had answered before the last one.
    lines_before: u64,
}

/// The memory that drivers use, in bytes: less than any machine here has.
const DRIVER_MEMORY: u64 = 64 << 20;

/// The socket of the monitor, in the folder that the emulator runs in.
const MONITOR: &str = "qmp";

impl Emulator {
    /// Starts one, with the disk as it is in the beginning.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(setup: &Setup<'_>, blocks: Option<&RecordedBlocks<'_>>) -> Result<Self> {
        let machine = setup.machine;
        machine.prepare(setup.scratch, setup.image.as_ref())?;
        // It is left by one that was killed.
        let _ = std::fs::remove_file(setup.scratch.join(MONITOR));
        let mut args = machine.args.clone();
        let monitor = format!("unix:{MONITOR},server=on,wait=off");
        let connect = ["-qtest", "stdio", "-qtest-log", "none", "-qmp", &monitor];
        args.extend(connect.map(str::to_owned));
        let (process, stdin, output) = Process::start(&Start {
            program: &machine.program,
            args: &args,
            scratch: setup.scratch,
            readable: &machine.readable,
            sandbox: setup.sandbox,
            guard: setup.guard,
            blocks,
        })?;
        let mut emulator = Self {
            process,
            guest: Guest::new(Client::new(output, stdin), DRIVER_MEMORY),
            scratch: setup.scratch.to_owned(),
            monitor: None,
            limits: setup.limits,
            inputs: 0,
            is_changed: false,
            lines_before: 0,
        };
        if let Err(why) = emulator.guest.run(Op::Endianness) {
            emulator.process.kill();
            let said = emulator.process.stderr(STDERR_KEPT);
            let said = String::from_utf8_lossy(&said);
            let said = said.trim();
            let hint = match said.contains("Permission denied") && setup.sandbox {
                true => "; --allow-read names a folder that it may read",
                false => "",
            };
            anyhow::bail!(
                "'{}' does not start: {}{hint}",
                machine.program.display(),
                if said.is_empty() {
                    why.to_string()
                } else {
                    said.replace('\n', "; ")
                }
            );
        }
        Ok(emulator)
    }

    /// The machine, as drivers use it.
    pub fn guest(&mut self) -> &mut Guest {
        self.process.deadline().set(MONITOR_LIMIT);
        &mut self.guest
    }

    /// How many inputs it has run.
    #[must_use]
    pub fn inputs(&self) -> u64 {
        self.inputs
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Its resident memory, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.process.memory()
    }

    /// Whether it is better started anew: it printed much, or the monitor changed the machine.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.is_changed || self.process.stderr_len() > STDERR_LONGEST
    }

    /// What the human monitor prints for a line.
    ///
    /// # Errors
    ///
    /// There is no answer.
    pub fn ask(&mut self, line: &str) -> Result<String> {
        let printed = self.monitor().and_then(|it| it.human(line));
        printed.with_context(|| format!("the monitor's answer to '{line}'"))
    }

    /// Its monitor, to which a connection is made when it is needed first.
    fn monitor(&mut self) -> io::Result<&mut Monitor> {
        if self.monitor.is_none() {
            // The path of a socket has little room: the folder is named by a descriptor.
            let folder = File::open(&self.scratch)?;
            let path = format!("/proc/self/fd/{}/{MONITOR}", folder.as_raw_fd());
            let socket = UnixStream::connect(path)?;
            self.monitor = Some(Monitor::new(socket, MONITOR_LIMIT)?);
        }
        self.monitor
            .as_mut()
            .ok_or_else(|| ErrorKind::NotConnected.into())
    }

    /// Runs an input and resets the machine.
    pub fn run(&mut self, program: &Program) -> Ran {
        self.inputs += 1;
        self.run_to(program, |emulator| emulator.reset())
    }

    /// Resets the machine behind what was run without.
    pub fn run_reset(&mut self) -> Ran {
        self.run_to(&Program::default(), |emulator| emulator.reset())
    }

    /// Runs an input and lets devices do what they put off, without a reset.
    pub fn run_alone(&mut self, program: &Program) -> Ran {
        self.inputs += 1;
        self.run_to(program, |emulator| emulator.guest.client().settle())
    }

    fn run_to(
        &mut self,
        program: &Program,
        end: impl FnOnce(&mut Self) -> Result<(), qtest::Error>,
    ) -> Ran {
        self.lines_before = self.guest.client().lines();
        self.process.deadline().set(self.limits.time);
        let done = self.steps(&program.steps).and_then(|()| end(self));
        match done {
            Ok(()) => match self.process.memory() {
                memory if memory > self.limits.memory => Ran::Memory(memory),
                _ => Ran::Done,
            },
            Err(why) => self.failed(&why),
        }
    }

    /// What of the last input was not answered: the access, without the value. Crashes at the same
    /// place of a device are often one.
    pub fn place(&mut self, program: &Program) -> String {
        let answered = self.guest.client().lines() - self.lines_before;
        let mut left = usize::try_from(answered).unwrap_or(usize::MAX);
        for step in &program.steps {
            let lines = match step {
                Step::Op(op, _) if is_for_devices(op) => 1,
                Step::Reset => 3,
                _ => 0,
            };
            if left < lines {
                let text = step.to_string();
                let words: Vec<&str> = text.split(' ').take(2).collect();
                return words.join(" ");
            }
            left -= lines;
        }
        "reset".into()
    }

    fn reset(&mut self) -> Result<(), qtest::Error> {
        self.guest.client().reset()
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), qtest::Error> {
        let mut ops = Vec::with_capacity(steps.len());
        for step in steps {
            match step {
                Step::Op(op, _) if is_for_devices(op) => ops.push(op.clone()),
                Step::Op(..) => {}
                Step::Reset => {
                    self.guest.client().run_all(&std::mem::take(&mut ops))?;
                    self.reset()?;
                }
                Step::Monitor(line) => {
                    self.guest.client().run_all(&std::mem::take(&mut ops))?;
                    // What the monitor refuses is no finding. Whether the emulator is gone shows
                    // in the next operation.
                    let is_done = self.monitor().and_then(|it| it.give(line));
                    self.is_changed |= is_done.unwrap_or(true) && changes_machine(line);
                }
            }
        }
        self.guest.client().run_all(&ops).map(drop)
    }

    fn failed(&mut self, why: &qtest::Error) -> Ran {
        if !why.is_closed() {
            return Ran::Hung;
        }
        let end = match self.process.wait() {
            Ok(status) => end_of(status),
            Err(why) => End::NotStarted(why.to_string()),
        };
        let stderr = self.process.stderr(STDERR_KEPT);
        Ran::Ended { end, stderr }
    }
}

/// Whether an operation is one on ports or memory, of a length that a machine has.
fn is_for_devices(op: &Op) -> bool {
    match op {
        Op::In { .. } | Op::Out { .. } | Op::Read { .. } | Op::Write { .. } => true,
        Op::WriteBlock { .. } | Op::Endianness => true,
        Op::ReadBlock { length, .. } | Op::Fill { length, .. } => *length <= LONGEST_BLOCK,
        Op::ClockStep { .. } | Op::InterceptIn { .. } | Op::InterceptOut { .. } => false,
    }
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exit(code),
        (None, Some(signal)) => End::Signal(signal),
        (None, None) => End::Stopped,
    }
}
