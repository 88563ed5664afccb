//! Findings on disk: a folder for each group, with all that is needed to see the
//! fault again, to understand it and to test for it.

mod explain;
mod iotest;
mod reproduce;
mod script;

pub use reproduce::{minimise_folder, reproduce_folder};

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::exec::Limits;
use crate::files::{persist_as, write_nameless, write_whole};
use crate::input::base::TEST_IMG;
use crate::input::base::{NamedFile, Prepared};
use crate::input::case::Maker;
use crate::input::recipe::Recipe;
use crate::oracle::runner::{Outcome, TestRunner};
use crate::oracle::{Class, Violation};
use crate::signature::Signature;
use crate::signature::Stack;
use crate::triage::Key;
use crate::triage::judge::{Judge as _, RunnerJudge};
use crate::triage::minimise::{Smallest, Task};

/// The groups of a work folder.
#[derive(Debug)]
pub struct Findings {
    root: PathBuf,
    groups: BTreeMap<Key, BTreeSet<u64>>,
    /// The size of each group's example.
    written: BTreeMap<Key, Size>,
    /// Groups whose example showed the fault a second time.
    confirmed: BTreeSet<Key>,
    /// Groups whose example is being made small by a worker.
    busy: BTreeSet<Key>,
    /// Groups whose example is still to be made small, with its recipe.
    unfinished: Vec<(Key, Recipe)>,
}

/// What [`Recipe::size`] says.
type Size = (usize, usize, usize);

/// What a test that hit a group is to that group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// Its first example.
    New,
    /// An example with fewer edits or shorter commands than the one there is.
    Smaller,
    /// One more.
    Known,
}

/// A line of `hits.jsonl`: a test that hit a group.
#[derive(Debug, Serialize, Deserialize)]
struct HitLine {
    test: u64,
    #[serde(flatten)]
    key: Key,
}

/// What `finding.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The group.
    #[serde(flatten)]
    pub key: Key,
    /// What happened, in a sentence.
    pub summary: String,
    /// The command that showed it.
    pub command: String,
    /// Whether a second run showed it too.
    pub confirmed: bool,
    /// In how many of ten runs it shows.
    #[serde(default = "always")]
    pub hits_in_10: u8,
    /// Whether the example was made as small as can be; else that goes on when the
    /// campaign does.
    pub minimised: bool,
    /// How many edits the smallest example has.
    pub edits: usize,
    /// How many bytes of it differ from a valid image.
    pub bytes: usize,
}

/// What records say that do not say how often the fault shows.
fn always() -> u8 {
    10
}

/// An example of a group, about to be written down.
#[derive(Clone, Debug)]
pub struct Example {
    /// The group.
    pub key: Key,
    /// How it is made.
    pub recipe: Recipe,
    /// Its files.
    pub files: Vec<NamedFile>,
    /// Its base image.
    pub prepared: Arc<Prepared>,
    /// What the programs did with it.
    pub outcome: Outcome,
    /// The stack at the signal that ended the program.
    pub stack: Option<Stack>,
    /// Whether a second run showed the fault too.
    pub confirmed: bool,
    /// In how many of ten runs it shows.
    pub hits_in_10: u8,
    /// Whether it was made as small as can be.
    pub minimised: bool,
    /// What the programs could use.
    pub limits: Limits,
    /// What the program that showed the fault says of its version.
    pub version: Option<String>,
}

impl Example {
    /// The example as it was found.
    ///
    /// Fails where the machine does.
    pub fn found(
        recipe: &Recipe,
        key: &Key,
        runner: &mut TestRunner,
        maker: &mut Maker,
        outcome: &Outcome,
    ) -> Result<Self> {
        let mut example = Self {
            key: key.clone(),
            recipe: recipe.clone(),
            files: maker.files(recipe)?,
            prepared: maker.prepared(&recipe.base)?,
            outcome: outcome.clone(),
            stack: None,
            confirmed: false,
            hits_in_10: always(),
            minimised: false,
            limits: runner.settings().limits.clone(),
            version: None,
        };
        example.ask_version(runner);
        Ok(example)
    }

    /// Has the program that showed the fault say its version.
    fn ask_version(&mut self, runner: &mut TestRunner) {
        let command = self.recipe.commands.get(self.command());
        self.version = command.and_then(|command| runner.version(command.program()));
    }

    /// The smallest example that is known when `task` is done or `stop` says to leave it.
    ///
    /// Fails where the machine does.
    pub fn smallest(
        task: &mut Task,
        runner: &mut TestRunner,
        maker: &mut Maker,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self> {
        let Smallest {
            recipe,
            outcome,
            confirmed,
            done,
        } = task.advance(&mut RunnerJudge {
            runner,
            maker,
            stop,
        });
        let files = maker.files(&recipe)?;
        let prepared = maker.prepared(&recipe.base)?;
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => {
                let outcome = runner.run(&recipe, &files)?;
                task.set_outcome(outcome.clone());
                outcome
            }
        };
        let mut example = Self {
            key: task.key.clone(),
            recipe,
            files,
            prepared,
            outcome,
            stack: None,
            confirmed,
            hits_in_10: task.hits_in_10(),
            minimised: done,
            limits: runner.settings().limits.clone(),
            version: None,
        };
        example.ask_version(runner);
        if confirmed && done {
            example.hits_in_10 = RunnerJudge {
                runner,
                maker,
                stop,
            }
            .hits_in_10(&task.key, &example.recipe);
        }
        if task.key.class == Class::Crash && done {
            example.stack = runner.stack(&example.recipe, &example.files, example.command())?;
        }
        Ok(example)
    }

    /// What the oracle said, where this run showed it.
    pub fn violation(&self) -> Option<&Violation> {
        let class = |violation: &&Violation| violation.class == self.key.class;
        self.outcome.violations.iter().find(class)
    }

    /// Index of the command that showed the fault; the last where none did.
    pub fn command(&self) -> usize {
        let last = self.recipe.commands.len().saturating_sub(1);
        self.violation().map_or(last, |violation| violation.command)
    }

    /// The offsets of the bytes in which the image differs from its base.
    pub fn changed_bytes(&self) -> Vec<u64> {
        let Some(image) = self.files.first() else {
            return Vec::new();
        };
        image.differences(self.prepared.image.bytes())
    }
}

impl Findings {
    /// The groups found so far in the work folder `root`.
    ///
    /// Fails where the folder cannot be read.
    pub fn open(root: &Path) -> Result<Self> {
        let mut findings = Self {
            root: root.to_owned(),
            groups: BTreeMap::new(),
            written: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            busy: BTreeSet::new(),
            unfinished: Vec::new(),
        };
        let hits = fs::read_to_string(root.join("hits.jsonl")).unwrap_or_default();
        // A line cut short by a kill belongs to a test that will be done again.
        for hit in hits
            .lines()
            .filter_map(|line| serde_json::from_str::<HitLine>(line).ok())
        {
            findings.groups.entry(hit.key).or_default().insert(hit.test);
        }
        for (folder, record) in records(root)? {
            findings.groups.entry(record.key.clone()).or_default();
            let recipe = Recipe::read(&folder.join("recipe.json"))?;
            findings.written.insert(record.key.clone(), recipe.size());
            if record.confirmed {
                findings.confirmed.insert(record.key.clone());
            }
            if !record.minimised {
                findings.unfinished.push((record.key, recipe));
            }
        }
        Ok(findings)
    }

    /// The hangs that showed a second time.
    pub fn hangs(&self) -> impl Iterator<Item = Signature> {
        let hangs = self.confirmed.iter().filter(|key| key.class == Class::Hang);
        hangs.map(|key| key.signature.clone())
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The groups whose example an earlier run had no time to make small, for the caller to
    /// do so and settle them.
    pub fn unfinished(&mut self) -> Vec<(Key, Recipe)> {
        let unfinished = std::mem::take(&mut self.unfinished);
        self.busy
            .extend(unfinished.iter().map(|(key, _)| key.clone()));
        unfinished
    }

    /// The group that a fault belongs to: for a hang whose stack could not be looked at,
    /// the first known one.
    pub fn group_of(&self, key: &Key) -> Key {
        if self.groups.contains_key(key) {
            return key.clone();
        }
        // A function called where the program hangs may be there at every look.
        let known = self.groups.keys().find(|known| key.covers(known));
        known.unwrap_or(key).clone()
    }

    /// Whether no example of the group has shown the fault a second time.
    pub fn is_unsure(&self, key: &Key) -> bool {
        !self.confirmed.contains(key)
    }

    /// Counts test `number`, which has `recipe`, into a group; `confirmed` where it showed
    /// the fault a second time. But for what is known the caller is to make an example of
    /// it and settle that.
    ///
    /// Fails where the log cannot be written.
    pub fn hit(&mut self, key: &Key, number: u64, recipe: &Recipe, confirmed: bool) -> Result<Hit> {
        self.count(key, number)?;
        let size = recipe.size();
        let hit = match self.written.get(key) {
            None => Hit::New,
            Some(_) if self.is_unsure(key) => {
                if confirmed {
                    Hit::New
                } else {
                    Hit::Known
                }
            }
            Some(known) if (size.0, size.1) < (known.0, known.1) => Hit::Smaller,
            Some(_) => Hit::Known,
        };
        if hit == Hit::Known || !self.busy.insert(key.clone()) {
            return Ok(Hit::Known);
        }
        if hit == Hit::New {
            self.written.insert(key.clone(), size);
        }
        if confirmed {
            self.confirmed.insert(key.clone());
        }
        Ok(hit)
    }

    /// Counts test `number` into a group, and no more: it is no example.
    ///
    /// Fails where the log cannot be written.
    pub fn count(&mut self, key: &Key, number: u64) -> Result<()> {
        let hits = self.groups.entry(key.clone()).or_default();
        if hits.insert(number) {
            let hit = HitLine {
                test: number,
                key: key.clone(),
            };
            let mut line = serde_json::to_string(&hit)?;
            line.push('\n');
            let path = self.root.join("hits.jsonl");
            let append = || -> std::io::Result<()> {
                use std::io::Write as _;
                let mut log = fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&path)?;
                log.write_all(line.as_bytes())
            };
            append().with_context(|| format!("cannot write to '{}'", path.display()))?;
        }
        Ok(())
    }

    /// Nobody makes the example of a group small: its fault did not show again.
    pub fn release(&mut self, key: &Key) {
        self.busy.remove(key);
    }

    /// Writes an example that was made smaller, if there is no smaller one of its group.
    /// One that is not yet as small as can be is left to its worker.
    ///
    /// Fails where the work folder cannot be written.
    pub fn settle(&mut self, example: &Example) -> Result<()> {
        if example.minimised {
            self.busy.remove(&example.key);
        }
        let known = self.written.get(&example.key);
        let size = example.recipe.size();
        let better = match known {
            Some(known) if size == *known => example.minimised,
            Some(known) => size < *known && example.confirmed,
            None => true,
        };
        if better { self.write(example) } else { Ok(()) }
    }

    /// Writes the folder of a group, and its image where AFL's tools look for it: both, or
    /// neither where one of them cannot be written.
    ///
    /// Fails where the work folder cannot be written.
    pub fn write(&mut self, example: &Example) -> Result<()> {
        let folder = self.root.join("findings").join(example.key.folder());
        let place = self.root.join(match example.key.class {
            class if class.oracle().is_hang() => "hangs",
            _ => "crashes",
        });
        let image = match example.files.first() {
            Some(image) => Some((
                afl_name(&place, &example.key.folder())?,
                write_nameless(&place, image)?,
            )),
            None => None,
        };
        write_folder(&folder, example)?;
        if let Some((name, image)) = image {
            persist_as(image, &place, &name)?;
        }
        let size = example.recipe.size();
        self.written.insert(example.key.clone(), size);
        if example.confirmed {
            self.confirmed.insert(example.key.clone());
        }
        Ok(())
    }
}

/// The name of a group's image among those that AFL's tools look at in `place`: the
/// one it has, or the next number.
fn afl_name(place: &Path, folder: &str) -> Result<String> {
    let mut count = 0;
    let entries = fs::read_dir(place);
    for entry in entries.with_context(|| format!("cannot read '{}'", place.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name
            .split_once(',')
            .is_some_and(|(_, group)| group == folder)
        {
            return Ok(name);
        }
        count += 1;
    }
    Ok(format!("id:{count:06},{folder}"))
}

/// Writes everything about an example into `folder`: made beside it and renamed,
/// so that it is there whole or not at all.
pub fn write_folder(folder: &Path, example: &Example) -> Result<()> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    let made = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(parent)
        .with_context(|| format!("cannot write to '{}'", parent.display()))?;
    let path = made.path();
    for file in &example.files {
        file.write_into(path)
            .context("cannot write the image of a finding")?;
    }
    let violation = example.violation();
    let record = Record {
        key: example.key.clone(),
        summary: violation.map_or_else(String::new, |violation| violation.summary.clone()),
        command: example
            .recipe
            .commands
            .get(example.command())
            .map_or_else(String::new, |command| command.shell()),
        confirmed: example.confirmed,
        hits_in_10: example.hits_in_10,
        minimised: example.minimised,
        edits: example.recipe.edits.len(),
        bytes: example.changed_bytes().len(),
    };
    write_whole(
        &path.join("finding.json"),
        &serde_json::to_vec_pretty(&record)?,
    )?;
    write_whole(
        &path.join("recipe.json"),
        example.recipe.to_json()?.as_bytes(),
    )?;
    write_whole(
        &path.join("README.md"),
        explain::readme(example, &record).as_bytes(),
    )?;
    script::write(&path.join("reproduce.sh"), &script::reproduce(example))?;
    iotest::write(path, example)?;
    let old = parent.join(format!(".old-{}", std::process::id()));
    if folder.exists() {
        fs::rename(folder, &old)?;
    }
    let made = made.keep();
    fs::set_permissions(&made, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    fs::rename(&made, folder).with_context(|| format!("cannot write '{}'", folder.display()))?;
    if old.exists() {
        fs::remove_dir_all(&old)?;
    }
    Ok(())
}

/// The findings of a work folder: each folder with its record.
///
/// Fails where the folder cannot be read.
pub fn records(root: &Path) -> Result<Vec<(PathBuf, Record)>> {
    let findings = root.join("findings");
    let entries = fs::read_dir(&findings).with_context(|| {
        format!(
            "cannot read '{}'; name the work folder of a campaign",
            findings.display()
        )
    })?;
    let mut records = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        let Ok(text) = fs::read_to_string(path.join("finding.json")) else {
            continue;
        };
        let record = serde_json::from_str(&text)
            .with_context(|| format!("'{}' is damaged", path.join("finding.json").display()))?;
        records.push((path, record));
    }
    records.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(records)
}

/// How often each group of a work folder was hit.
pub fn counts(root: &Path) -> BTreeMap<Key, usize> {
    let groups = Findings::open(root).map(|findings| findings.groups);
    groups
        .unwrap_or_default()
        .into_iter()
        .map(|(key, tests)| (key, tests.len()))
        .collect()
}

/// The name of the image in a finding's folder.
pub const IMAGE: &str = TEST_IMG;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::{Plan, fresh};
    use crate::input::mutate::Intensity;
    use crate::input::recipe::{Edit, Mutation, Number};

    /// An example with `edits` mutations, of which nothing else matters.
    fn example(key: &Key, recipe: &Recipe, edits: usize, minimised: bool) -> Example {
        let mut maker = Maker::default();
        let mut recipe = recipe.clone();
        recipe.edits = (0..edits)
            .map(|index| Mutation {
                family: "boundary".into(),
                edit: Edit::Set {
                    path: "header.nb_snapshots".into(),
                    value: Number(index as u64),
                },
            })
            .collect();
        Example {
            key: key.clone(),
            files: maker.files(&recipe).unwrap(),
            prepared: maker.prepared(&recipe.base).unwrap(),
            recipe,
            outcome: Outcome::default(),
            stack: None,
            confirmed: true,
            hits_in_10: 10,
            minimised,
            limits: Limits::default(),
            version: None,
        }
    }

    #[test]
    fn a_smaller_example_takes_the_place_of_a_larger_one() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["findings", "crashes"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        let plan = Plan {
            commands: Some(vec![crate::commands::Command::new(["true", "$test_img"])]),
            selection: None,
            intensity: Intensity::default(),
            families: Vec::new(),
            guard: crate::input::guard::GuardPlan::Off,
        };
        let recipe = fresh("smaller", &plan, &mut Maker::default()).unwrap();
        let key = Key::new(Class::Crash, "site");
        let of = |edits, minimised| example(&key, &recipe, edits, minimised);
        let mut findings = Findings::open(root.path()).unwrap();
        let hit = |findings: &mut Findings, number, edits| {
            let example = of(edits, false);
            findings.hit(&key, number, &example.recipe, true).unwrap()
        };
        assert_eq!(hit(&mut findings, 0, 3), Hit::New);
        findings.write(&of(3, false)).unwrap();
        // Its worker is at it: others leave it alone, also while it is half done.
        assert_eq!(hit(&mut findings, 1, 1), Hit::Known);
        findings.settle(&of(3, false)).unwrap();
        assert_eq!(hit(&mut findings, 2, 1), Hit::Known);
        findings.settle(&of(2, true)).unwrap();
        assert_eq!(hit(&mut findings, 3, 2), Hit::Known);
        assert_eq!(hit(&mut findings, 4, 1), Hit::Smaller);
        findings.settle(&of(1, true)).unwrap();
        assert_eq!(hit(&mut findings, 5, 1), Hit::Known);
        let found = records(root.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1.edits, 1);
        assert!(found[0].1.minimised);
        // Another run of the fuzzer knows as much.
        let mut again = Findings::open(root.path()).unwrap();
        assert_eq!(hit(&mut again, 6, 1), Hit::Known);
        assert_eq!(hit(&mut again, 7, 0), Hit::Smaller);
        assert_eq!(counts(root.path())[&key], 8);
        let hang = |text: &str| Key::new(Class::Hang, text);
        let first = hang("stuck in a < b");
        again.hit(&first, 8, &recipe, true).unwrap();
        assert_eq!(again.group_of(&hang("tool")), hang("stuck in a < b"));
        assert_eq!(again.group_of(&hang("stuck in c")), hang("stuck in c"));
        let crash = Key {
            class: Class::Crash,
            ..hang("tool")
        };
        assert_eq!(again.group_of(&crash), crash);
        assert!(again.unfinished().is_empty());
    }

    /// A finding without its image among those for AFL's tools once stayed, as did the image.
    #[test]
    fn a_finding_and_its_image_are_there_together_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let key = Key::new(Class::Crash, "SIGSEGV");
        let recipe = Recipe {
            fuzzer: crate::input::recipe::FUZZER.into(),
            seed: "together".into(),
            base: crate::input::base::draw(&mut crate::rng::Rng::from_text("together")),
            edits: Vec::new(),
            commands: vec![crate::commands::Command::new(["true", "$test_img"])],
            fresh_copies: true,
            guard: None,
        };
        let example = example(&key, &recipe, 2, true);
        let count = |name: &str| fs::read_dir(at(name)).unwrap().count();
        fs::create_dir(at("findings")).unwrap();
        let mut findings = Findings::open(root.path()).unwrap();
        assert!(findings.write(&example).is_err());
        assert_eq!(count("findings"), 0);
        fs::rename(at("findings"), at("crashes")).unwrap();
        assert!(findings.write(&example).is_err());
        assert_eq!(count("crashes"), 0);
        fs::create_dir(at("findings")).unwrap();
        findings.write(&example).unwrap();
        assert_eq!((count("findings"), count("crashes")), (1, 1));
        // And what it says of one byte is no plural.
        assert_eq!(example.changed_bytes().len(), 1);
        let readme = at("findings").join(key.folder()).join("README.md");
        let readme = fs::read_to_string(readme).unwrap();
        assert!(readme.contains("\n1 of its bytes differs from"), "{readme}");
    }

    #[test]
    fn a_fault_that_showed_once_waits_for_an_example_that_shows_it_again() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["findings", "crashes"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        let base = crate::input::base::draw(&mut crate::rng::Rng::from_text("once"));
        let recipe = Recipe {
            fuzzer: crate::input::recipe::FUZZER.into(),
            seed: "once".into(),
            base,
            edits: Vec::new(),
            commands: vec![crate::commands::Command::new(["true", "$test_img"])],
            fresh_copies: true,
            guard: None,
        };
        let key = Key::new(Class::Crash, "SIGSEGV");
        let mut once = example(&key, &recipe, 1, true);
        once.confirmed = false;
        let mut findings = Findings::open(root.path()).unwrap();
        let recipe = once.recipe.clone();
        assert_eq!(findings.hit(&key, 0, &recipe, false).unwrap(), Hit::New);
        findings.write(&once).unwrap();
        findings.release(&key);
        assert_eq!(findings.hit(&key, 1, &recipe, false).unwrap(), Hit::Known);
        // Another run of the fuzzer waits for one as well.
        let mut findings = Findings::open(root.path()).unwrap();
        assert!(findings.is_unsure(&key) && findings.unfinished().is_empty());
        // A larger example that shows the fault twice is worth more than a smaller one.
        let twice = example(&key, &recipe, 3, false);
        let hit = findings.hit(&key, 2, &twice.recipe, true).unwrap();
        assert_eq!(hit, Hit::New);
        findings.write(&twice).unwrap();
        assert!(!findings.is_unsure(&key));
        let found = records(root.path()).unwrap();
        assert_eq!((found.len(), found[0].1.edits), (1, 3));
        assert_eq!(counts(root.path())[&key], 3);
    }

    /// The folder of a finding, in `root`, that `words` showed in `hits_in_10` of ten runs.
    fn folder_of(root: &Path, words: &[&str], hits_in_10: u8) -> PathBuf {
        let command = words.iter().map(|word| (*word).to_owned()).collect();
        let recipe = Recipe {
            fuzzer: crate::input::recipe::FUZZER.into(),
            seed: "script".into(),
            base: crate::input::base::draw(&mut crate::rng::Rng::from_text("script")),
            edits: Vec::new(),
            commands: vec![crate::commands::Command(command)],
            fresh_copies: true,
            guard: None,
        };
        let key = Key::new(Class::Crash, "SIGSEGV");
        let mut example = example(&key, &recipe, 0, true);
        example.hits_in_10 = hits_in_10;
        let folder = root.join("finding");
        write_folder(&folder, &example).unwrap();
        folder
    }

    /// "Does not show" was once said of a program that was not run at all.
    #[test]
    fn the_script_tells_which_program_it_cannot_run() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let blank = root.path().join("a b");
        fs::create_dir(&blank).unwrap();
        let script = |name: &str, text: &str| {
            let path = blank.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("qimg", "#!/bin/sh\n[ \"$1\" = info ] && kill -SEGV $$\n");
        script("strange", "#!/no/such/program\n");
        for hits_in_10 in [10, 1] {
            let folder = folder_of(root.path(), &["qemu-img", "info", "$test_img"], hits_in_10);
            let run = |program: &str| {
                let mut sh = std::process::Command::new(folder.join("reproduce.sh"));
                let done = sh.current_dir(&blank).env("QEMU_IMG", program).output();
                let done = done.unwrap();
                let said = String::from_utf8_lossy(&done.stderr).into_owned();
                (done.status.code(), said)
            };
            for program in ["/nosuch", "nosuchprogram", "./nosuch", "./strange"] {
                let (status, said) = run(program);
                assert_eq!(status, Some(2), "{program}: {said}");
                let name = program.trim_start_matches("./");
                assert!(
                    said.contains("cannot run '") && said.contains(name),
                    "{said}"
                );
            }
            if hits_in_10 == 10 {
                assert_eq!(run("true").0, Some(1));
            }
            let whole = format!("'{}/qimg'", blank.display());
            for program in ["./qimg", &whole, &format!("sh {whole}"), "env './qimg' "] {
                let (status, said) = run(program);
                // Only the program itself is looked for in the folder of the caller.
                let wanted = if program.starts_with("env") { 2 } else { 0 };
                assert_eq!(status, Some(wanted), "{program}: {said}");
            }
        }
    }

    /// Whether a process works in a folder below `folder`.
    fn in_use(folder: &Path) -> bool {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let folders = processes.filter_map(|it| fs::read_link(it.path().join("cwd")).ok());
        folders.into_iter().any(|cwd| cwd.starts_with(folder))
    }

    /// An interrupt once left the images and the program that hangs.
    #[test]
    fn the_scripts_leave_nothing_when_they_are_interrupted() {
        use std::io::Read as _;
        let root = tempfile::tempdir().unwrap();
        let (up, tmp) = (root.path().join("up"), root.path().join("tmp"));
        fs::create_dir(&tmp).unwrap();
        nix::unistd::mkfifo(&up, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = format!("echo $$ >'{}'; exec sleep 100000", up.display());
        let shells = ["sh", "bash"].map(|shell| (shell, "reproduce.sh"));
        for hits_in_10 in [10, 1] {
            let words = ["sh", "-c", &script, "$test_img"];
            let folder = folder_of(root.path(), &words, hits_in_10);
            for (shell, file) in shells.into_iter().chain([("bash", "iotest")]) {
                // Open for both sides, so that nobody waits for the other one.
                let both = fs::File::options().read(true).write(true).open(&up);
                let mut both = both.unwrap();
                let mut sh = std::process::Command::new(shell);
                sh.arg(folder.join(file))
                    .env("TMPDIR", &tmp)
                    .env("TEST_DIR", &tmp);
                sh.stdout(std::process::Stdio::null());
                let mut sh = sh.spawn().unwrap();
                let mut byte = [0];
                while byte != *b"\n" {
                    both.read_exact(&mut byte).unwrap();
                }
                let pid = nix::unistd::Pid::from_raw(sh.id().cast_signed());
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
                let status = sh.wait().unwrap();
                assert!(status.code().is_some_and(|code| code > 128), "{status}");
                assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0, "{shell} {file}");
                // What was ended may need a moment to be gone.
                while in_use(&tmp) {
                    std::thread::yield_now();
                }
            }
        }
    }

    #[test]
    fn the_script_of_a_fault_of_chance_tries_until_it_shows() {
        let root = tempfile::tempdir().unwrap();
        let count = root.path().join("count");
        let script = format!(
            "printf x >>'{0}'; [ $(wc -c <'{0}') -lt 12 ] || kill -SEGV $$",
            count.display()
        );
        let recipe = Recipe {
            fuzzer: crate::input::recipe::FUZZER.into(),
            seed: "chance".into(),
            base: crate::input::base::draw(&mut crate::rng::Rng::from_text("chance")),
            edits: Vec::new(),
            commands: vec![crate::commands::Command::new([
                "sh",
                "-c",
                &script,
                "$test_img",
            ])],
            fresh_copies: true,
            guard: None,
        };
        let key = Key::new(Class::Crash, "SIGSEGV");
        let mut example = example(&key, &recipe, 0, true);
        example.hits_in_10 = 1;
        let folder = root.path().join("finding");
        write_folder(&folder, &example).unwrap();
        let run = |words: &[&str]| {
            let mut sh = std::process::Command::new("sh");
            let done = sh.arg(folder.join("reproduce.sh")).args(words).output();
            done.unwrap().status.code()
        };
        assert_eq!(run(&["once"]), Some(1));
        assert_eq!(run(&[]), Some(0));
        let readme = fs::read_to_string(folder.join("README.md")).unwrap();
        assert!(readme.contains("Reproduced in 1 of 10 runs"), "{readme}");
        // The numbered test once tried a single time, and passed.
        fs::write(&count, "").unwrap();
        let mut bash = std::process::Command::new("bash");
        let test = bash.arg(folder.join("iotest")).env("TEST_DIR", root.path());
        let said = String::from_utf8(test.output().unwrap().stdout).unwrap();
        let golden = fs::read_to_string(folder.join("iotest.out")).unwrap();
        assert_eq!(said, golden.replace("exited", "ended by signal 11"));
        assert!(readme.contains("like the script"), "{readme}");
    }
}
