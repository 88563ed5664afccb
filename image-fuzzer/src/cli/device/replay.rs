//! `reproduce` and `minimise` for traces.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::fresh;
use crate::cli::args::ReplayArgs;
use crate::cli::device_args::EmulatorArgs;
use crate::cli::interrupt::{self, unless_stopped};
use crate::cli::{FINDINGS, OK};
use crate::device::campaign::frames;
use crate::device::disk::DiskImage;
use crate::device::judge::{Failure, Namer, with_stack};
use crate::device::machine::{Machine, Wanted};
use crate::device::program::Program;
use crate::device::replay::{Replayer, is_same};
use crate::device::store::{self, FINDING, Finding, TRACE, finding, read_trace};
use crate::device::{InputLimits, Setup, report};
use crate::exec::process;
use crate::input::guard::Guard;
use crate::oracle::Class;
use crate::output;
use crate::triage::Key;

/// How long a trace is made smaller.
const BUDGET: Duration = Duration::from_secs(600);

/// Whether a folder is that of a device's finding, or a file is a trace.
pub(in crate::cli) fn is_finding(path: &Path) -> bool {
    path.join(TRACE).is_file() && path.join(FINDING).is_file()
}

/// Runs the traces of findings again.
///
/// # Errors
///
/// One is damaged, or its emulator does not start.
pub(in crate::cli) fn reproduce(folders: &[PathBuf]) -> Result<u8> {
    let scratch = tempfile::tempdir().context("cannot make a folder")?;
    let stop = interrupt::begin(scratch.path())?;
    let mut all = OK;
    for folder in folders {
        let (finding, program) = (finding(folder)?, read_trace(&folder.join(TRACE))?);
        let setup = Setup {
            machine: &finding.machine,
            scratch: scratch.path(),
            image: DiskImage::of_finding(folder, finding.machine.format.as_deref())?,
            sandbox: true,
            guard: finding.guard,
            limits: InputLimits::default(),
        };
        let (failure, _) = Replayer::new(&setup, &stop).fresh(&program)?;
        let line = match failure {
            Some(it) if is_same(&it.key, &finding.key) => format!("reproduced: {}", finding.key),
            Some(it) => {
                all = FINDINGS;
                format!("not reproduced, but another finding: {}", it.key)
            }
            None => {
                all = FINDINGS;
                format!("not reproduced: {}", finding.key)
            }
        };
        output::line(&line)?;
        if all == OK && !finding.stack.is_empty() {
            let frames = finding.stack.iter().enumerate();
            let text: String = frames.map(|(n, frame)| format!("#{n} {frame}\n")).collect();
            output::print(&format!("stack:\n{text}"))?;
        }
    }
    unless_stopped(&stop, || Ok(all))
}

/// Makes the trace of a finding smaller, or one from elsewhere for which the arguments of the
/// emulator are given.
///
/// # Errors
///
/// The trace cannot be read, shows nothing, or the emulator does not start.
pub(in crate::cli) fn minimise(args: &ReplayArgs) -> Result<u8> {
    let scratch = tempfile::tempdir().context("cannot make a folder")?;
    let stop = interrupt::begin(scratch.path())?;
    let Some(given) = args.device_args.as_deref() else {
        let found = finding(&args.dir)?;
        let program = read_trace(&args.dir.join(TRACE))?;
        let image = DiskImage::of_finding(&args.dir, found.machine.format.as_deref())?;
        let job = Job {
            args: &args.emulator,
            machine: &found.machine,
            guard: found.guard,
            scratch: scratch.path(),
            image,
            stop: &stop,
        };
        let made = job.run(&program, Some(&found.key))?;
        return job.write(&args.dir, found.clone(), &program, made);
    };
    let program = read_trace(&args.dir)?;
    let output = args.output.clone().unwrap_or_else(|| {
        let mut name = args.dir.clone().into_os_string();
        name.push(".minimised");
        name.into()
    });
    let output = fresh(output)?;
    let machine = Machine::new(
        &args.emulator.program()?,
        &Wanted {
            name: Some("trace"),
            args: Some(given),
            readable: &args.run.allow_read,
            ..Wanted::default()
        },
    )?;
    let job = Job {
        args: &args.emulator,
        machine: &machine,
        guard: None,
        scratch: scratch.path(),
        image: None,
        stop: &stop,
    };
    let made = job.run(&program, None)?;
    let version = process::ask(&machine.program, &["--version"]).unwrap_or_default();
    let found = Finding {
        key: made.key.clone(),
        summary: made.failure.summary.clone(),
        machine: machine.clone(),
        confirmed: true,
        minimised: made.is_done,
        hits: 1,
        stack: Vec::new(),
        guard: None,
        version: version.lines().next().unwrap_or_default().to_owned(),
    };
    job.write(&output, found, &program, made)
}

/// One trace that is made smaller.
struct Job<'a> {
    args: &'a EmulatorArgs,
    machine: &'a Machine,
    guard: Option<Guard>,
    scratch: &'a Path,
    image: Option<DiskImage>,
    stop: &'a AtomicBool,
}

/// What came of it.
struct Made {
    failure: Failure,
    key: Key,
    program: Program,
    stack: Vec<String>,
    is_done: bool,
}

impl Job<'_> {
    fn run(&self, program: &Program, wanted: Option<&Key>) -> Result<Made> {
        let setup = Setup {
            machine: self.machine,
            scratch: self.scratch,
            image: self.image.clone(),
            sandbox: !self.args.no_emulator_sandbox,
            guard: self.guard,
            limits: self.args.limits(),
        };
        let mut replayer = Replayer::new(&setup, self.stop);
        let (failure, emulator) = replayer.fresh(program)?;
        drop(emulator);
        let Some(failure) = failure else {
            bail!("the trace shows nothing: the emulator went on")
        };
        if let Some(wanted) = wanted
            && !is_same(&failure.key, wanted)
        {
            bail!("the trace shows another finding: {}", failure.key);
        }
        let smallest = replayer.minimise(program, &failure.key, BUDGET)?;
        let smallest = smallest.context("the trace does not show it every time")?;
        drop(replayer);
        let mut namer = Namer::new(self.machine, self.scratch, setup.sandbox);
        let stack = match failure.key.class {
            Class::Crash => namer.crash_stack(&smallest.program),
            _ => None,
        };
        Ok(Made {
            key: with_stack(&failure.key, stack.as_ref()),
            failure,
            program: smallest.program,
            stack: frames(stack.as_ref()),
            is_done: smallest.is_done,
        })
    }

    fn write(&self, folder: &Path, found: Finding, before: &Program, made: Made) -> Result<u8> {
        let found = Finding {
            minimised: made.is_done,
            key: match found.key.signature.lacks_stack() {
                true => made.key,
                false => found.key.clone(),
            },
            stack: if made.stack.is_empty() {
                found.stack.clone()
            } else {
                made.stack
            },
            ..found
        };
        report::write(folder, &found, &made.program, self.image.as_ref())?;
        let steps = |program: &Program| program.steps.len();
        let how = if made.is_done { "" } else { ", not finished" };
        output::line(&format!(
            "{}: {} of {} steps in {}{how}",
            found.key,
            steps(&made.program),
            steps(before),
            folder.join(store::TRACE).display()
        ))?;
        unless_stopped(self.stop, || Ok(OK))
    }
}
