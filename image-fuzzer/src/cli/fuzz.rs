//! A campaign, or one test of a given seed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::args::{Fuzz, RunArgs};
use super::interrupt::{self, unless_stopped};
use super::ready::Ready;
use super::{FAILED, FAULTS, OK, complain};
use crate::campaign::log_test;
use crate::campaign::store::CampaignConfig;
use crate::campaign::{Campaign, Plan, default_workers, fresh};
use crate::commands::{Command, Programs, given};
use crate::exec::{End, GAP, Limits};
use crate::input::case::Maker;
use crate::input::mutate::{FieldSelection, Intensity};
use crate::input::recipe::Recipe;
use crate::named_file::NamedFile;
use crate::oracle::end_word;
use crate::oracle::runner::{Outcome, Settings, TestRunner};
use crate::output::{self, counted};
use crate::triage::minimise::Budget;

/// Runs what was asked for.
pub(super) fn run(args: &Fuzz) -> Result<u8> {
    let settings = settings(&args.run, &args.test_dir)?;
    let mut campaign = Campaign {
        dir: args.test_dir.clone(),
        seed: args.campaign_seed.clone(),
        plan: Plan {
            commands: commands(args, &settings.programs)?,
            selection: args.config.clone(),
            intensity: args.intensity.unwrap_or_else(|| {
                let selection = args.config.as_ref();
                selection.map_or_else(Intensity::default, FieldSelection::intensity)
            }),
            families: args.family.clone(),
        },
        failing: BTreeSet::new(),
        settings,
        duration: args.duration,
        tests: args.tests,
        workers: workers(args.jobs),
        keep_passed: args.keep_passed,
        verbose: args.verbose,
        budget: Budget::default(),
        status: true,
    };
    // Without a place in memory the scratch folders are there as well.
    std::fs::create_dir_all(&campaign.dir)
        .with_context(|| format!("cannot make '{}'", campaign.dir.display()))?;
    let stop = interrupt::begin(&campaign.dir)?;
    campaign.failing = try_programs(&campaign, &stop)?;
    match &args.seed {
        Some(seed) => one(&campaign, seed, &stop),
        None => many(&campaign, &stop),
    }
}

/// A campaign, until its time is over or the user interrupts it.
fn many(campaign: &Campaign, stop: &Arc<AtomicBool>) -> Result<u8> {
    let last = CampaignConfig::last(&campaign.dir);
    let other = last.map(|last| last.differing(&campaign.plan.asked()));
    if let Some(options) = other.filter(|options| !options.is_empty()) {
        complain(&format!(
            "the last start in '{}' had another {}: the queue and the findings there are of \
             that one too",
            campaign.dir.display(),
            options.join(" and another ")
        ));
    }
    let summary = campaign.run(stop)?;
    let stats = &summary.stats;
    let mut told = format!(
        "{}, {}, {:.0} % opened, {}, {} of findings\n",
        counted(stats.images, "image"),
        counted(stats.commands, "command"),
        stats.opened_percent(),
        counted(stats.messages as u64, "distinct message"),
        counted(summary.groups as u64, "group")
    );
    if summary.groups > 0 {
        let dir = campaign.dir.display();
        told.push_str(&format!(
            "image-fuzzer report {dir} lists them; they are in {dir}/findings\n"
        ));
    }
    if stop.load(Ordering::SeqCst) {
        let dir = campaign.dir.display();
        told.push_str(&format!(
            "interrupted; started again with {dir} it goes on\n"
        ));
    }
    output::print(&told)?;
    if let Some(trouble) = summary.trouble {
        complain(&trouble);
        return Ok(FAILED);
    }
    Ok(if summary.groups > 0 { FAULTS } else { OK })
}

/// Tries the programs, says what is lacking to run them, and warns of given commands that
/// fail on a plain valid image as well, as misspelt ones do: what they say of damaged images
/// tells nothing then. The campaign goes on all the same. Gives the places of these.
///
/// Fails where a program cannot run, or the machine fails.
fn try_programs(campaign: &Campaign, stop: &Arc<AtomicBool>) -> Result<BTreeSet<usize>> {
    let mut ready = Ready::new(&campaign.settings, "-c", stop)?;
    let none = Vec::new();
    let commands = campaign.plan.commands.as_ref();
    let programs = match commands {
        Some(commands) => commands.iter().map(Command::program).collect(),
        None => ["qemu-img", "qemu-io"].into(),
    };
    ready.tools(&programs)?;
    let mut failing = BTreeSet::new();
    for (place, command) in commands.unwrap_or(&none).iter().enumerate() {
        let Some(seen) = ready.on_valid_image(command)? else {
            break;
        };
        if matches!(seen.end, End::Exit(0) | End::TimedOut) {
            continue;
        }
        failing.insert(place);
        let said = String::from_utf8_lossy(&seen.stderr).into_owned();
        let said = said.lines().next().map(|line| format!(": {line}"));
        complain(&format!(
            "'{}' fails on a valid image as well ({}){}",
            command.shell(),
            end_word(&seen.end),
            said.unwrap_or_default()
        ));
    }
    for gap in ready.gaps() {
        complain(&gap);
    }
    Ok(failing)
}

/// One test, from a seed alone; its folder is kept.
fn one(campaign: &Campaign, seed: &str, stop: &Arc<AtomicBool>) -> Result<u8> {
    let mut maker = Maker::default();
    let recipe = fresh(seed, &campaign.plan, &mut maker)?;
    let files = maker.files(&recipe)?;
    let mut runner = TestRunner::new(campaign.settings.clone())?;
    runner.set_stop(Arc::clone(stop));
    let outcome = runner.run(&recipe, &files)?;
    let notes = runner.take_notes();
    // What is lacking was said when the programs were tried.
    for note in notes.iter().filter(|note| !note.starts_with(GAP)) {
        complain(note);
    }
    unless_stopped(stop, || {
        tell(&recipe, &outcome)?;
        let kept = Campaign {
            keep_passed: true,
            verbose: true,
            ..campaign.clone()
        };
        keep(&kept, &recipe, &files, &outcome)?;
        Ok(if outcome.violations.is_empty() {
            OK
        } else {
            FAULTS
        })
    })
}

/// Keeps the one test as `test-0`, or the next number that is free.
fn keep(
    campaign: &Campaign,
    recipe: &Recipe,
    files: &[NamedFile],
    outcome: &Outcome,
) -> Result<()> {
    let free = (0..).find(|number| !campaign.dir.join(format!("test-{number}")).exists());
    let number = free.unwrap_or_default();
    log_test(campaign, number, recipe, true, files, outcome)?;
    let folder = campaign.dir.join(format!("test-{number}"));
    output::line(&format!("kept in {}", folder.display()))
}

/// Says what a test did, command by command.
///
/// Fails where standard output cannot be written.
pub(super) fn tell(recipe: &Recipe, outcome: &Outcome) -> Result<()> {
    let mut told = String::new();
    for ran in &outcome.ran {
        let command = recipe.commands.get(ran.index).map(Command::shell);
        let end = end_word(&ran.seen.end);
        told.push_str(&format!("{}: {end}\n", command.unwrap_or_default()));
        for fault in outcome.violations.iter().filter(|s| s.command == ran.index) {
            told.push_str(&format!("  {}: {}\n", fault.class, fault.summary));
        }
    }
    output::print(&told)
}

/// The given commands, those that cannot run left out with a warning.
fn commands(args: &Fuzz, programs: &Programs) -> Result<Option<Vec<Command>>> {
    if args.command.is_empty() {
        for program in ["qemu-img", "qemu-io"] {
            programs.find(program)?;
        }
        return Ok(None);
    }
    let all = args
        .command
        .iter()
        .flat_map(|given| given.0.clone())
        .collect();
    let mut warnings = Vec::new();
    let kept = given::runnable(all, programs, &mut warnings);
    for warning in &warnings {
        complain(warning);
    }
    if kept.is_empty() {
        bail!("none of the commands can be run");
    }
    Ok(Some(kept))
}

/// How programs are run.
pub(super) fn settings(args: &RunArgs, fallback: &std::path::Path) -> Result<Settings> {
    let programs = Programs::from_env()?;
    let compare_with = match &args.compare_with {
        None => None,
        Some(words) => {
            let words = words.0.iter().map(Into::into).collect();
            let other = programs.with_qemu_img(words);
            other.find("qemu-img")?;
            Some(other)
        }
    };
    Ok(Settings {
        programs,
        compare_with,
        limits: Limits {
            wall: args.timeout,
            // Of a thread that spins the clock is to be seen first: then it is looked at.
            cpu: (args.timeout * 2).max(Duration::from_secs(1)),
            memory: args.memory << 20,
            disk_growth: args.disk << 20,
            ..Limits::default()
        },
        fork_server: !args.no_fork_server,
        sandbox: !args.no_sandbox,
        readable: args.readable.clone(),
        fallback: fallback.to_owned(),
    })
}

/// How many workers there are.
fn workers(jobs: Option<u16>) -> usize {
    jobs.map_or_else(default_workers, usize::from)
}
