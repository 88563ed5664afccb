//! A campaign, or one test of a given seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

use super::args::FuzzArgs;
use super::interrupt::{self, unless_stopped};
use super::program_check::ProgramCheck;
use super::{FAILED, FINDINGS, OK, USAGE, print_message};
use crate::campaign::{
    Campaign, CampaignConfig, LoggedTest, Plan, SweepMode, TestLog, default_workers, fresh, sweep,
    sweep_recipe,
};
use crate::commands::{Command, Programs, given};
use crate::exec::blocks::ProgramBlocks;
use crate::exec::{End, GAP, cannot_guard};
use crate::input::guard::GuardPlan;
use crate::input::recipe::Recipe;
use crate::input::sweep::Sweep;
use crate::oracle::end_word;
use crate::oracle::runner::{Outcome, TestRunner};
use crate::output::{self, counted};
use crate::triage::minimise::Budget;
use image_mutations::base::Formats;
use image_mutations::case::Maker;
use image_mutations::edit::{Edit, Mutation};
use image_mutations::mutate::{FieldSelection, Intensity};
use image_mutations::named_file::NamedFile;

/// Runs a campaign, or a single test.
///
/// # Errors
///
/// The work folder cannot be used, or a program cannot be run.
pub(super) fn run(args: &FuzzArgs) -> Result<u8> {
    let formats = formats(args);
    let selection = args.config.as_deref();
    let selection = selection.map(|text| FieldSelection::for_formats(text, &formats));
    let selection = match selection.transpose() {
        Ok(selection) => selection,
        Err(why) => {
            print_message(&format!(
                "--config '{}': {why:#}",
                args.config.as_deref().unwrap_or("")
            ));
            return Ok(USAGE);
        }
    };
    let mut settings = args.run.settings(args.qemu.as_deref(), &args.test_dir)?;
    // The fork server notes them, and a single test has no use for them.
    if !args.no_coverage && !args.run.no_fork_server && args.seed.is_none() {
        settings.blocks = Some(ProgramBlocks::new(args.cover.clone()).into());
    }
    let mode = match (args.sweep_only, args.no_sweep) {
        (true, _) => SweepMode::Only,
        (_, true) => SweepMode::Off,
        _ => SweepMode::Mixed,
    };
    let mut campaign = Campaign {
        dir: args.test_dir.clone(),
        seed: args.campaign_seed.clone(),
        plan: Plan {
            formats,
            commands: commands(args, &settings.programs)?,
            intensity: args.intensity.unwrap_or_else(|| {
                let selection = selection.as_ref();
                selection.map_or_else(Intensity::default, FieldSelection::intensity)
            }),
            selection,
            families: args.family.clone(),
            guard: args.guard.unwrap_or_default(),
        },
        sweep: mode,
        failing: BTreeSet::new(),
        feedback: args.feedback.unwrap_or_default(),
        settings,
        duration: args.duration,
        tests: args.tests,
        workers: args.jobs.map_or_else(default_workers, usize::from),
        keep_passed: args.keep_passed,
        verbose: args.verbose,
        budget: Budget::default(),
        status: args.status.unwrap_or_default(),
        command_line: command_line(),
        programs: BTreeMap::new(),
        until_groups: args.until.or(args.exit_on_finding.then_some(1)),
        fleet: args.fleet(),
    };
    if args.list {
        return list(&campaign.plan);
    }
    // Where they cannot be in memory, the scratch folders are there too.
    std::fs::create_dir_all(&campaign.dir)
        .with_context(|| format!("cannot create '{}'", campaign.dir.display()))?;
    let stop = interrupt::begin(&campaign.dir)?;
    let checked = check_programs(&campaign, args.force, &stop)?;
    campaign.failing = checked.failing;
    campaign.settings.must_refuse |= checked.are_readers;
    campaign.programs = checked.versions;
    match &args.seed {
        Some(seed) => run_test(&campaign, seed, &stop),
        None => run_campaign(&campaign, &stop),
    }
}

/// Lists the tests of the sweep.
fn list(plan: &Plan) -> Result<u8> {
    let sweep = sweep(plan, SweepMode::Only)?;
    for index in 0..sweep.as_ref().map_or(0, Sweep::len) {
        let sweep = sweep.as_ref().context("there is no sweep")?;
        let test = sweep.get(index);
        let recipe = sweep_recipe(sweep, index, plan);
        let (Some(test), Some(recipe)) = (test, recipe) else {
            continue;
        };
        let changes: Vec<String> = recipe.edits.iter().map(change).collect();
        let commands: Vec<String> = recipe.commands.iter().map(Command::shell).collect();
        output::line(&format!(
            "{index}\t{}\t{}\t{}\t{}",
            test.name,
            test.class,
            changes.join(", "),
            commands.join("; ")
        ))?;
    }
    Ok(OK)
}

/// What a mutation changes, in a few words.
fn change(mutation: &Mutation) -> String {
    match &mutation.edit {
        Edit::Set { path, value } => format!("{path}={:#x}", value.0),
        Edit::Text { path, text } => format!("{path}='{text}'"),
        Edit::Extensions { list } => {
            let list = list.iter().map(|extension| {
                format!("{:#x} of {} bytes", extension.magic.0, extension.length.0)
            });
            format!("extensions: {}", list.collect::<Vec<_>>().join(" "))
        }
        Edit::Bytes { at, bytes } => format!("{} bytes at {:#x}", bytes.0.len(), at.0),
        Edit::Length { bytes } => format!("file.length={:#x}", bytes.0),
        Edit::Recompute { what } => format!("recompute {what:?}"),
    }
}

/// The formats that the command line names.
fn formats(args: &FuzzArgs) -> Formats {
    let word = args.format_option.as_ref().unwrap_or(&args.format);
    Formats::named(word).unwrap_or_default()
}

/// Runs a campaign until its time is over or it is interrupted.
fn run_campaign(campaign: &Campaign, stop: &Arc<AtomicBool>) -> Result<u8> {
    let last = CampaignConfig::last(&campaign.dir);
    let differing = last.map(|last| last.differing(&campaign.plan.config()));
    if let Some(options) = differing.filter(|options| !options.is_empty()) {
        print_message(&format!(
            "the previous run in '{}' had a different {}: its queue and findings are kept",
            campaign.dir.display(),
            options.join(" and a different ")
        ));
    }
    let summary = campaign.run(stop)?;
    let stats = &summary.stats;
    let trouble = summary.totals.trouble();
    let findings = match summary.groups {
        // Nothing is known where nothing was opened.
        0 if trouble.is_some() => String::new(),
        0 => ", no findings".to_owned(),
        groups => format!(", {} of findings", counted(groups as u64, "group")),
    };
    let sweep = stats.sweep_text();
    let sweep = sweep.map_or_else(String::new, |text| format!(", {text}"));
    let mut text = format!(
        "{}, {}, {:.0} % opened, {}{findings}{sweep}\n",
        counted(stats.images, "image"),
        counted(stats.commands, "command"),
        stats.opened_percent(),
        counted(stats.messages as u64, "distinct message"),
    );
    if let Some(line) = summary.totals.line() {
        text.push_str(&format!("{line}\n"));
    }
    if let Some(fleet) = &stats.fleet {
        text.push_str(&format!("fleet: {fleet}\n"));
    }
    if stats.suspected > 0 {
        text.push_str(&format!(
            "{} to be confirmed when the campaign is resumed\n",
            counted(stats.suspected as u64, "suspected hang")
        ));
    }
    if summary.groups > 0 {
        let dir = campaign.dir.display();
        text.push_str(&format!(
            "findings are in {dir}/findings; list them with: image-fuzzer report {dir}\n"
        ));
    }
    if stop.load(Ordering::SeqCst) {
        let line = &campaign.command_line;
        text.push_str(&format!("interrupted; resume with: {line}\n"));
    }
    output::print(&text)?;
    if let Some(error) = summary.error {
        print_message(&error);
        return Ok(FAILED);
    }
    if let Some(trouble) = &trouble {
        print_message(trouble);
    }
    Ok(match summary.groups {
        0 if trouble.is_some() => FAILED,
        0 => OK,
        _ => FINDINGS,
    })
}

/// The command line of this process, for a shell.
fn command_line() -> String {
    let words = std::env::args_os().skip(1).map(|word| {
        let word = word.to_string_lossy();
        shlex::try_quote(&word).map_or_else(|_| word.to_string(), Into::into)
    });
    let program = "image-fuzzer".to_owned();
    std::iter::once(program)
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Checks that the programs can be run and that given commands succeed on a valid image, and
/// warns of parts of the sandbox that are missing. Commands that fail, such as misspelt ones,
/// are allowed where `force` is set.
///
/// # Errors
///
/// A program or the scratch folder cannot be used, or a command fails.
fn check_programs(campaign: &Campaign, force: bool, stop: &Arc<AtomicBool>) -> Result<Checked> {
    let mut check = ProgramCheck::new(&campaign.settings, &campaign.plan.formats, "-c", stop)?;
    let none = Vec::new();
    let commands = campaign.plan.commands.as_ref();
    let programs = match commands {
        Some(commands) => commands.iter().map(Command::program).collect(),
        None => ["qemu-img", "qemu-io"].into(),
    };
    let versions = check.tools(&programs)?;
    if let GuardPlan::Always(_) = campaign.plan.guard {
        for program in &programs {
            let path = campaign.settings.programs.find(program)?;
            if let Some(why) = cannot_guard(&path)? {
                print_message(&format!("no guard for '{program}': {why}"));
            }
        }
    }
    let mut failing = BTreeSet::new();
    let mut are_readers = true;
    for (index, command) in commands.unwrap_or(&none).iter().enumerate() {
        let Some(seen) = check.on_valid_image(command)? else {
            break;
        };
        if matches!(seen.end, End::Exit(0) | End::TimedOut) {
            let is_qemu = ["qemu-img", "qemu-io"].contains(&command.program());
            // Nothing is known of those that do not end.
            are_readers = are_readers
                && seen.end == End::Exit(0)
                && (is_qemu || check.refuses_other_files(command)?);
            continue;
        }
        failing.insert(index);
        let stderr = String::from_utf8_lossy(&seen.stderr).into_owned();
        let message = stderr.lines().next().map(|line| format!(": {line}"));
        let problem = format!(
            "'{}' fails on a valid image as well ({}){}",
            command.shell(),
            end_word(&seen.end),
            message.unwrap_or_default()
        );
        // A crash on a valid image is a finding.
        if !force && !matches!(seen.end, End::Signal(_)) {
            bail!("{problem}; correct it, or run it all the same with --force");
        }
        print_message(&problem);
    }
    for gap in check.gaps() {
        print_message(&gap);
    }
    Ok(Checked {
        failing,
        are_readers,
        versions,
    })
}

/// What is known of the given commands.
struct Checked {
    /// The indexes of those that fail on a valid image too: their results on corrupted ones
    /// mean nothing.
    failing: BTreeSet<usize>,
    /// Whether all that succeed refuse other files.
    are_readers: bool,
    /// The programs that tell their version, and what they say.
    versions: BTreeMap<String, String>,
}

/// Runs a single test, made from a seed alone, and keeps its folder.
fn run_test(campaign: &Campaign, seed: &str, stop: &Arc<AtomicBool>) -> Result<u8> {
    let mut maker = Maker::default();
    let recipe = fresh(seed, &campaign.plan, &mut maker)?;
    let files = maker.files(&recipe.base, &recipe.edits)?;
    let mut runner = TestRunner::new(campaign.settings.clone())?;
    runner.set_stop(Arc::clone(stop));
    let outcome = runner.run(&recipe, &files)?;
    let notes = runner.take_notes();
    // What of the sandbox is missing was printed when the programs were checked.
    for note in notes.iter().filter(|note| !note.starts_with(GAP)) {
        print_message(note);
    }
    unless_stopped(stop, || {
        print_outcome(&recipe, &outcome)?;
        keep(&campaign.dir, &recipe, &files, &outcome)?;
        Ok(if outcome.violations.is_empty() {
            OK
        } else {
            FINDINGS
        })
    })
}

/// Keeps the folder of a single test as `test-0`, or with the next free number.
fn keep(dir: &Path, recipe: &Recipe, files: &[NamedFile], outcome: &Outcome) -> Result<()> {
    let free = (0..).find(|number| !dir.join(format!("test-{number}")).exists());
    let number = free.unwrap_or_default();
    let log = TestLog {
        dir,
        keep_passed: true,
        verbose: true,
    };
    let test = LoggedTest {
        number,
        recipe,
        fresh: true,
        files,
        outcome,
    };
    log.log(&test, true)?;
    let folder = dir.join(format!("test-{number}"));
    output::line(&format!("kept in {}", folder.display()))
}

/// Prints the commands of a test, each with its exit status and findings.
///
/// # Errors
///
/// Standard output cannot be written.
pub(super) fn print_outcome(recipe: &Recipe, outcome: &Outcome) -> Result<()> {
    let mut text = String::new();
    for ran in &outcome.ran {
        let command = recipe.commands.get(ran.index).map(Command::shell);
        let end = end_word(&ran.seen.end);
        text.push_str(&format!("{}: {end}\n", command.unwrap_or_default()));
        let violations = outcome.violations.iter();
        for violation in violations.filter(|violation| violation.command == ran.index) {
            text.push_str(&format!("  {}: {}\n", violation.class, violation.summary));
        }
    }
    output::print(&text)
}

/// The given commands; `None` where commands are drawn. Those whose program is not found are
/// left out, with a warning, where that is allowed by `--force`.
///
/// # Errors
///
/// A program is not found, or with `--force` none is.
fn commands(args: &FuzzArgs, programs: &Programs) -> Result<Option<Vec<Command>>> {
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
    let (kept, problems) = given::runnable(all, programs);
    for problem in &problems {
        if !args.force {
            bail!("{problem}; correct it, or leave the command out with --force");
        }
        print_message(&format!("left out: {problem}"));
    }
    if kept.is_empty() {
        bail!("none of the commands can be run; name programs in PATH, or by their path");
    }
    Ok(Some(kept))
}
