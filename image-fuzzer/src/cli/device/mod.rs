//! `device`: a campaign on a device of an emulator; and what other subcommands do with the work
//! folders and findings of such campaigns.

mod replay;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::device_args::{DeviceArgs, EmulatorArgs};
use super::interrupt;
use super::{FINDINGS, OK, print_message};
use crate::commands::build;
use crate::device::campaign::{Campaign, Outcome, run as run_campaign};
use crate::device::machine::{Machine, Wanted};
use crate::device::{InputLimits, store};
use crate::input::guard::GuardPlan;
use crate::output::{self, counted, duration};
use crate::path::find_program;

pub(super) use replay::{is_finding, minimise, reproduce};
pub(super) use report::{is_work_folder, report};

/// The emulator, where neither an option nor the environment names one.
const EMULATOR: &str = "qemu-system-x86_64";

impl EmulatorArgs {
    /// The emulator's file.
    fn program(&self) -> Result<PathBuf> {
        let named = self.qemu.clone();
        let named = named.or_else(|| std::env::var_os("QEMU_PROG").map(PathBuf::from));
        let name = match named {
            None => EMULATOR.into(),
            Some(folder) if folder.is_dir() => build::find(&folder, EMULATOR)
                .with_context(|| format!("--qemu '{}'", folder.display()))?,
            Some(program) => program,
        };
        find_program(&name)
            .and_then(|path| path.canonicalize())
            .with_context(|| format!("cannot run '{}'; --qemu names the emulator", name.display()))
    }

    fn limits(&self) -> InputLimits {
        InputLimits {
            time: self.input_timeout,
            memory: self.emulator_memory << 20,
        }
    }
}

/// Runs a campaign.
///
/// # Errors
///
/// The device or the work folder cannot be used.
pub(super) fn run(args: &DeviceArgs) -> Result<u8> {
    let machine = Machine::new(
        &args.emulator.program()?,
        &Wanted {
            name: args.name.as_deref(),
            args: args.args.as_deref(),
            objects: args.objects.as_deref(),
            format: args.format.as_deref(),
            readable: &args.allow_read,
        },
    )?;
    let dir = args.dir.clone();
    let dir = dir.unwrap_or_else(|| format!("image-fuzzer.{}", machine.name).into());
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create '{}'", dir.display()))?;
    let stop = interrupt::begin(&dir)?;
    let guard = args.guard.unwrap_or(GuardPlan::Off);
    let guard = guard.draw(&args.campaign_seed);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let campaign = Campaign {
        dir: &dir,
        machine: &machine,
        workers: args.jobs.map_or(processors, usize::from),
        duration: args.duration,
        inputs: args.inputs,
        until_groups: args.until.or(args.exit_on_finding.then_some(1)),
        seed: args.campaign_seed.clone(),
        sandbox: !args.emulator.no_emulator_sandbox,
        guard,
        coverage: !args.no_coverage,
        structure: !args.no_structure,
        mutated: args.mutate,
        limits: args.emulator.limits(),
        say: &print_message,
    };
    let outcome = run_campaign(&campaign, &stop)?;
    print_summary(&dir, &outcome)?;
    Ok(if outcome.groups > 0 { FINDINGS } else { OK })
}

/// The last lines of a campaign.
fn print_summary(dir: &Path, outcome: &Outcome) -> Result<()> {
    let totals = outcome.totals;
    output::line(&format!(
        "{} in {}, {:.0} a second; {} in the queue; {} reached",
        counted(totals.inputs, "input"),
        duration(totals.seconds),
        outcome.inputs_per_second,
        counted(outcome.queue as u64, "input"),
        counted(outcome.blocks as u64, "block"),
    ))?;
    for (folder, finding) in store::findings(dir)? {
        let state = report::state(&finding);
        output::line(&format!("{}{state}: {}", finding.key, folder.display()))?;
    }
    let groups = outcome.groups as u64;
    output::line(&match groups {
        0 => "no findings".to_owned(),
        _ => format!("{} in {}", counted(groups, "group"), dir.display()),
    })
}

/// A file that is to be made and is not there yet.
fn fresh(path: PathBuf) -> Result<PathBuf> {
    if path.exists() {
        bail!("'{}' exists; name another with --output", path.display());
    }
    Ok(path)
}
