//! What tests reach: recorded, asked for, and reported.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::{Invocation, say};
use crate::args::LowArgs;
use crate::build_id::build_id;
use crate::dry_run;
use crate::model::{Combo, Job, JobId, Kind, Test};
use crate::plan;
use crate::programs::Programs;
use crate::reach::{
    Affected, Candidate, Recorder, Recording, Source, Store, Suite, Targets, affected, diff_of,
    write_report,
};
use crate::tree::{Layout, Tree};
use crate::words;

/// How many names of one kind are shown.
const NAMES_SHOWN: usize = 40;

/// What records the run, where that is asked for and can be.
pub(super) fn recorder(call: &Invocation, programs: &Programs) -> Result<Option<Recorder>> {
    let args = &call.args;
    let Some(detail) = args.coverage else {
        return Ok(None);
    };
    let under = [
        (args.valgrind, "valgrind"),
        (args.gdb, "gdbserver"),
        (args.debugger.is_some(), "a debugger"),
    ];
    if let Some((_, what)) = under.iter().find(|(is_used, _)| *is_used) {
        say::error(&format!("--coverage: nothing is recorded under {what}"));
        return Ok(None);
    }
    let recorder = Recorder::new(programs, detail, call.store())?;
    let notes = recorder.notes().iter();
    notes.for_each(|note| say::error(&format!("--coverage: {note}")));
    Ok(Some(recorder))
}

/// The tests that reach what was asked for, in the order in which they are run.
#[derive(Debug)]
pub(super) struct Chosen {
    candidates: Vec<Candidate>,
}

impl Chosen {
    /// The jobs, as far as they are recorded.
    pub(super) fn jobs(&self) -> Vec<(String, Combo)> {
        let all = self.candidates.iter();
        all.map(|it| (it.test.clone(), it.combo.clone())).collect()
    }

    /// Leaves those that are planned, in their order.
    pub(super) fn keep(&mut self, jobs: &[Job]) {
        let planned: HashSet<(&str, &Combo)> = jobs
            .iter()
            .map(|job| (job.test.name.as_str(), &*job.combo))
            .collect();
        self.candidates
            .retain(|it| planned.contains(&(it.test.as_str(), &it.combo)));
    }

    /// The tests among `tests`, in order.
    pub(super) fn tests(&self, tests: &[Arc<Test>]) -> Vec<Arc<Test>> {
        let named = |it: &Candidate| tests.iter().find(|test| test.name == it.test).cloned();
        let mut found: Vec<Arc<Test>> = Vec::new();
        for test in self.candidates.iter().filter_map(named) {
            if !found.iter().any(|known| Arc::ptr_eq(known, &test)) {
                found.push(test);
            }
        }
        found
    }

    /// Puts planned jobs into this order.
    pub(super) fn order(&self, jobs: &mut [Job]) {
        let places: HashMap<(&str, &Combo), usize> = (self.candidates.iter().enumerate())
            .map(|(place, it)| ((it.test.as_str(), &it.combo), place))
            .collect();
        jobs.sort_by_key(|job| {
            let place = places.get(&(job.test.name.as_str(), &*job.combo));
            (job.repetition, place.copied())
        });
        for (id, job) in (0..).zip(jobs) {
            job.id = JobId(id);
        }
    }

    /// A line for each: name, how soon it gets there, the combination where there are
    /// several; with `long` what `--list` shows too.
    pub(super) fn listing(&self, tests: &[Arc<Test>], long: bool) -> String {
        let combos: HashSet<&Combo> = self.candidates.iter().map(|it| &it.combo).collect();
        let rows = self.candidates.iter().map(|it| {
            let mut row = vec![it.test.clone(), soon(it.after_ms)];
            if combos.len() > 1 {
                row.push(words::combo(&it.combo));
            }
            let test = tests.iter().find(|test| test.name == it.test);
            if let Some(test) = test.filter(|_| long) {
                row.extend(dry_run::about(test));
            }
            row
        });
        columns(&rows.collect::<Vec<_>>())
    }
}

/// How soon a function is reached, as seconds.
fn soon(after_ms: u32) -> String {
    format!("{}.{:03} s", after_ms / 1000, after_ms % 1000)
}

/// Rows in columns.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Those of `tests` that reach what the arguments ask for; `None` where nothing is affected by
/// the commits that they name.
pub(super) fn choose(
    call: &Invocation,
    tree: &Tree,
    tests: &[Arc<Test>],
) -> Result<Option<Chosen>> {
    let args = &call.args;
    let recording = call.recording()?;
    let mut lists: Vec<Vec<Candidate>> = Vec::new();
    if !args.reaching.is_empty() {
        let targets = Targets::find(&recording.tables, &args.reaching);
        tell_of_programs(&recording);
        let targets = match targets {
            Ok(targets) => targets,
            Err(error) => bail!("argument --reaching: {error}"),
        };
        targets.notes().iter().for_each(|note| say::error(note));
        lists.push(recording.candidates(&targets));
    }
    if let Some(what) = &args.affected_by {
        if args.reaching.is_empty() {
            tell_of_programs(&recording);
        }
        let source = source(call, tree);
        let patch = diff_of(what, source.as_deref())?;
        let source = source.as_deref().map(|dir| Source::new(dir, what));
        let affected = affected(&recording, &*patch, source.as_ref())?;
        let candidates = recording.candidates(&affected.targets);
        tell_affected(what, &affected, &candidates);
        lists.push(candidates);
    }
    let found = !lists.iter().any(Vec::is_empty);
    let candidates = in_all(lists);
    let selected: HashSet<&str> = tests.iter().map(|test| test.name.as_str()).collect();
    // What is recorded is about a build, wherever its folder is.
    let anywhere = without_folder(args);
    let combos = plan::names_combination(&anywhere).then(|| plan::combos(&anywhere));
    let is_meant = |combo: &Combo| {
        let combos = combos.as_ref();
        combos.is_none_or(|all| all.iter().any(|it| **it == *combo))
    };
    tell_unrecorded(call, &recording, tests, &is_meant);
    let meant = |it: &Candidate| selected.contains(it.test.as_str()) && is_meant(&it.combo);
    let mut candidates: Vec<Candidate> = candidates.into_iter().filter(meant).collect();
    for it in &mut candidates {
        it.combo = in_folder(args, &it.combo);
    }
    match (candidates.is_empty(), args.affected_by.is_some()) {
        (false, _) => Ok(Some(Chosen { candidates })),
        (true, true) => {
            say::error("nothing to run: no recorded test that is selected reaches a change");
            Ok(None)
        }
        (true, false) if found => bail!("No tests selected: none of these reaches it"),
        (true, false) => bail!("No tests selected: no recorded test reaches it"),
    }
}

/// The arguments for any folder of QEMU.
fn without_folder(args: &LowArgs) -> LowArgs {
    LowArgs {
        qemu: Vec::new(),
        ..args.clone()
    }
}

/// A recorded combination in the folder that the arguments name.
fn in_folder(args: &LowArgs, combo: &Combo) -> Combo {
    Combo {
        qemu: args.qemu.first().cloned().unwrap_or_default(),
        ..combo.clone()
    }
}

/// Those that are in all of the lists, in the order of the last.
fn in_all(mut lists: Vec<Vec<Candidate>>) -> Vec<Candidate> {
    let mut last = lists.pop().unwrap_or_default();
    for list in lists {
        let among: HashSet<(String, Combo)> =
            list.into_iter().map(|it| (it.test, it.combo)).collect();
        last.retain(|it| among.contains(&(it.test.clone(), it.combo.clone())));
    }
    last
}

/// QEMU's repository.
fn source(call: &Invocation, tree: &Tree) -> Option<PathBuf> {
    let named = call.args.qemu_source.as_ref();
    let own = (tree.layout == Layout::Qemu).then(|| tree.source.join("../.."));
    named.map(|dir| call.cwd.join(dir)).or(own)
}

/// Says what is not known of the recorded programs.
fn tell_of_programs(recording: &Recording) {
    let mut unnamed: Vec<(String, Vec<&str>)> = Vec::new();
    for table in &recording.tables {
        let program = table.program.as_str();
        let build = build_id(&table.path);
        if build.is_some_and(|build| build != table.build) {
            let path = table.path.display();
            say::error(&format!(
                "{path} has been rebuilt since it was recorded: what follows is about the build \
                 of then; --coverage records it again"
            ));
        }
        if !table.has_names() {
            let install = blocks::packages::install_symbols(&table.path, Some(&table.build));
            let install = install.unwrap_or_default();
            match unnamed.iter_mut().find(|(known, _)| *known == install) {
                Some((_, programs)) => programs.push(program),
                None => unnamed.push((install, vec![program])),
            }
        }
    }
    for (install, programs) in unnamed {
        let how = match install.as_str() {
            "" => String::new(),
            install => format!("; install them with: {install}"),
        };
        say::error(&format!(
            "functions of {} have no names: no debug symbols are installed{how}",
            programs.join(", ")
        ));
    }
}

/// Says what commits affect, beyond the tests.
fn tell_affected(what: &str, affected: &Affected, candidates: &[Candidate]) {
    let changed = affected.changed.len() + affected.unknown.len();
    let uses = affected.targets.all().len() - affected.changed.len();
    let uses = match uses {
        0 => String::new(),
        n => format!(" and {n} that use what is changed elsewhere"),
    };
    let tests: HashSet<&str> = candidates.iter().map(|it| it.test.as_str()).collect();
    say::error(&format!(
        "{what}: {}{uses}; {} what they change",
        words::count(changed, "changed function"),
        match tests.len() {
            1 => "1 test reaches".to_owned(),
            n => format!("{n} tests reach"),
        },
    ));
    let list = |title: &str, names: &[String]| {
        for name in names.iter().take(NAMES_SHOWN) {
            say::error(&format!("{title} {name}"));
        }
        if names.len() > NAMES_SHOWN {
            say::error(&format!("{title} {} more", names.len() - NAMES_SHOWN));
        }
    };
    list("no test reaches", &affected.unreached);
    list("no recorded program has", &affected.unknown);
    list("changed outside of functions:", &affected.elsewhere);
    list("no recorded code:", &affected.not_code);
}

/// Says how many of the selected tests are not recorded. Those that were not run when they were
/// last selected, such as those for other formats, are not meant: they reach nothing.
fn tell_unrecorded(
    call: &Invocation,
    recording: &Recording,
    selected: &[Arc<Test>],
    is_meant: &dyn Fn(&Combo) -> bool,
) {
    let recorded = recording.tests.iter().map(|it| &it.reached);
    let recorded = recorded.filter(|it| is_meant(&it.combo));
    let (mut names, mut combos) = (HashSet::new(), HashSet::new());
    for it in recorded {
        names.insert(it.test.as_str());
        combos.insert(&it.combo);
    }
    let mut missing: Vec<&Arc<Test>> = selected.iter().collect();
    missing.retain(|test| !names.contains(test.name.as_str()));
    if !missing.is_empty() {
        let memory = call.open_history().take_memory();
        let was_not_run = |test: &Test, combo: &Combo| {
            let past = memory.last(test, &in_folder(&call.args, combo));
            past.is_some_and(|it| it.last_verdict == Some(Kind::NotRun))
        };
        missing.retain(|test| {
            combos.is_empty() || !combos.iter().all(|combo| was_not_run(test, combo))
        });
    }
    if !missing.is_empty() {
        say::error(&format!(
            "{} of {} selected are not recorded, and may reach it too: run them with --coverage",
            missing.len(),
            words::count(selected.len(), "test")
        ));
    }
}

/// What a test reaches, as lines.
pub(super) fn reached_by(call: &Invocation, test: &str) -> Result<String> {
    let recording = call.recording()?;
    tell_of_programs(&recording);
    let args = without_folder(&call.args);
    let is_meant = |combo: &Combo| plan::is_named(&args, combo);
    let mut text = String::new();
    for test in call.tree()?.named(test)?.tests {
        let rows = recording.reached_by(&test.name, &is_meant);
        if rows.is_empty() {
            say::error(&format!(
                "{} is not recorded: run it with --coverage",
                test.name
            ));
        }
        let rows = rows.into_iter().map(|it| {
            let tests = words::count(it.tests, "test");
            let place = match (it.function.file.as_str(), it.function.line) {
                ("", _) => String::new(),
                // It is inlined in all places.
                (file, 0) => file.to_owned(),
                (file, line) => format!("{file}:{line}"),
            };
            vec![tests, soon(it.after_ms), it.function.name, place]
        });
        text.push_str(&columns(&rows.collect::<Vec<_>>()));
    }
    Ok(text)
}

/// Writes the page: this suite, and those of `--recording`.
pub(super) fn report(call: &Invocation, dir: &Path) -> Result<()> {
    let mut suites = Vec::new();
    // The recordings of others may be all there are.
    let own = Recording::load(&call.store());
    if !own.is_empty() || call.args.recordings.is_empty() {
        suites.push(Suite {
            name: "these tests".to_owned(),
            recording: call.recording()?,
        });
    }
    for history in &call.args.recordings {
        let recording = Recording::load(&Store::new(&call.cwd.join(history)));
        if recording.is_empty() {
            bail!(
                "argument --recording: {} has no recording: it is the directory TEST_DIR-history \
                 of a suite that was run with --coverage",
                history.display()
            );
        }
        suites.push(Suite {
            name: history.display().to_string(),
            recording,
        });
    }
    suites
        .iter()
        .for_each(|suite| tell_of_programs(&suite.recording));
    let path = call.cwd.join(dir);
    write_report(&path, &suites).with_context(|| format!("cannot write to {}", dir.display()))
}

impl Invocation {
    fn store(&self) -> Store {
        Store::new(&self.history_dir())
    }

    /// What was recorded.
    fn recording(&self) -> Result<Recording> {
        let store = self.store();
        let recording = Recording::load(&store);
        if recording.is_empty() {
            bail!(
                "no recording in {}: run tests with --coverage first, such as: ./check --coverage \
                 -qcow2 -g quick",
                store.dir().display()
            );
        }
        Ok(recording)
    }
}
