//! A campaign on a device: workers that draw inputs, run them, keep what reaches new blocks and
//! what ends the emulator.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use image_mutations::rng::Rng;

use super::disk::{DiskImage, Images};
use super::emulator::{Emulator, InputLimits, Ran, Setup};
use super::judge::{Failure, Namer, judge, with_stack};
use super::machine::Machine;
use super::minimise::trace_of;
use super::model::Model;
use super::program::Program;
use super::replay::Replayer;
use super::report;
use super::run_inputs::RunInputs;
use super::store;
use super::store::{Finding, Store, Totals, findings, read_trace};
use crate::campaign::Reached;
use crate::exec::process;
use crate::exec::recorded::{RecordedBlocks, RecordedProgram};
use crate::input::guard::Guard;
use crate::oracle::Class;
use crate::output::counted;
use crate::signature::Stack;
use crate::triage::Key;

/// What a campaign is to do.
pub struct Campaign<'a> {
    /// Its work folder.
    pub dir: &'a Path,
    /// What is fuzzed.
    pub machine: &'a Machine,
    /// How many workers there are, each with an emulator.
    pub workers: usize,
    /// Ends after so long.
    pub duration: Option<Duration>,
    /// Ends after so many inputs, those of earlier runs included.
    pub inputs: Option<u64>,
    /// Ends when there are so many groups of findings.
    pub until_groups: Option<usize>,
    /// What inputs are drawn from.
    pub seed: String,
    /// Whether emulators run in a sandbox.
    pub sandbox: bool,
    /// The guarding allocator that they run under.
    pub guard: Option<Guard>,
    /// Whether blocks are noted.
    pub coverage: bool,
    /// Whether inputs are made of what drivers do.
    pub structure: bool,
    /// Whether each emulator has an image with mutations.
    pub mutated: bool,
    /// What an input may use.
    pub limits: InputLimits,
    /// Tells the user something.
    pub say: &'a (dyn Fn(&str) + Sync),
}

/// What a campaign came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// What was counted, over all runs.
    pub totals: Totals,
    /// Inputs a second, in this run.
    pub inputs_per_second: f64,
    /// Inputs of the queue.
    pub queue: usize,
    /// Blocks that were reached.
    pub blocks: usize,
    /// Groups of findings.
    pub groups: usize,
}

/// An emulator is started anew after so many inputs, or so long: what a reset does not undo must
/// not hide what comes later, and a trace of all inputs must not become too long.
const INPUTS_OF_ONE: u64 = 3000;
const TIME_OF_ONE: Duration = Duration::from_secs(30);

/// How long an example is made smaller before the worker goes on.
const MINIMISED_FOR: Duration = Duration::from_secs(40);

/// The share of a worker's time in which it makes examples smaller: one in so many seconds. An
/// attempt to show a hang takes seconds.
const MINIMISING_SHARE: u32 = 4;

/// What has to be left of that for an attempt, and for examples that were not finished.
const ATTEMPT: Duration = Duration::from_secs(1);
const SLICE: Duration = Duration::from_secs(8);

/// How many images with mutations are tried until an emulator takes one.
const IMAGES_TRIED: usize = 12;

/// How often the status is shown and the totals are stored.
const STATUS: Duration = Duration::from_secs(10);

/// What the workers share.
struct Shared<'a> {
    campaign: &'a Campaign<'a>,
    store: &'a Store,
    model: &'a Model,
    stop: &'a AtomicBool,
    begun: Instant,
    /// The totals of earlier runs.
    before: Totals,
    state: Mutex<State>,
    version: String,
    image: Option<DiskImage>,
}

#[derive(Default)]
struct State {
    queue: Vec<Program>,
    /// How many of the queue are what drivers do.
    recorded: usize,
    reached: Reached,
    inputs: u64,
    starts: u64,
    groups: BTreeMap<Key, u64>,
    /// The group that a failure at a place of the device belongs to.
    places: BTreeMap<(Key, String), Key>,
    /// The folders of examples that a worker makes smaller now.
    minimising: BTreeSet<PathBuf>,
    shown: Option<Instant>,
}

/// Runs a campaign until its time is over, or `stop` is set.
///
/// # Errors
///
/// The work folder cannot be used, or the emulator does not start.
pub fn run(campaign: &Campaign<'_>, stop: &AtomicBool) -> Result<Outcome> {
    let store = Store::open(campaign.dir, campaign.machine)?;
    let image = image(campaign.machine, &store)?;
    let program = match campaign.coverage {
        true => RecordedProgram::new(&campaign.machine.program),
        false => Err(String::new()),
    };
    if let Err(why) = program.as_ref()
        && campaign.coverage
    {
        (campaign.say)(&format!(
            "blocks of {} are not noted: {why}",
            campaign.machine.program.display()
        ));
    }
    let program = program.ok();
    let mut model = survey(campaign, &store, image.clone())?;
    let recordings = std::mem::take(&mut model.recorded);
    store.begin(campaign.machine)?;
    (campaign.say)(&format!("registers: {}", model.surface.text()));
    if !recordings.is_empty() {
        (campaign.say)(&format!(
            "{} recorded of a driver",
            counted(recordings.len() as u64, "input")
        ));
    }
    let mut state = State {
        reached: Reached::of(&store.blocks()),
        recorded: recordings.len(),
        queue: recordings,
        ..State::default()
    };
    state.queue.extend(store.queue());
    for (_, finding) in findings(store.root())? {
        state.groups.insert(finding.key, finding.hits);
    }
    let version = process::ask(&campaign.machine.program, &["--version"]).unwrap_or_default();
    let shared = Shared {
        campaign,
        store: &store,
        model: &model,
        stop,
        begun: Instant::now(),
        before: store.totals(),
        state: Mutex::new(state),
        version: version.lines().next().unwrap_or("an emulator").to_owned(),
        image,
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..campaign.workers.max(1))
            .map(|number| {
                let (shared, program) = (&shared, program.as_ref());
                scope.spawn(move || Worker::run(shared, number, program))
            })
            .collect();
        let ends = workers.into_iter().map(|it| it.join());
        let ends: Vec<Result<()>> = ends
            .map(|end| end.unwrap_or_else(|_| Err(anyhow::anyhow!("a worker failed"))))
            .collect();
        ends.into_iter().collect::<Result<()>>()
    })?;
    shared.put_totals()?;
    shared.put_hits()?;
    Ok(shared.outcome())
}

/// The image that the disk begins with, made once for the work folder.
fn image(machine: &Machine, store: &Store) -> Result<Option<DiskImage>> {
    let Some(format) = &machine.format else {
        return Ok(None);
    };
    let path = store.image();
    if !path.exists() {
        let temporary = store.root().join(".image");
        let size = machine.disk_size.to_string();
        let file = temporary.display().to_string();
        let qemu_img = crate::path::find_program(Path::new("qemu-img"))
            .context("--format needs qemu-img, which makes the image")?;
        process::ask(&qemu_img, &["create", "-q", "-f", format, &file, &size])
            .with_context(|| format!("cannot make an image of the format '{format}'"))?;
        std::fs::rename(&temporary, &path)
            .with_context(|| format!("cannot write '{}'", path.display()))?;
    }
    Ok(Some(DiskImage::File(path)))
}

/// Draws images with mutations, where the campaign has them.
fn machine_images(campaign: &Campaign<'_>) -> Option<Images> {
    let format = campaign.machine.format.as_deref();
    format.filter(|_| campaign.mutated).and_then(Images::of)
}

/// What inputs are made of.
fn survey(campaign: &Campaign<'_>, store: &Store, image: Option<DiskImage>) -> Result<Model> {
    let scratch = store.scratch()?;
    let setup = Setup {
        machine: campaign.machine,
        scratch: scratch.path(),
        image,
        sandbox: campaign.sandbox,
        guard: None,
        limits: campaign.limits,
    };
    let model = Model::of(&setup, campaign.structure)?;
    if let Some(why) = &model.obstacle {
        (campaign.say)(why);
    }
    Ok(model)
}

impl Shared<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seconds(&self) -> f64 {
        self.before.seconds + self.begun.elapsed().as_secs_f64()
    }

    fn totals(&self, state: &State) -> Totals {
        Totals {
            inputs: self.before.inputs + state.inputs,
            starts: self.before.starts + state.starts,
            seconds: self.seconds(),
        }
    }

    fn is_over(&self) -> bool {
        let campaign = self.campaign;
        if self.stop.load(Ordering::Relaxed)
            || campaign
                .duration
                .is_some_and(|it| self.begun.elapsed() >= it)
        {
            return true;
        }
        let state = self.state();
        let inputs = self.before.inputs + state.inputs;
        campaign.inputs.is_some_and(|it| inputs >= it)
            || campaign
                .until_groups
                .is_some_and(|it| state.groups.len() >= it)
    }

    fn outcome(&self) -> Outcome {
        let state = self.state();
        Outcome {
            totals: self.totals(&state),
            inputs_per_second: state.inputs as f64 / self.begun.elapsed().as_secs_f64().max(0.001),
            queue: state.queue.len() - state.recorded,
            blocks: state.reached.len(),
            groups: state.groups.len(),
        }
    }

    fn put_totals(&self) -> Result<()> {
        let totals = self.totals(&self.state());
        self.store.put_totals(&totals)
    }

    /// Stores how often each group was seen.
    fn put_hits(&self) -> Result<()> {
        for (folder, mut finding) in findings(self.store.root())? {
            let hits = self.state().groups.get(&finding.key).copied();
            if let Some(hits) = hits.filter(|it| *it != finding.hits) {
                finding.hits = hits;
                report::put_finding(&folder, &finding)?;
            }
        }
        Ok(())
    }

    /// Shows the status now and then, and stores the totals.
    fn show_status(&self) -> Result<()> {
        {
            let mut state = self.state();
            let last = state.shown.unwrap_or(self.begun);
            if last.elapsed() < STATUS {
                return Ok(());
            }
            state.shown = Some(Instant::now());
        }
        self.put_totals()?;
        let now = self.outcome();
        (self.campaign.say)(&format!(
            "{} inputs, {:.0} a second; queue {}; {} blocks; findings {}",
            now.totals.inputs, now.inputs_per_second, now.queue, now.blocks, now.groups
        ));
        Ok(())
    }
}

/// A worker: an emulator, and what it ran since it was started.
struct Worker<'a> {
    shared: &'a Shared<'a>,
    setup: Setup<'a>,
    /// Draws the images with mutations that emulators get.
    images: Option<Images>,
    namer: Namer<'a>,
    rng: Rng,
    blocks: Option<RecordedBlocks<'a>>,
    /// How long it has made examples smaller.
    minimising: Duration,
}

impl<'a> Worker<'a> {
    fn run(shared: &Shared<'_>, number: usize, program: Option<&RecordedProgram>) -> Result<()> {
        let campaign = shared.campaign;
        let scratch = shared.store.scratch()?;
        let setup = Setup {
            machine: campaign.machine,
            scratch: scratch.path(),
            image: shared.image.clone(),
            sandbox: campaign.sandbox,
            guard: campaign.guard,
            limits: campaign.limits,
        };
        let blocks = program.map(RecordedProgram::follow).transpose();
        let mut worker = Worker {
            shared,
            images: machine_images(campaign),
            setup,
            namer: Namer::new(campaign.machine, scratch.path(), campaign.sandbox),
            rng: Rng::from_text(&format!(
                "{}/{number}/{}",
                campaign.seed, shared.before.inputs
            )),
            blocks: blocks.context("no memory for noting blocks")?,
            minimising: Duration::ZERO,
        };
        while !shared.is_over() {
            worker.one_emulator()?;
            if number == 0 && worker.may_minimise_for() >= SLICE {
                worker.go_on_minimising()?;
            }
        }
        Ok(())
    }

    /// Starts an emulator and has it run inputs until it ends, or has run enough.
    fn one_emulator(&mut self) -> Result<()> {
        let begun = Instant::now();
        let mut emulator = self.start()?;
        self.shared.state().starts += 1;
        // What every start reaches is no input's.
        self.note_blocks(None)?;
        let mut run = RunInputs::default();
        while !self.shared.is_over()
            && emulator.inputs() < INPUTS_OF_ONE
            && begun.elapsed() < TIME_OF_ONE
        {
            let program = self.next();
            let machine = self.shared.campaign.machine;
            if !run.takes(&program, self.shared.model) {
                let ran = emulator.run_reset();
                if let Some(failure) = judge(machine, &ran) {
                    run.last = Program::default();
                    return self.failed(emulator, &run, &ran, failure);
                }
                if ran != Ran::Done {
                    return Ok(());
                }
            }
            run.add(&program, self.shared.model);
            let ran = emulator.run_alone(&run.last);
            self.shared.state().inputs += 1;
            if let Some(failure) = judge(machine, &ran) {
                return self.failed(emulator, &run, &ran, failure);
            }
            self.note_blocks(Some(&program))?;
            if ran != Ran::Done || emulator.is_spent() {
                return Ok(());
            }
            self.shared.show_status()?;
        }
        Ok(())
    }

    /// Starts an emulator, with an image with mutations that it takes where there are to be such.
    fn start(&mut self) -> Result<Emulator> {
        for _ in 0..IMAGES_TRIED {
            let Some(images) = &mut self.images else {
                break;
            };
            self.setup.image = Some(images.draw(&mut self.rng)?);
            // One that it refuses is none to fuzz a device with.
            if let Ok(emulator) = Emulator::start(&self.setup, self.blocks.as_ref()) {
                return Ok(emulator);
            }
        }
        self.setup.image.clone_from(&self.shared.image);
        Emulator::start(&self.setup, self.blocks.as_ref())
    }

    /// The next input.
    fn next(&mut self) -> Program {
        let state = self.shared.state();
        let (model, rng) = (self.shared.model, &mut self.rng);
        let count = state.queue.len();
        let chance = if count < 16 { 50 } else { 15 };
        if count == 0 || rng.chance(chance) && state.recorded == 0 || rng.chance(5) {
            drop(state);
            return model.draw(rng);
        }
        // What drivers do, what is new, or anything.
        let first = match rng.below(10) {
            0..3 => rng.index(state.recorded.max(1)),
            3..7 => count - 1 - rng.index(count.div_ceil(4)),
            _ => rng.index(count),
        };
        let (one, other) = (state.queue[first].clone(), rng.index(count));
        let other = state.queue[other].clone();
        drop(state);
        model.mutate(&one, &other, rng)
    }

    /// Takes in the blocks that were reached; an input that reached new ones joins the queue.
    fn note_blocks(&mut self, program: Option<&Program>) -> Result<()> {
        let Some(blocks) = &mut self.blocks else {
            return Ok(());
        };
        let reached = blocks.take();
        if reached.is_empty() {
            return Ok(());
        }
        let file = blocks.program().file().clone();
        let seconds = self.shared.seconds();
        let mut state = self.shared.state();
        let new = state.reached.add(&reached);
        if new.is_empty() {
            return Ok(());
        }
        let number = self.shared.before.inputs + state.inputs;
        let lines = state.reached.lines(&new, number, seconds, || vec![file]);
        self.shared.store.log_blocks(&lines)?;
        if let Some(program) = program {
            let number = state.queue.len() - state.recorded;
            self.shared.store.add(number, program)?;
            state.queue.push(program.clone());
        }
        Ok(())
    }

    /// Files a failure under its group, with an example where the group is new.
    fn failed(
        &mut self,
        mut emulator: Emulator,
        run: &RunInputs,
        ran: &Ran,
        failure: Failure,
    ) -> Result<()> {
        let inputs = &run.between_resets;
        let place = (failure.key.clone(), emulator.place(&run.last));
        let known = {
            let state = self.shared.state();
            let named = state.places.get(&place).cloned();
            let grouped = Some(&failure.key).filter(|it| state.groups.contains_key(it));
            named.or_else(|| grouped.cloned())
        };
        if let Some(key) = known {
            *self.shared.state().groups.entry(key).or_default() += 1;
            return Ok(());
        }
        let mut stack = match ran {
            Ran::Hung => self.namer.hang_stack(&emulator),
            _ => None,
        };
        drop(emulator);
        let mut shown = self.shown(inputs, &failure.key)?;
        if let Some(program) = &shown
            && failure.key.class == Class::Crash
        {
            stack = self.namer.crash_stack(program);
        }
        let key = with_stack(&failure.key, stack.as_ref());
        {
            let mut state = self.shared.state();
            state.places.insert(place, key.clone());
            let is_known = state.groups.contains_key(&key);
            *state.groups.entry(key.clone()).or_default() += 1;
            if is_known {
                return Ok(());
            }
        }
        let finding = Finding {
            key,
            summary: failure.summary.clone(),
            machine: self.shared.campaign.machine.clone(),
            confirmed: shown.is_some(),
            minimised: false,
            hits: 1,
            stack: frames(stack.as_ref()),
            guard: self.setup.guard,
            version: self.shared.version.clone(),
        };
        let program = shown.take().unwrap_or_else(|| trace_of(inputs));
        self.persist(finding, &program)
    }

    /// As few of the last inputs as show a group on a fresh emulator: the last one, some, all.
    fn shown(&mut self, inputs: &[Program], key: &Key) -> Result<Option<Program>> {
        let mut replayer = Replayer::new(&self.setup, self.shared.stop);
        for count in [1, 8, inputs.len()] {
            if count > inputs.len() {
                continue;
            }
            let program = trace_of(&inputs[inputs.len() - count..]);
            if replayer.is_shown(&program, key)? {
                return Ok(Some(program));
            }
        }
        Ok(None)
    }

    /// The simplest image with which an input still shows a group: the one without mutations, or
    /// as few of them as it needs.
    fn simplify_image(&mut self, program: &Program, key: &Key) -> Result<()> {
        let Some(DiskImage::Mutated(_)) = &self.setup.image else {
            return Ok(());
        };
        let mut tried: Vec<DiskImage> = self.shared.image.clone().into_iter().collect();
        while let Some(image) = tried.pop() {
            let setup = Setup {
                image: Some(image.clone()),
                ..self.setup.clone()
            };
            let shown = Replayer::new(&setup, self.shared.stop).is_shown(program, key);
            if shown.unwrap_or(false) {
                tried = image.simpler();
                self.setup.image = Some(image);
            } else if let DiskImage::File(_) = image {
                let mutated = self.setup.image.as_ref();
                tried = mutated.map(DiskImage::simpler).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Writes a finding, makes its trace smaller, and writes that.
    fn persist(&mut self, finding: Finding, program: &Program) -> Result<()> {
        let folder = self.shared.store.folder(&finding.key);
        (self.shared.campaign.say)(&format!("finding: {}", finding.key));
        if finding.confirmed {
            self.simplify_image(program, &finding.key)?;
        }
        report::write(&folder, &finding, program, self.setup.image.as_ref())?;
        if !finding.confirmed {
            return Ok(());
        }
        self.minimise(&folder, finding, program)
    }

    /// How long examples may be made smaller now.
    fn may_minimise_for(&self) -> Duration {
        let begun = self.shared.begun.elapsed();
        let share = (begun / MINIMISING_SHARE).saturating_sub(self.minimising);
        let left = self.shared.campaign.duration;
        let left = left.map_or(MINIMISED_FOR, |it| it.saturating_sub(begun));
        share.min(left).min(MINIMISED_FOR)
    }

    /// Makes an example smaller, as far as there is time for it now and no other worker does.
    fn minimise(&mut self, folder: &Path, finding: Finding, program: &Program) -> Result<()> {
        let budget = self.may_minimise_for();
        let is_free = || self.shared.state().minimising.insert(folder.to_owned());
        if budget < ATTEMPT || !is_free() {
            return Ok(());
        }
        let begun = Instant::now();
        let done = self.minimise_for(budget, folder, finding, program);
        self.minimising += begun.elapsed();
        self.shared.state().minimising.remove(folder);
        done
    }

    fn minimise_for(
        &mut self,
        budget: Duration,
        folder: &Path,
        mut finding: Finding,
        program: &Program,
    ) -> Result<()> {
        let mut replayer = Replayer::new(&self.setup, self.shared.stop);
        let smallest = replayer.minimise(program, &finding.key, budget)?;
        let Some(smallest) = smallest else {
            return Ok(());
        };
        drop(replayer);
        if smallest.program == *program {
            finding.minimised = smallest.is_done;
            return report::put_finding(folder, &finding);
        }
        // A smaller one may end elsewhere: then the larger one stays.
        let stack = match finding.key.class {
            Class::Crash => self.namer.crash_stack(&smallest.program),
            _ => None,
        };
        let coarse = Key {
            signature: finding.key.signature.clone().without_stack(),
            ..finding.key.clone()
        };
        if stack.is_some() && with_stack(&coarse, stack.as_ref()) != finding.key {
            return Ok(());
        }
        finding.minimised = smallest.is_done;
        if stack.is_some() {
            finding.stack = frames(stack.as_ref());
        }
        report::write(
            folder,
            &finding,
            &smallest.program,
            self.setup.image.as_ref(),
        )
    }

    /// Goes on with examples that were not finished.
    fn go_on_minimising(&mut self) -> Result<()> {
        let image = self.setup.image.clone();
        for (folder, found) in findings(self.shared.store.root())? {
            if self.shared.is_over() || self.may_minimise_for() < ATTEMPT {
                break;
            }
            if found.confirmed && !found.minimised {
                let program = read_trace(&folder.join(store::TRACE))?;
                self.setup.image = DiskImage::of_finding(&folder, found.machine.format.as_deref())?;
                self.minimise(&folder, found, &program)?;
            }
        }
        self.setup.image = image;
        Ok(())
    }
}

/// The frames of a stack as they are kept.
#[must_use]
pub fn frames(stack: Option<&Stack>) -> Vec<String> {
    let text = stack.map(ToString::to_string).unwrap_or_default();
    let frames = text.lines().map(|line| {
        let rest = line.split_once(' ').map_or(line, |(_, rest)| rest);
        rest.to_owned()
    });
    frames.collect()
}
