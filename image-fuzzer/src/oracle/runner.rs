//! One test carried out: the recipe's image, its commands, the oracles.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::known_hangs::KnownHangs;
use crate::commands::encrypted::unlocked;
use crate::commands::{Command, Programs};
use crate::exec::scratch::Scratch;
use crate::exec::{
    BUSY_FACTOR, Debugger, End, ExecOptions, Executor, Limits, Look, Observation, Request, Sampler,
    for_program, machine_is_busy, starved,
};
use crate::input::base::{Base, TEST_IMG};
use crate::input::recipe::{Edit, Recipe};
use crate::named_file::NamedFile;
use crate::oracle::check::{Health, health};
use crate::oracle::{
    self, Class, Probe, Violation, data_change, disagreement, false_repair, hang, metadata_damage,
};
use crate::signature::message::features;
use crate::signature::{DEPTH, DEPTH_EXACT, Frames, Signature, Stack};

/// How tests are carried out.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The programs that commands name.
    pub programs: Programs,
    /// Programs to compare with, `qemu-img` being another one there.
    pub compare_with: Option<Programs>,
    /// What one command may use.
    pub limits: Limits,
    /// Whether a fork server is tried.
    pub fork_server: bool,
    /// Whether programs are held in a sandbox.
    pub sandbox: bool,
    /// More folders that they may read there.
    pub readable: Vec<PathBuf>,
    /// Where scratch folders go when the machine has no place in memory.
    pub fallback: PathBuf,
}

/// What a command may take when variations of a known fault are tried.
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// When a command is looked at that takes long, once there are known hangs and a test is
/// only to be counted: one of these need not be waited for.
const EARLY: Duration = Duration::from_millis(1500);

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

/// What came of a test.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The commands that ran, in order, those of the oracles not among them.
    pub ran: Vec<Ran>,
    /// How many programs were run, those of the oracles included.
    pub runs: u64,
    /// The processor time of all these.
    pub cpu: Duration,
    /// What the oracles hold to be faults, one for each command at most.
    pub violations: Vec<Violation>,
    /// Whether the image got past being opened.
    pub opened: bool,
    /// The features of what the commands printed: the feedback.
    pub features: Vec<u64>,
}

/// Carries out tests, one after another, in a scratch folder of its own.
///
/// It stays in the thread that made it, as executors do.
pub struct TestRunner {
    settings: Settings,
    scratch: Scratch,
    /// The files of programs, by the name they are called by.
    found: BTreeMap<OsString, PathBuf>,
    executors: BTreeMap<PathBuf, Box<dyn Executor>>,
    debuggers: BTreeMap<PathBuf, Option<Debugger>>,
    /// The stacks of crashes, as they name groups, by program and place.
    crashes: BTreeMap<(PathBuf, u64), Frames>,
    notes: Vec<String>,
    runs: u64,
    cpu: Duration,
    short_timeout: Option<Duration>,
    counting: bool,
    end: Option<Instant>,
    stop: Option<Arc<AtomicBool>>,
    aborted: bool,
    sampler: Option<Sampler>,
    hangs: KnownHangs,
    /// The base image of the test, which the oracles' own commands must open.
    base: Option<Base>,
}

impl TestRunner {
    /// A test runner with a scratch folder and no program started yet.
    pub fn new(settings: Settings) -> Result<Self> {
        let scratch = Scratch::new(&settings.fallback)?;
        Ok(Self {
            settings,
            scratch,
            found: BTreeMap::new(),
            executors: BTreeMap::new(),
            debuggers: BTreeMap::new(),
            crashes: BTreeMap::new(),
            notes: Vec::new(),
            runs: 0,
            cpu: Duration::ZERO,
            short_timeout: None,
            counting: false,
            end: None,
            stop: None,
            aborted: false,
            sampler: None,
            hangs: KnownHangs::default(),
            base: None,
        })
    }

    /// Ends commands that still run soon after `end`, whatever their limits.
    pub fn set_end(&mut self, end: Option<Instant>) {
        self.end = end;
    }

    /// Ends commands that still run when `stop` becomes true. To be called before the
    /// first of them.
    pub fn set_stop(&mut self, stop: Arc<AtomicBool>) {
        self.stop = Some(stop);
    }

    /// Has it know the hangs that others know, and they those that it finds.
    pub fn share_hangs(&mut self, hangs: &KnownHangs) {
        self.hangs = hangs.clone();
    }

    /// Whether a command of the last test was ended for no other reason than these:
    /// what was seen of it says nothing.
    pub fn is_aborted(&self) -> bool {
        self.aborted
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the executors had to say since the last call: no fork server, no sandbox.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Gives commands a short time, and takes for a hang what does not end in it:
    /// for trying many variations of a known fault.
    pub fn set_short_timeout(&mut self, short_timeout: Option<Duration>) {
        self.short_timeout = short_timeout;
    }

    /// Takes what is at the place of a known hang for that hang, and does not wait for it:
    /// for counting how often it is hit. What is slow there is counted too, so no example
    /// may come of it.
    pub fn set_counting(&mut self, counting: bool) {
        self.counting = counting;
    }

    /// The innermost frames at the signal that ended command `index` of the recipe, as they
    /// name groups: those known for the place of this crash, else those that
    /// [`stack`](Self::stack) finds.
    ///
    /// Fails as that does.
    pub fn frames_of_crash(
        &mut self,
        recipe: &Recipe,
        files: &[NamedFile],
        outcome: &Outcome,
        index: usize,
    ) -> Result<Option<Frames>> {
        let place = match recipe.commands.get(index) {
            Some(command) => {
                let argv = self.settings.programs.argv(command, TEST_IMG);
                let programs = self.settings.programs.clone();
                let program = self.find(&programs, command, &argv)?;
                let ran = outcome.ran.iter().find(|ran| ran.index == index);
                ran.and_then(|ran| Some((program, ran.seen.crash?)))
            }
            None => None,
        };
        if let Some(frames) = place.as_ref().and_then(|place| self.crashes.get(place)) {
            return Ok(Some(frames.clone()));
        }
        let stack = self.stack(recipe, files, index)?;
        let depth = |stack: &Stack| if stack.is_exact() { DEPTH_EXACT } else { DEPTH };
        let frames = stack.and_then(|stack| stack.key(depth(&stack)));
        if let (Some(place), Some(frames)) = (place, &frames) {
            self.crashes.insert(place, frames.clone());
        }
        Ok(frames)
    }

    /// The stack at the signal that ends command `index` of the recipe; `None`
    /// without a debugger, or when no signal comes this time.
    ///
    /// Fails where the commands before it cannot be run.
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
        if !recipe.fresh_copies {
            for before in &recipe.commands[..index] {
                self.start(before, self.settings.limits.clone())?;
            }
        }
        let programs = &self.settings.programs;
        let program = programs.find(command.program())?;
        let request = Request::new(programs.argv(command, TEST_IMG), self.scratch.work());
        if !self.debuggers.contains_key(&program) {
            // Without gdb, crashes are grouped by their signal.
            let debugger = Debugger::new(&program, &self.options()).ok();
            self.debuggers.insert(program.clone(), debugger);
        }
        let within = self.left().unwrap_or(Duration::MAX);
        let debugger = self.debuggers.get_mut(&program).and_then(Option::as_mut);
        Ok(debugger.and_then(|debugger| debugger.stack(&request, within)))
    }

    /// How executors are set up. All have the same scratch folder, and so each sees
    /// what a program does to it and to the canaries beside it.
    fn options(&self) -> ExecOptions {
        let mut options = ExecOptions::new(self.scratch.work());
        options.fork_server = self.settings.fork_server;
        options.sandbox = self.settings.sandbox;
        options.readable.clone_from(&self.settings.readable);
        options.stop.clone_from(&self.stop);
        options
    }

    /// The folder that commands work in, as the last test left it.
    pub fn work(&self) -> PathBuf {
        self.scratch.work()
    }

    /// Carries out a test.
    ///
    /// Fails where the machine does (no space, a program that is not there), not
    /// because of what programs do.
    pub fn run(&mut self, recipe: &Recipe, files: &[NamedFile]) -> Result<Outcome> {
        self.runs = 0;
        self.cpu = Duration::ZERO;
        self.aborted = false;
        self.base = Some(recipe.base.clone());
        let mut outcome = Outcome::default();
        self.fill(files)?;
        let changes_refcounts = recipe
            .edits
            .iter()
            .any(|mutation| changes_refcounts(&mutation.edit));
        let mut fresh = true;
        let mut clean = None;
        for (index, command) in recipe.commands.iter().enumerate() {
            if recipe.fresh_copies && !fresh {
                self.fill(files)?;
                clean = None;
            }
            fresh = false;
            let step = self.step(command, index, clean, changes_refcounts)?;
            clean = step.clean;
            let seen = step.seen;
            let opened = opened(command, &seen);
            outcome.opened |= opened;
            outcome.features.extend(features(
                &command.verb(),
                &oracle::end_word(&seen.end),
                &seen.stderr,
            ));
            let failed = step.violation.is_some();
            outcome.violations.extend(step.violation);
            outcome.ran.push(Ran {
                index,
                seen,
                opened,
            });
            // What follows a fault on the same image tells nothing new.
            if self.aborted || failed && !recipe.fresh_copies {
                break;
            }
        }
        outcome.runs = self.runs;
        outcome.cpu = self.cpu;
        Ok(outcome)
    }

    /// The first line of what one of QEMU's tools says of its version. Other programs are
    /// not asked: they may take the question for the name of an image.
    pub fn version(&mut self, program: &str) -> Option<String> {
        if !program.starts_with("qemu-") {
            return None;
        }
        let limits = self.settings.limits.clone();
        let seen = self.start(&Command::new([program, "--version"]), limits);
        let seen = seen.ok().filter(|seen| seen.end == End::Exit(0))?;
        let words = String::from_utf8_lossy(&seen.stdout).into_owned();
        words.lines().next().map(str::to_owned)
    }

    /// Carries out one command with all oracles around it. `clean` is what is
    /// known of the image's health: nothing, clean or not clean.
    fn step(
        &mut self,
        command: &Command,
        index: usize,
        clean: Option<bool>,
        changes_refcounts: bool,
    ) -> Result<Step> {
        let watched = command.is_qemu_writer();
        let mut clean = clean;
        if watched && clean.is_none() {
            clean = Some(health(self) == Health::Clean);
        }
        let valid = clean == Some(true);
        let remembered = valid && command.keeps_data() && data_change::remember(self);
        let compared = self.compare(command)?;
        let mut limits = self.settings.limits.clone();
        if let Some(short_timeout) = self.short_timeout {
            limits.wall = limits.wall.min(short_timeout);
        }
        let (seen, stack) = self.start_and_look(command, limits)?;
        let mut violation = oracle::judge(command, index, &seen);
        if self.aborted {
            violation = None;
        } else if self.short_timeout.is_none()
            && let Some(mut found) = violation.take_if(|found| found.class == Class::Hang)
        {
            if let Some(stack) = stack {
                found.signature = signature_of_hang(found.signature, &stack);
            }
            violation = self.confirm_hang(command, found)?;
        }
        let mut verdict = None;
        if violation.is_none() {
            verdict = false_repair::judge(command, &seen, self);
            if verdict.is_none() && valid && watched {
                let after = health(self);
                verdict = metadata_damage::judge(command, &seen, &after, changes_refcounts);
                clean = Some(after == Health::Clean);
            } else if watched {
                clean = None;
            }
            if verdict.is_none() && remembered {
                verdict = data_change::judge(command, &seen, self);
            }
            if verdict.is_none()
                && let Some(other) = compared
                && health(self) == Health::Clean
            {
                verdict = disagreement::judge(command, &seen, &other);
            }
        }
        let judged = verdict.map(|(class, signature, summary)| Violation {
            class,
            signature,
            command: index,
            summary,
            assumed: false,
        });
        Ok(Step {
            seen,
            violation: violation.or(judged),
            clean,
        })
    }

    /// What the other program makes of a command that only reads.
    fn compare(&mut self, command: &Command) -> Result<Option<Observation>> {
        let Some(programs) = self.settings.compare_with.clone() else {
            return Ok(None);
        };
        if command.writes() || !command.is_comparable() {
            return Ok(None);
        }
        self.start_with(&programs, command).map(Some)
    }

    /// Finds out whether what did not end in time hangs or is slow; `None` when it
    /// was the machine that was slow.
    fn confirm_hang(&mut self, command: &Command, found: Violation) -> Result<Option<Violation>> {
        if self.counting && self.hangs.contains(&found.signature) {
            // It was waited for long enough the first time.
            return Ok(Some(Violation {
                summary: format!("{}, at the place of a known hang", found.summary),
                assumed: true,
                ..found
            }));
        }
        let first = self.settings.limits.wall;
        let mut limits = self.settings.limits.clone();
        limits.wall *= hang::PATIENCE;
        limits.cpu *= hang::PATIENCE;
        let programs = self.settings.programs.clone();
        let mut waited = Duration::ZERO;
        let look = &mut |pid| {
            waited = starved(pid);
            false
        };
        let look = Look {
            early: None,
            fair: true,
            look,
        };
        let second = self.launch(&programs, command, limits, look)?;
        if self.aborted {
            return Ok(None);
        }
        let seconds = second.wall.as_secs_f64();
        let class = hang::confirm(&second, first, waited, machine_is_busy());
        if class == Some(Class::Hang) {
            self.hangs.insert(found.signature.clone());
        }
        Ok(class.map(|class| Violation {
            class,
            summary: match class {
                Class::Slow if second.end != End::TimedOut => {
                    format!("ended after {seconds:.0} s")
                }
                Class::Slow => format!(
                    "still running after {seconds:.0} s, {:.0} s of them on a processor",
                    second.cpu.as_secs_f64()
                ),
                _ => format!("still running after {seconds:.0} s"),
            },
            // What is slow is somewhere else at every look.
            signature: if class == Class::Slow {
                Signature::verb(command.group_verb())
            } else {
                found.signature.clone()
            },
            ..found
        }))
    }

    /// Puts the test's files into the scratch folder.
    fn fill(&self, files: &[NamedFile]) -> Result<()> {
        self.scratch
            .fill(files)
            .context("cannot write the image into the scratch folder")
    }

    /// Runs `command` once.
    fn start(&mut self, command: &Command, limits: Limits) -> Result<Observation> {
        let programs = self.settings.programs.clone();
        self.launch(&programs, command, limits, Look::none(&mut |_| false))
    }

    /// Runs `command` of `programs` once, on what is in the scratch folder.
    ///
    /// Fails where there is no such program.
    pub fn start_with(&mut self, programs: &Programs, command: &Command) -> Result<Observation> {
        let limits = self.settings.limits.clone();
        self.launch(programs, command, limits, Look::none(&mut |_| false))
    }

    /// Runs `command` once; where it does not end in time, the stack it is at then.
    fn start_and_look(
        &mut self,
        command: &Command,
        mut limits: Limits,
    ) -> Result<(Observation, Option<Stack>)> {
        let programs = self.settings.programs.clone();
        // At the end of its processor time the kernel ends a program before it can be
        // looked at; the clock is to be first even where two threads spin.
        limits.cpu = limits.cpu.max(limits.wall * 2);
        if self.short_timeout.is_some() {
            let seen = self.start(command, limits)?;
            return Ok((seen, None));
        }
        let mut sampler = self.sampler.take();
        let mut stack = None;
        let (folder, end) = (self.scratch.beside(), self.end);
        let verb = command.group_verb();
        let known = self.counting.then(|| self.hangs.clone());
        let known = known.filter(|known| !known.is_empty());
        let (mut first, mut met) = (true, None);
        let mut look = |pid: i32| {
            let within = end.map_or(Duration::MAX, |end| left_until(end) + GRACE);
            if sampler.is_none() {
                // Without gdb, what hangs is grouped by its command.
                sampler = Sampler::new(&folder).ok();
            }
            let sampler = sampler.as_mut();
            stack = sampler.and_then(|sampler| sampler.stack(pid, &folder, within));
            let early = std::mem::take(&mut first)
                .then_some(known.as_ref())
                .flatten();
            let (Some(known), Some(stack)) = (early, &stack) else {
                return false;
            };
            let hang = Signature::verb(&verb);
            known.is_sure(met.insert(signature_of_hang(hang, stack)))
        };
        let look = Look {
            early: known.is_some().then_some(EARLY),
            fair: false,
            look: &mut look,
        };
        let seen = self.launch(&programs, command, limits, look);
        self.sampler = sampler;
        let seen = seen?;
        if let (Some(known), Some(hang), End::Exit(_)) = (&known, &met, &seen.end) {
            known.doubt(hang);
        }
        // Where it was early on says nothing of where it was when it was ended.
        let stack = stack.filter(|_| seen.end == End::TimedOut);
        Ok((seen, stack))
    }

    /// Runs `command` once. A run that the end of the campaign cuts short is noted.
    fn launch(
        &mut self,
        programs: &Programs,
        command: &Command,
        limits: Limits,
        mut look: Look<'_>,
    ) -> Result<Observation> {
        let argv = programs.argv(command, TEST_IMG);
        let program = self.find(programs, command, &argv)?;
        let mut request = Request::new(argv, self.scratch.work());
        request.limits = limits;
        let left = self.left().filter(|left| *left < request.limits.wall);
        if let Some(left) = left {
            request.limits.wall = left;
        }
        // The end of the campaign does not wait for a fair share.
        let longest = request.limits.wall * BUSY_FACTOR;
        look.fair &= self.left().is_none_or(|left| left >= longest);
        self.runs += 1;
        if !self.executors.contains_key(&program) {
            let executor = for_program(&program, &self.options())?;
            self.notes.extend_from_slice(executor.notes());
            self.executors.insert(program.clone(), executor);
        }
        let Some(executor) = self.executors.get_mut(&program) else {
            anyhow::bail!("no executor for '{}'", program.display());
        };
        let seen = if left.is_some() {
            executor.run(&request)
        } else {
            executor.run_and_look(&request, look)
        };
        self.cpu += seen.cpu;
        self.aborted |= left.is_some() && seen.end == End::TimedOut;
        self.aborted |= seen.end == End::Stopped;
        Ok(seen)
    }

    /// The file of a command's program; each is looked for once.
    fn find(
        &mut self,
        programs: &Programs,
        command: &Command,
        argv: &[OsString],
    ) -> Result<PathBuf> {
        let name = argv.first().map_or(OsStr::new(""), OsString::as_os_str);
        if let Some(program) = self.found.get(name) {
            return Ok(program.clone());
        }
        let program = programs.find(command.program())?;
        self.found.insert(name.to_owned(), program.clone());
        Ok(program)
    }

    /// How long a command may still take before the end of the campaign; `None`
    /// where it has none.
    fn left(&self) -> Option<Duration> {
        Some(left_until(self.end?) + GRACE)
    }
}

/// How long commands may go on after the end of a campaign: most that run then end by
/// themselves in that time.
const GRACE: Duration = Duration::from_secs(1);

/// The time from now until `end`.
fn left_until(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

impl Probe for TestRunner {
    fn run(&mut self, command: &Command) -> Observation {
        let limits = self.settings.limits.clone();
        let command = match &self.base {
            Some(base) => unlocked(base, command.clone()),
            None => command.clone(),
        };
        self.start(&command, limits)
            .unwrap_or_else(|why| Observation::not_started(format!("{why:#}")))
    }
}

/// One command carried out.
struct Step {
    seen: Observation,
    violation: Option<Violation>,
    clean: Option<bool>,
}

/// The signature of a hang: by where it hangs, as far as its stack tells that.
fn signature_of_hang(hang: Signature, stack: &Stack) -> Signature {
    stack
        .key(DEPTH)
        .map_or(hang, |frames| Signature::Hang(Some(frames)))
}

/// Whether an edit may change refcounts.
fn changes_refcounts(edit: &Edit) -> bool {
    match edit {
        Edit::Set { path, .. } => path.contains("refcount"),
        Edit::Bytes { .. } => true,
        Edit::Text { .. } | Edit::Extensions { .. } | Edit::Length { .. } => false,
    }
}

/// Whether the program was given the image and got past opening it: it succeeded, or failed
/// with something else than the messages that refuse an image.
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
