//! Runs a test: the recipe's image, its commands, the oracles.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use image_formats::Store;

use super::check::{Health, check, health};
use super::readers::{MAX_DISK, SecondReader, convert, shown_in};
use super::subject::Subject;
use super::timeout::{TimeBudgets, TimeoutPolicy};
use super::uninitialised::{self, Trace};
use super::{
    Class, KnownHangs, Probe, Verdict, Violation, accepted_invalid, data_change, disagreement,
    end_word, external_access, false_repair, format_change, hang, judge, metadata_damage,
    violation, wrong_data,
};
use crate::commands::adapted;
use crate::commands::{Command, Programs};
use crate::exec::blocks::{BlockId, ProgramBlocks};
use crate::exec::deadline::Deadline;
use crate::exec::debuggers::DebuggerPool;
use crate::exec::pool::{ExecutorPool, Totals};
use crate::exec::scratch::Scratch;
use crate::exec::stopwatch::{Purpose, Stopwatch};
use crate::exec::{End, ExecOptions, Limits, Observation, TimeoutHandler, cannot_guard, sanitizer};
use crate::input::guard::Guard;
use crate::input::recipe::Recipe;
use crate::signature::message::features;
use crate::signature::{self, DEPTH, DEPTH_EXACT, Frames, Signature, Stack};
use image_mutations::base::Base;
use image_mutations::edit::Edit;
use image_mutations::named_file::{MOST_BYTES, NamedFile};

/// The name of the image as the test has it, next to what commands made of it.
const PRISTINE: &str = "pristine.qcow2";

/// When an image was last modified that no command has written to.
const PRISTINE_TIME: SystemTime = SystemTime::UNIX_EPOCH;

/// How tests are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The programs that commands name.
    pub programs: Programs,
    /// A reader to compare with.
    pub compare_with: Option<SecondReader>,
    /// Whether programs other than QEMU's are readers that must refuse what the format's
    /// specification says.
    pub must_refuse: bool,
    /// What one command may use.
    pub limits: Limits,
    /// Whether a fork server is tried.
    pub fork_server: bool,
    /// Whether programs run in a sandbox.
    pub sandbox: bool,
    /// Whether programs that were built with a sanitizer report leaks.
    pub leaks: bool,
    /// More folders that they may read there.
    pub readable: Vec<PathBuf>,
    /// Folders with debug files, besides `/usr/lib/debug`.
    pub debug_folders: Vec<PathBuf>,
    /// Where scratch folders go when there is no `/dev/shm`.
    pub fallback: PathBuf,
    /// The blocks of programs, where those that tests reach are to be noted.
    pub blocks: Option<Arc<ProgramBlocks>>,
}

impl Settings {
    /// The default way to run `programs`: in the sandbox, by the fork server, compared with
    /// none; scratch folders are in memory or else in `fallback`.
    pub fn new(programs: Programs, fallback: &Path) -> Self {
        Self {
            programs,
            compare_with: None,
            must_refuse: false,
            limits: Limits::default(),
            fork_server: true,
            sandbox: true,
            leaks: false,
            readable: Vec::new(),
            debug_folders: Vec::new(),
            fallback: fallback.to_owned(),
            blocks: None,
        }
    }

    /// These settings with what a finding of `class` needs to be reproduced.
    #[must_use]
    pub fn to_reproduce(mut self, class: Option<Class>) -> Self {
        self.must_refuse |= class == Some(Class::AcceptedInvalid);
        self
    }
}

/// One command of a test and what was seen of it.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its index in the recipe.
    pub index: usize,
    /// What was seen.
    pub seen: Observation,
    /// Whether it got past opening the image.
    pub opened: bool,
}

/// A command that may hang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Its index in the recipe.
    pub command: usize,
    /// What the finding would be.
    pub signature: Signature,
}

/// What came of a test.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The commands that ran, in order, those of the oracles not among them.
    pub ran: Vec<Ran>,
    /// How many programs were run, those of the oracles included.
    pub runs: u64,
    /// The CPU time of all these.
    pub cpu: Duration,
    /// What the oracles found, one for each command at most.
    pub violations: Vec<Violation>,
    /// The commands that exceeded their budget under [`TimeoutPolicy::Park`].
    pub suspects: Vec<Suspect>,
    /// Whether the image got past being opened.
    pub opened: bool,
    /// The features of what the commands printed: the feedback.
    pub features: Vec<u64>,
    /// The blocks that its programs reached and no run of any runner did before; in
    /// [`TestRunner::trace_blocks`] all.
    pub blocks: Vec<BlockId>,
}

/// Runs tests, one after another, in a scratch folder of its own.
///
/// It stays in the thread that made it, as executors do.
pub struct TestRunner {
    settings: Settings,
    scratch: Scratch,
    executors: ExecutorPool,
    debuggers: DebuggerPool,
    hangs: KnownHangs,
    /// The guard of the test: that of its commands, not of those of the oracles.
    guard: Option<Guard>,
    budgets: TimeBudgets,
    stopwatch: Stopwatch,
    /// The base image of the test, which the oracles' own commands must open.
    base: Option<Base>,
    /// The files of the test, the image first.
    files: Vec<NamedFile>,
    /// The blocks that were reached first and that nobody asked for.
    reached: Vec<BlockId>,
}

/// What is known of a test between two of its commands.
struct Progress {
    policy: TimeoutPolicy,
    /// Whether an edit may have changed refcounts.
    refcounts_edited: bool,
    /// Whether the image is clean, where that is known.
    clean: Option<bool>,
    /// Whether the image is as the mutations left it.
    untouched: bool,
    /// Whether the data were compared with those that another reader shows.
    compared: bool,
    /// The commands that may hang.
    suspects: Vec<Suspect>,
}

/// What the oracles need to know from before a command runs.
struct Before {
    /// Whether the image's metadata is checked around the command.
    checked: bool,
    /// Whether the image was found clean.
    clean: bool,
    /// Whether the image is still the test's: what it was like can be found out afterwards,
    /// where that matters.
    pristine: bool,
    /// Whether the guest's data was copied, to be compared with.
    remembered: bool,
    /// What the other program makes of the command.
    compared: Option<Observation>,
    /// Whether the image was taken for raw, which a guest must not change.
    raw: bool,
}

impl TestRunner {
    /// A test runner with a scratch folder and no program started yet.
    ///
    /// # Errors
    ///
    /// There is no place for a scratch folder.
    pub fn new(settings: Settings) -> Result<Self> {
        let scratch = Scratch::new(&settings.fallback)?;
        let options = ExecOptions {
            fork_server: settings.fork_server,
            sandbox: settings.sandbox,
            leaks: settings.leaks,
            readable: settings.readable.clone(),
            blocks: settings.blocks.clone(),
            ..ExecOptions::new(scratch.work())
        };
        Ok(Self {
            settings,
            scratch,
            executors: ExecutorPool::new(options),
            debuggers: DebuggerPool::default(),
            hangs: KnownHangs::default(),
            guard: None,
            budgets: TimeBudgets::default(),
            stopwatch: Stopwatch::default(),
            base: None,
            files: Vec::new(),
            reached: Vec::new(),
        })
    }

    /// Aborts commands that still run soon after `end`, whatever their limits.
    pub fn set_end(&mut self, end: Option<Instant>) {
        self.executors.deadline = Deadline(end);
    }

    /// Aborts commands that still run when `stop` becomes true. To be called before the
    /// first of them.
    pub fn set_stop(&mut self, stop: Arc<AtomicBool>) {
        self.executors.options.stop = Some(stop);
    }

    /// Shares what is known of hangs with others.
    pub fn share_hangs(&mut self, hangs: &KnownHangs) {
        self.hangs = hangs.clone();
    }

    /// Shares the budgets of commands with others.
    pub fn share_budgets(&mut self, budgets: &TimeBudgets) {
        self.budgets = budgets.clone();
    }

    /// Takes in that a suspect did not hang: the place where it was seen is not one of hangs
    /// alone.
    pub fn acquit(&mut self, suspect: &Suspect) {
        self.hangs.doubt(&suspect.signature);
    }

    /// Whether a command of the last test was aborted by these: what was seen of it says
    /// nothing.
    pub fn is_aborted(&self) -> bool {
        self.executors.totals.aborted
    }

    /// What its time goes into.
    pub fn stopwatch(&mut self) -> &mut Stopwatch {
        &mut self.stopwatch
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The notes of the executors since the last call: no fork server, no sandbox.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.executors.notes)
    }

    /// The folder that commands work in, as the last test left it.
    pub fn work(&self) -> PathBuf {
        self.scratch.work()
    }

    /// Runs a test under [`TimeoutPolicy::Confirm`].
    ///
    /// # Errors
    ///
    /// As those of [`run_with`](Self::run_with).
    pub fn run(&mut self, recipe: &Recipe, files: &[NamedFile]) -> Result<Outcome> {
        self.run_with(recipe, files, TimeoutPolicy::Confirm)
    }

    /// Runs a test.
    ///
    /// # Errors
    ///
    /// Those of the machine, such as no space or a missing program; what a program does is no
    /// error.
    pub fn run_with(
        &mut self,
        recipe: &Recipe,
        files: &[NamedFile],
        policy: TimeoutPolicy,
    ) -> Result<Outcome> {
        self.executors.totals = Totals::default();
        let stray = std::mem::take(&mut self.executors.blocks);
        self.reached.extend(stray);
        self.base = Some(recipe.base.clone());
        self.guard = recipe.guard;
        self.fill(files)?;
        let mut edits = recipe.edits.iter();
        let mut progress = Progress {
            policy,
            refcounts_edited: edits.any(|mutation| changes_refcounts(&mutation.edit)),
            clean: None,
            untouched: true,
            compared: false,
            suspects: Vec::new(),
        };
        let subject = Subject::new(recipe, files);
        let mut outcome = Outcome::default();
        for (index, command) in recipe.commands.iter().enumerate() {
            if recipe.fresh_copies && index > 0 {
                self.fill(files)?;
                progress.clean = None;
                progress.untouched = true;
            }
            let (seen, violation) = self.step(command, index, &subject, &mut progress)?;
            let suspected = progress.suspects.len() > outcome.suspects.len();
            outcome.suspects.clone_from(&progress.suspects);
            let failed = suspected || violation.is_some();
            outcome.violations.extend(violation);
            outcome.add(command, index, seen);
            // What follows a violation on the same image tells nothing new.
            if self.is_aborted() || failed && !recipe.fresh_copies {
                break;
            }
        }
        if let Some(guard) = recipe.guard.filter(|guard| guard.compare)
            // What was accepted may have been accepted for want of memory that was written.
            && (outcome.violations.iter()).all(|it| it.class == Class::AcceptedInvalid)
            && outcome.suspects.is_empty()
            && !self.is_aborted()
            && recipe.commands.iter().any(|it| self.can_guard(it))
        {
            let violation = self.compare_fills(recipe, files, guard)?;
            outcome
                .violations
                .extend(violation.filter(|_| !self.is_aborted()));
        }
        outcome.runs = self.executors.totals.runs;
        outcome.cpu = self.executors.totals.cpu;
        outcome.blocks = std::mem::take(&mut self.executors.blocks);
        self.reached.extend_from_slice(&outcome.blocks);
        Ok(outcome)
    }

    /// Runs the commands of a test without any oracle, and gives all the blocks that they
    /// reach, each once.
    ///
    /// # Errors
    ///
    /// As those of [`run_with`](Self::run_with).
    pub fn trace_blocks(&mut self, recipe: &Recipe, files: &[NamedFile]) -> Result<Vec<BlockId>> {
        let stray = std::mem::take(&mut self.executors.blocks);
        self.reached.extend(stray);
        self.executors.trace = true;
        let mut run = || {
            for (index, command) in recipe.commands.iter().enumerate() {
                if index == 0 || recipe.fresh_copies {
                    self.fill(files)?;
                }
                self.start(command)?;
            }
            anyhow::Ok(())
        };
        let ran = run();
        self.executors.trace = false;
        let mut blocks = std::mem::take(&mut self.executors.blocks);
        ran?;
        blocks.sort_unstable();
        blocks.dedup();
        Ok(blocks)
    }

    /// The blocks that were reached first since the last call: by tests and by all else, as when
    /// an image was minimised. No other run gives them again.
    pub fn take_reached(&mut self) -> Vec<BlockId> {
        std::mem::take(&mut self.reached)
    }

    /// Whether the program of `command` can have the guarding allocator: without it there is
    /// no fill byte, and nothing to compare.
    fn can_guard(&mut self, command: &Command) -> bool {
        let request = self.executors.request(&self.settings.programs, command);
        request.is_ok_and(|(program, _)| matches!(cannot_guard(&program), Ok(None)))
    }

    /// Runs the commands with both fill bytes of a guard, and judges what differs.
    fn compare_fills(
        &mut self,
        recipe: &Recipe,
        files: &[NamedFile],
        guard: Guard,
    ) -> Result<Option<Violation>> {
        /// How often each byte is tried where they seem to differ.
        const TIMES: usize = 5;
        let guards = [guard, guard.complement()];
        let (mut one, mut two) = (Vec::new(), Vec::new());
        for time in 0..TIMES {
            one.push(self.trace(recipe, files, guards[0])?);
            two.push(self.trace(recipe, files, guards[1])?);
            if self.is_aborted() || time == 0 && one == two {
                return Ok(None);
            }
        }
        // One list for each command, of the times that it was reached in.
        let by_command = |times: Vec<Vec<Trace>>| {
            let mut commands: Vec<Vec<Trace>> = Vec::new();
            for (index, trace) in times
                .into_iter()
                .flat_map(|time| time.into_iter().enumerate())
            {
                commands.resize_with(commands.len().max(index + 1), Vec::new);
                commands[index].push(trace);
            }
            commands
        };
        let pairs = by_command(one).into_iter().zip(by_command(two));
        let mut judged = recipe.commands.iter().zip(pairs).enumerate();
        Ok(judged.find_map(|(index, (command, (one, two)))| {
            let complete = one.len() == TIMES && two.len() == TIMES;
            let verdict = complete.then(|| uninitialised::judge(command, &one, &two, guard.fill));
            verdict.flatten().map(|verdict| violation(verdict, index))
        }))
    }

    /// Runs the commands under a guard, without any oracle, and gives what was seen of them, up
    /// to the first that was cut off or does things in no fixed order.
    fn trace(&mut self, recipe: &Recipe, files: &[NamedFile], guard: Guard) -> Result<Vec<Trace>> {
        let mut traces = Vec::new();
        let ordered = recipe
            .commands
            .iter()
            .take_while(|it| uninitialised::is_ordered(it));
        for (index, command) in ordered.enumerate() {
            if index == 0 || recipe.fresh_copies {
                self.fill(files)?;
            }
            let seen = self.under(Some(guard), |runner| runner.start(command))?;
            self.stopwatch.lap(Purpose::Fills);
            let trace = Trace::new(&seen, &self.work())
                .context("cannot read what a command left in the scratch folder")?;
            match trace {
                Some(trace) => traces.push(trace),
                None => break,
            }
        }
        Ok(traces)
    }

    /// Does something whose runs are under a guard.
    fn under<T>(&mut self, guard: Option<Guard>, act: impl FnOnce(&mut Self) -> T) -> T {
        self.executors.guard = guard;
        let done = act(self);
        self.executors.guard = None;
        done
    }

    /// Runs one command with all oracles around it.
    fn step(
        &mut self,
        command: &Command,
        index: usize,
        subject: &Subject<'_>,
        progress: &mut Progress,
    ) -> Result<(Observation, Option<Violation>)> {
        let before = self.prepare(command, subject, progress)?;
        let policy = progress.policy;
        let (seen, stack) = self.under(self.guard, |runner| runner.observe(command, policy))?;
        let found = judge(command, index, &seen);
        let mut violation = found.filter(|it| !external_access::is_of_guest(it, subject));
        if self.is_aborted() {
            violation = None;
        } else if progress.policy.inspects()
            && let Some(mut found) = violation.take_if(|found| found.class == Class::Hang)
        {
            if let Some(hang) = stack.as_ref().and_then(hang::signature) {
                found.signature = hang;
            }
            if progress.policy == TimeoutPolicy::Park {
                return Ok((seen, self.park(command, found, progress)));
            }
            violation = self.confirm_hang(command, found)?;
        }
        if violation.is_none() {
            violation = self.judge_image(command, index, &seen, before, subject, progress);
        }
        progress.untouched &= !command.may_touch();
        Ok((seen, violation))
    }

    /// Does what the oracles need done before `command` runs.
    fn prepare(
        &mut self,
        command: &Command,
        subject: &Subject<'_>,
        progress: &mut Progress,
    ) -> Result<Before> {
        // What is written to an image of another format may be anywhere.
        let checked = command.is_qemu_writer() && subject.is_opened_as_made(command);
        let pristine = checked && progress.clean.is_none() && self.is_pristine();
        if checked && !pristine && progress.clean.is_none() {
            progress.clean = Some(health(self) == Health::Clean);
        }
        let clean = progress.clean == Some(true);
        Ok(Before {
            checked,
            clean,
            pristine,
            remembered: clean && command.keeps_data() && self.remember_data(),
            compared: self.compare(command)?,
            raw: format_change::concerns(command, subject)
                && format_change::probed(self).is_some_and(|format| format == "raw"),
        })
    }

    /// Runs a command of the test; where it does not exit in time, the stack it is at then.
    fn observe(
        &mut self,
        command: &Command,
        policy: TimeoutPolicy,
    ) -> Result<(Observation, Option<Stack>)> {
        let mut limits = self.settings.limits.clone();
        limits.wall = policy.limit(limits.wall);
        if policy == TimeoutPolicy::Park {
            limits.wall = limits.wall.min(self.budgets.of(command));
        }
        // At the end of its CPU time the kernel ends a program before it can be inspected;
        // the clock is to be first even where two threads spin.
        limits.cpu = limits.cpu.max(limits.wall * 2);
        let programs = &self.settings.programs;
        if !policy.inspects() {
            let handler = TimeoutHandler::default();
            let seen = self.executors.run(programs, command, limits, handler)?;
            self.stopwatch.lap_command(&seen);
            return Ok((seen, None));
        }
        // As long as no hang is known, a debugger has nothing to compare with.
        let samples = policy == TimeoutPolicy::Confirm || !self.hangs.is_empty();
        let mut inspection = hang::Inspection::new(
            &mut self.debuggers,
            self.scratch.debugger(),
            self.executors.deadline,
        );
        let handler = TimeoutHandler {
            inspect_early: None,
            // A short budget is no more than a processor's time.
            excuse_starvation: policy == TimeoutPolicy::Park,
            inspect: Some(&mut |pid| {
                if samples {
                    inspection.inspect(pid);
                }
                true
            }),
        };
        let seen = self.executors.run(programs, command, limits, handler)?;
        let stack = inspection.stack();
        if let End::Exit(_) = seen.end {
            self.budgets.exited(command, seen.wall);
        }
        self.stopwatch.lap_command(&seen);
        Ok((seen, stack))
    }

    /// The violation where what exceeded its budget is at the place of a known hang; else it is
    /// noted among the suspects.
    fn park(
        &self,
        command: &Command,
        found: Violation,
        progress: &mut Progress,
    ) -> Option<Violation> {
        if self.hangs.is_sure(&found.signature) {
            return Some(hang::assume(found));
        }
        self.budgets.exceeded(command);
        progress.suspects.push(Suspect {
            command: found.command,
            signature: found.signature,
        });
        progress.clean = None;
        None
    }

    /// Finds out whether what did not exit in time hangs or is slow; `None` when it was the
    /// machine that was slow.
    fn confirm_hang(&mut self, command: &Command, found: Violation) -> Result<Option<Violation>> {
        let Settings {
            programs, limits, ..
        } = &self.settings;
        let confirmed = hang::confirm(&mut self.executors, programs, command, limits, found)?;
        self.stopwatch.lap(Purpose::Hangs);
        if let Some(hang) = confirmed.as_ref().filter(|it| it.class == Class::Hang) {
            self.hangs.insert(hang.signature.clone());
        }
        Ok(confirmed)
    }

    /// Asks the oracles that look at what the command did to the image, or made of it.
    fn judge_image(
        &mut self,
        command: &Command,
        index: usize,
        seen: &Observation,
        before: Before,
        subject: &Subject<'_>,
        progress: &mut Progress,
    ) -> Option<Violation> {
        let mut verdict = external_access::judge_probed(command, seen, subject)
            .or_else(|| false_repair::judge(command, seen, self));
        if verdict.is_none() && before.raw {
            verdict = format_change::judge(command, seen, self);
        }
        // Of what failed nothing is asked, but where it was made to.
        let succeeded = match seen.end {
            End::Exit(status) => status == 0 || command.injects_errors(),
            _ => false,
        };
        let looks = verdict.is_none() && before.checked && succeeded;
        if looks && (before.clean || before.pristine) {
            let after = health(self);
            let name = self.files.first().map(|file| file.name.clone());
            let image = self.work().join(name.unwrap_or_default());
            let edited = progress.refcounts_edited;
            verdict = metadata_damage::judge(command, seen, &after, &image, edited);
            progress.clean = Some(after == Health::Clean);
        } else if before.clean || command.verb() == "qemu-img check -r" {
            progress.clean = None;
        }
        if before.pristine && looks {
            let changed = verdict.is_none() && command.keeps_data() && self.differs_from_pristine();
            if !((verdict.is_some() || changed) && self.was_clean()) {
                verdict = None;
            } else if changed {
                verdict = self.judge_data(command);
            }
        }
        if verdict.is_none() && before.remembered {
            verdict = data_change::judge(command, seen, self);
        }
        if verdict.is_none()
            && let Some(other) = before.compared
            && health(self) == Health::Clean
        {
            verdict = disagreement::judge(command, seen, &other);
        }
        if verdict.is_none() && progress.untouched {
            let are_readers = self.settings.must_refuse;
            verdict = accepted_invalid::judge(command, seen, subject, are_readers)
                .or_else(|| wrong_data::judge(command, seen, subject, &self.scratch.work()));
            if verdict.is_none()
                && seen.end == End::Exit(0)
                && disagreement::shows_probed(command, subject)
            {
                verdict = self.compare_size(command);
            }
            if verdict.is_none() && !progress.compared && !command.reads().is_empty() {
                progress.compared = true;
                verdict = self.compare_data(subject);
            }
        }
        verdict.map(|verdict| violation(verdict, index))
    }

    /// Whether the image is as the test has it, and a copy of it can be opened beside it.
    fn is_pristine(&self) -> bool {
        let copies = self.base.as_ref().is_some_and(|base| match base {
            Base::Qcow2(base) => base.image.encryption.is_none() && base.image.data_file.is_none(),
            Base::Other(_) | Base::Imported(_) => !base.is_encrypted() && self.files.len() == 1,
        });
        let path = self.files.first().map(|file| self.work().join(&file.name));
        let modified = |path| fs::metadata(path).ok()?.modified().ok();
        copies && path.and_then(modified) == Some(PRISTINE_TIME)
    }

    /// Runs an oracle's command on the image as the test has it, which is written next to the
    /// other one.
    fn on_pristine(&mut self, command: &Command) -> End {
        let Some(image) = self.files.first() else {
            return End::NotStarted(String::new());
        };
        let image = image.named(PRISTINE.into());
        match image.write_into(&self.work()) {
            Ok(()) => Probe::run(self, command).end,
            Err(error) => End::NotStarted(error.to_string()),
        }
    }

    /// Whether the image as the test has it is clean.
    fn was_clean(&mut self) -> bool {
        let words = check().0.into_iter();
        let words = words.map(|word| word.replace("$test_img", PRISTINE));
        self.on_pristine(&Command(words.collect())) == End::Exit(0)
    }

    /// Takes a copy of the guest's data; false where that cannot tell what a command changes.
    fn remember_data(&mut self) -> bool {
        let Some(image) = self.files.first() else {
            return false;
        };
        let image = self.work().join(&image.name);
        !data_change::may_name_itself(&image) && data_change::remember(self)
    }

    /// Whether a guest reads something else from the image than from that of the test.
    fn differs_from_pristine(&mut self) -> bool {
        let formats = ["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2"];
        let images = [PRISTINE, "$test_img"];
        let words = formats.into_iter().chain(images).map(str::to_owned);
        self.on_pristine(&Command(words.collect())) == End::Exit(1)
    }

    /// Judges by a copy of the data what `command` does to the image as the test has it.
    fn judge_data(&mut self, command: &Command) -> Verdict {
        self.fill(&self.files.clone()).ok()?;
        if !self.remember_data() {
            return None;
        }
        let seen = self.start(command).ok()?;
        data_change::judge(command, &seen, self)
    }

    /// What the other program makes of a command that only reads.
    fn compare(&mut self, command: &Command) -> Result<Option<Observation>> {
        let Some(SecondReader::QemuImg(programs)) = self.settings.compare_with.clone() else {
            return Ok(None);
        };
        if command.writes() || !command.is_comparable() {
            return Ok(None);
        }
        let seen = self.start_with(&programs, command)?;
        self.stopwatch.lap(Purpose::Comparison);
        Ok(Some(seen))
    }

    /// Compares the size of the disk that `command` converted with the one that `info` tells.
    fn compare_size(&mut self, command: &Command) -> Verdict {
        let told = format_change::told(&Probe::run(self, &format_change::info()))?;
        let len = fs::metadata(self.work().join("out.img")).ok()?.len();
        disagreement::judge_size(command, told, len)
    }

    /// Has both readers show the disk of the image, where the other one is meant to read it.
    fn compare_data(&mut self, subject: &Subject<'_>) -> Verdict {
        let reader = self.settings.compare_with.clone()?;
        let header = &subject.decoded()?.image.layout().header;
        let is_comparable = header.size <= MAX_DISK && header.size % 512 == 0;
        if !is_comparable || !reader.supports(header) {
            return None;
        }
        let own = self.settings.programs.clone();
        let one = self.read_disk(&own, &convert("one.raw"))?;
        let one = shown_in(&one, &self.work().join("one.raw"))?;
        let programs = match &reader {
            SecondReader::QemuImg(programs) => programs.clone(),
            SecondReader::Known(_) => own,
        };
        let other = self.read_disk(&programs, &reader.command())?;
        let other = reader.shown(&other, &self.work())?;
        let verdict = disagreement::judge_data(&reader, one, other)?;
        // What such an entry means is not specified.
        let is_specified = reader.is_equal() || !subject.decoded()?.flags_nothing();
        is_specified.then_some(verdict)
    }

    /// Runs a command that may print a whole disk.
    fn read_disk(&mut self, programs: &Programs, command: &Command) -> Option<Observation> {
        let limits = Limits {
            output: MAX_DISK as usize + 1,
            ..self.settings.limits.clone()
        };
        let handler = TimeoutHandler::default();
        let seen = self.executors.run(programs, command, limits, handler).ok();
        self.stopwatch.lap(Purpose::Comparison);
        seen
    }

    /// Writes the test's files into the scratch folder.
    fn fill(&mut self, files: &[NamedFile]) -> Result<()> {
        self.scratch
            .fill(files)
            .and_then(|()| match files.first() {
                Some(image) => fs::File::options()
                    .write(true)
                    .open(self.work().join(&image.name))?
                    .set_modified(PRISTINE_TIME),
                None => Ok(()),
            })
            .context("cannot write the image into the scratch folder")?;
        if let Some(image) = files.first() {
            self.executors.image.clone_from(&image.name);
        }
        self.files = files.to_vec();
        self.stopwatch.lap(Purpose::Images);
        Ok(())
    }

    /// Runs `command` once.
    fn start(&mut self, command: &Command) -> Result<Observation> {
        let programs = self.settings.programs.clone();
        self.start_with(&programs, command)
    }

    /// Runs `command` of `programs` once, on what is in the scratch folder.
    ///
    /// # Errors
    ///
    /// There is no such program.
    pub fn start_with(&mut self, programs: &Programs, command: &Command) -> Result<Observation> {
        let limits = self.settings.limits.clone();
        let handler = TimeoutHandler::default();
        self.executors.run(programs, command, limits, handler)
    }

    /// The files `names`, as far as they are there, that `commands` make in an empty scratch
    /// folder; `None` where a command fails, the first file is not there, or one is longer
    /// than what is kept of files.
    ///
    /// # Errors
    ///
    /// The scratch folder cannot be used, or there is no such program.
    pub fn make_files(
        &mut self,
        commands: &[Command],
        names: &[&str],
    ) -> Result<Option<Vec<NamedFile>>> {
        self.fill(&[])?;
        for command in commands {
            if self.start(command)?.end != End::Exit(0) {
                return Ok(None);
            }
        }
        let mut files = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let path = self.work().join(name);
            match fs::metadata(&path) {
                Ok(found) if found.len() > MOST_BYTES => return Ok(None),
                Err(_) if index == 0 => return Ok(None),
                Err(_) => continue,
                Ok(_) => {}
            }
            let bytes = fs::read(&path).context("cannot read a file that a command made")?;
            files.push(NamedFile::new(name, &Store::over(Arc::new(bytes))));
        }
        Ok(Some(files))
    }

    /// The first line that one of QEMU's tools prints for `--version`. Other programs are not
    /// run: they may take the option for the name of an image.
    pub fn version(&mut self, program: &str) -> Option<String> {
        if !program.starts_with("qemu-") {
            return None;
        }
        let seen = self.start(&Command::new([program, "--version"]));
        seen.ok()?.first_line()
    }

    /// The variables, with their values, that configure the sanitizers which the program of
    /// `command` was built with.
    pub fn sanitizer_options(&mut self, command: &Command) -> Vec<(&'static str, String)> {
        let request = self.executors.request(&self.settings.programs, command);
        let options = request.map(|(program, _)| sanitizer::options(&program, self.settings.leaks));
        // One that cannot be read has none.
        options.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// The innermost frames at the signal that ended command `index` of the recipe, as they
    /// name groups: those known for the place of this crash, else those that
    /// [`stack`](Self::stack) finds.
    ///
    /// # Errors
    ///
    /// As those of [`stack`](Self::stack).
    pub fn frames_of_crash(
        &mut self,
        recipe: &Recipe,
        files: &[NamedFile],
        outcome: &Outcome,
        index: usize,
    ) -> Result<Option<Frames>> {
        let Some(command) = recipe.commands.get(index) else {
            return Ok(None);
        };
        let (program, _) = self.executors.request(&self.settings.programs, command)?;
        let ran = outcome.ran.iter().find(|ran| ran.index == index);
        let place = ran.and_then(|ran| Some((program, ran.seen.crash?)));
        let crashes = &self.debuggers.crashes;
        if let Some(frames) = place.as_ref().and_then(|place| crashes.get(place)) {
            return Ok(Some(frames.clone()));
        }
        let stack = self.stack(recipe, files, index)?;
        let depth = |stack: &Stack| if stack.is_exact() { DEPTH_EXACT } else { DEPTH };
        let frames = stack.and_then(|stack| stack.key(depth(&stack)));
        if let (Some(place), Some(frames)) = (place, &frames) {
            self.debuggers.crashes.insert(place, frames.clone());
        }
        Ok(frames)
    }

    /// The stack at the signal that ends command `index` of the recipe; `None`
    /// without a debugger, or when no signal comes this time.
    ///
    /// # Errors
    ///
    /// The commands before it cannot be run.
    pub fn stack(
        &mut self,
        recipe: &Recipe,
        files: &[NamedFile],
        index: usize,
    ) -> Result<Option<Stack>> {
        let Some(command) = recipe.commands.get(index) else {
            return Ok(None);
        };
        self.fill(files)?;
        let (program, request) = self.under(recipe.guard, |runner| {
            if !recipe.fresh_copies {
                for before in &recipe.commands[..index] {
                    runner.start(before)?;
                }
            }
            runner.executors.request(&runner.settings.programs, command)
        })?;
        let ExecutorPool {
            options, deadline, ..
        } = &self.executors;
        let debuggers = &mut self.debuggers;
        let stack = debuggers.crash_stack(&program, &request, options, deadline.left());
        self.stopwatch.lap(Purpose::Debugger);
        Ok(stack)
    }
}

impl Probe for TestRunner {
    fn run(&mut self, command: &Command) -> Observation {
        let purpose = if command.0.get(1).is_some_and(|verb| verb == "check") {
            Purpose::Checks
        } else {
            Purpose::Copies
        };
        let command = match &self.base {
            Some(base) => adapted(base, command.clone()),
            None => command.clone(),
        };
        // One that takes longer than a command of its kind says no more.
        let mut limits = self.settings.limits.clone();
        limits.wall = limits.wall.min(self.budgets.of(&command));
        let handler = TimeoutHandler {
            excuse_starvation: true,
            ..TimeoutHandler::default()
        };
        let programs = &self.settings.programs;
        let seen = self.executors.run(programs, &command, limits, handler);
        match &seen {
            Ok(seen) if seen.end == End::TimedOut => self.budgets.exceeded(&command),
            Ok(seen) => self.budgets.exited(&command, seen.wall),
            Err(_) => {}
        }
        self.stopwatch.lap(purpose);
        seen.unwrap_or_else(|why| Observation::not_started(format!("{why:#}")))
    }
}

impl Ran {
    /// Whether the program did its work on the image, or reported an error behind opening it.
    /// One that was not waited for may be opening it still, and one that ended by a signal, or
    /// with the report of a crash, did not: most languages have an ordinary exit status then,
    /// and so have sanitizers.
    pub fn has_opened(&self) -> bool {
        let Observation {
            end,
            stderr,
            sanitizer,
            ..
        } = &self.seen;
        let reported = || {
            let report = sanitizer.as_deref();
            report.is_some_and(|report| signature::sanitizer(report).is_some())
                || signature::failure(stderr).is_some()
        };
        match end {
            End::Exit(0) => self.opened,
            End::Exit(_) => self.opened && !reported(),
            _ => false,
        }
    }
}

impl Outcome {
    /// Whether all commands exited.
    pub fn all_exit(&self) -> bool {
        let exits = |ran: &Ran| matches!(ran.seen.end, End::Exit(_));
        self.ran.iter().all(exits)
    }

    /// Adds what was seen of a command.
    fn add(&mut self, command: &Command, index: usize, seen: Observation) {
        let opened = opened(command, &seen);
        self.opened |= opened;
        let end = end_word(&seen.end);
        self.features
            .extend(features(&command.verb(), &end, &seen.stderr));
        self.ran.push(Ran {
            index,
            seen,
            opened,
        });
    }
}

/// Whether an edit may change refcounts.
fn changes_refcounts(edit: &Edit) -> bool {
    match edit {
        Edit::Set { path, .. } => path.contains("refcount"),
        Edit::Bytes { .. } | Edit::Recompute { .. } => true,
        Edit::Text { .. } | Edit::Extensions { .. } | Edit::Length { .. } => false,
    }
}

/// Whether the program was given the image and got past opening it: it succeeded, or failed
/// with something else than the messages that refuse an image. What crashes often does so
/// behind that, so that such an image is worth more mutations.
fn opened(command: &Command, seen: &Observation) -> bool {
    if !command.0.iter().any(|word| word.contains("$test_img")) {
        return false;
    }
    if matches!(seen.end, End::Exit(0)) {
        return true;
    }
    if seen.cannot_run() {
        return false;
    }
    let stderr = String::from_utf8_lossy(&seen.stderr);
    let refused = stderr.contains("ould not open ") || stderr.contains("can't open");
    !refused
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that panicked on most images once had opened all of them.
    #[test]
    fn an_image_is_opened_where_it_was_neither_refused_nor_crashed_on() {
        let opens = |end, stderr: &str, sanitizer: Option<&str>| {
            let seen = Observation {
                end,
                stderr: stderr.into(),
                sanitizer: sanitizer.map(|report| report.into()),
                ..Observation::not_started(String::new())
            };
            let command = Command::new(["reader", "$test_img"]);
            let opened = opened(&command, &seen);
            Ran {
                index: 0,
                seen,
                opened,
            }
            .has_opened()
        };
        let panic = "thread 'main' panicked at src/main.rs:1:2:\nindex out of bounds\n";
        let report = "==7==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x1\n";
        assert!(opens(End::Exit(0), "", None));
        assert!(opens(
            End::Exit(1),
            "read failed: Input/output error\n",
            None
        ));
        assert!(!opens(End::TimedOut, "", None));
        assert!(!opens(
            End::Exit(1),
            "x: Could not open 'a': Invalid\n",
            None
        ));
        assert!(!opens(End::Exit(127), "", None));
        assert!(!opens(End::Signal(6), "", None));
        assert!(!opens(End::Exit(101), panic, None));
        assert!(!opens(End::Exit(1), "", Some(report)));
        // A sanitizer that only reports lets the program do its work.
        assert!(opens(End::Exit(0), "", Some(report)));
    }
}
