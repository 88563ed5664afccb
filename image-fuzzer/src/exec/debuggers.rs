//! The debuggers that tell crashes and hangs apart, each started when it is first needed.
//! Without gdb crashes are grouped by their signal, and hangs by their command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Debugger, ExecOptions, Request, Sampler};
use crate::signature::{Frames, Stack};

/// Debuggers, by program, and the crashes that they have been asked about.
#[derive(Default)]
pub struct DebuggerPool {
    /// The frames that name crashes, by program and place ([`Observation::crash`]).
    ///
    /// [`Observation::crash`]: super::Observation::crash
    pub crashes: BTreeMap<(PathBuf, u64), Frames>,
    debuggers: BTreeMap<PathBuf, Option<Debugger>>,
    sampler: Option<Sampler>,
}

impl DebuggerPool {
    /// The stack at the signal that ends the run of `program` that `request` asks for; `None`
    /// without a debugger, when no signal comes, or it takes longer than `timeout`.
    pub fn crash_stack(
        &mut self,
        program: &Path,
        request: &Request,
        options: &ExecOptions,
        timeout: Duration,
    ) -> Option<Stack> {
        if !self.debuggers.contains_key(program) {
            let debugger = Debugger::new(program, options).ok();
            self.debuggers.insert(program.to_owned(), debugger);
        }
        let debugger = self.debuggers.get_mut(program)?.as_mut()?;
        debugger.stack(request, timeout)
    }

    /// The stack of process `pid`, which goes on afterwards; `None` without a debugger, or
    /// when it takes longer than `timeout`. `folder` is for the debugger to work in.
    pub fn sample(&mut self, pid: i32, folder: &Path, timeout: Duration) -> Option<Stack> {
        if self.sampler.is_none() {
            self.sampler = Sampler::new(folder).ok();
        }
        self.sampler.as_mut()?.stack(pid, folder, timeout)
    }
}
