//! The executors of the programs that commands name, each made when it is first needed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::blocks::BlockId;
use super::deadline::{Deadline, is_aborted};
use super::{
    BUSY_FACTOR, ExecOptions, Executor, Limits, Observation, Request, TimeoutHandler, for_program,
};
use crate::commands::{Command, Programs};
use crate::input::guard::Guard;
use image_mutations::base::TEST_IMG;

/// What the runs of a pool came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// How many there were.
    pub runs: u64,
    /// Their CPU time.
    pub cpu: Duration,
    /// Whether one was aborted by the deadline or the stop flag: what was seen of it says
    /// nothing.
    pub aborted: bool,
}

/// Executors over one scratch folder: each sees what a program does to it and to its canaries.
///
/// It stays in the thread that made it, as executors do.
pub struct ExecutorPool {
    /// How executors are set up that are not made yet.
    pub options: ExecOptions,
    /// When runs are aborted.
    pub deadline: Deadline,
    /// The name of the image under test in the scratch folder.
    pub image: String,
    /// The guarding allocator that runs are under.
    pub guard: Option<Guard>,
    /// The notes of the executors: no fork server, no sandbox.
    pub notes: Vec<String>,
    /// What the runs came to; to be reset by whoever counts them.
    pub totals: Totals,
    /// The blocks that they reached, as [`Observation::blocks`] has them.
    pub blocks: Vec<BlockId>,
    /// Whether these are to be all that they reach.
    pub trace: bool,
    /// The files of programs, by the name they are called by.
    files: BTreeMap<OsString, PathBuf>,
    executors: BTreeMap<PathBuf, Box<dyn Executor>>,
}

impl ExecutorPool {
    /// A pool without executors, which will be set up as `options` say.
    pub fn new(options: ExecOptions) -> Self {
        Self {
            options,
            deadline: Deadline::default(),
            image: TEST_IMG.to_owned(),
            guard: None,
            notes: Vec::new(),
            totals: Totals::default(),
            blocks: Vec::new(),
            trace: false,
            files: BTreeMap::new(),
            executors: BTreeMap::new(),
        }
    }

    /// The file of the program that runs `command` of `programs`, which is looked for once,
    /// and the request to run it in the scratch folder.
    ///
    /// # Errors
    ///
    /// There is no such program.
    pub fn request(
        &mut self,
        programs: &Programs,
        command: &Command,
    ) -> Result<(PathBuf, Request)> {
        let argv = programs.argv(command, &self.image);
        let name = argv.first().map_or(OsStr::new(""), OsString::as_os_str);
        let file = match self.files.get(name) {
            Some(file) => file.clone(),
            None => {
                let file = programs.find(command.program())?;
                self.files.insert(name.to_owned(), file.clone());
                file
            }
        };
        let mut request = Request::new(argv, &self.options.scratch);
        request.guard = self.guard;
        request.trace = self.trace;
        Ok((file, request))
    }

    /// Runs `command` of `programs` once, on what is in the scratch folder. A run that the
    /// deadline cuts short is not inspected.
    ///
    /// # Errors
    ///
    /// There is no such program, or no executor can be made for it.
    pub fn run(
        &mut self,
        programs: &Programs,
        command: &Command,
        limits: Limits,
        mut handler: TimeoutHandler<'_>,
    ) -> Result<Observation> {
        let (program, mut request) = self.request(programs, command)?;
        request.limits = limits;
        let shortened = self.deadline.shorten(&mut request.limits);
        // The deadline does not wait for a fair share.
        let longest = request.limits.wall * BUSY_FACTOR;
        handler.excuse_starvation &= self.deadline.left() >= longest;
        self.totals.runs += 1;
        let executor = self.executor(&program)?;
        let mut seen = if shortened {
            executor.run(&request)
        } else {
            executor.run_with(&request, handler)
        };
        let notes = executor.take_notes();
        self.notes.extend(notes);
        self.blocks.append(&mut seen.blocks);
        self.totals.cpu += seen.cpu;
        self.totals.aborted |= is_aborted(&seen.end, shortened);
        Ok(seen)
    }

    /// The executor of a program.
    fn executor(&mut self, program: &Path) -> Result<&mut dyn Executor> {
        if !self.executors.contains_key(program) {
            let executor = for_program(program, &self.options)?;
            self.executors.insert(program.to_owned(), executor);
        }
        match self.executors.get_mut(program) {
            Some(executor) => Ok(&mut **executor),
            None => anyhow::bail!("no executor for '{}'", program.display()),
        }
    }
}
