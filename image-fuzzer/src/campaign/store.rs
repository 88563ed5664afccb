//! The work folder: what a campaign has done and found, on disk at every moment.
//!
//! ```text
//! state.json        seed and version of the fuzzer, what it was last asked for
//! done              numbers of finished tests
//! queue/            images that showed something new, named as AFL names them
//! recipes/          the recipes of the queue
//! features          what the programs have said so far, as numbers
//! crashes/ hangs/   one image of each group of findings, named as AFL names them
//! findings/         a folder for each group
//! suspended/        recipes of tests that the end of a run cut short
//! hits.jsonl        every test that hit a group
//! stats.jsonl       how the campaign went
//! run.log           failed tests, one a line
//! test-N/           tests that were kept
//! ```
//!
//! Every file is written whole and renamed, or appended to in one write, so that
//! a fuzzer that is killed loses nothing but the tests it was at.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::commands::Command;
use crate::files::{NAMELESS, persist_as, write_nameless, write_whole};
use crate::input::mutate::FieldSelection;
use crate::input::recipe::{FUZZER, Recipe};
use crate::named_file::NamedFile;

/// A campaign's work folder, locked for as long as this lives.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    done: File,
    _lock: Flock<File>,
}

/// What `state.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The fuzzer that began the campaign.
    pub fuzzer: String,
    /// The seed that all its tests are drawn from.
    pub seed: String,
    /// What the last start asked for; older fuzzers did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<CampaignConfig>,
}

/// What tests are drawn from, as far as one start may differ in it from the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignConfig {
    /// The given commands.
    pub commands: Option<Vec<Command>>,
    /// The families that edits are drawn from.
    pub families: Vec<String>,
    /// What alone may be changed, as text.
    pub config: Option<String>,
}

impl CampaignConfig {
    /// What the start that is noted in the work folder `root` asked for; `None` where
    /// nothing is noted.
    pub fn last(root: &Path) -> Option<Self> {
        let text = fs::read_to_string(root.join(STATE)).ok()?;
        serde_json::from_str::<State>(&text).ok()?.asked
    }

    /// The options in which `other` differs.
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        [
            ("-c", self.commands == other.commands),
            ("--family", self.families == other.families),
            (
                "--config",
                FieldSelection::same_text(self.config.as_deref(), other.config.as_deref()),
            ),
        ]
        .into_iter()
        .filter(|(_, same)| !same)
        .map(|(option, _)| option)
        .collect()
    }
}

/// The log of features.
const FEATURES: &str = "features";

/// The file that holds the state.
const STATE: &str = "state.json";

/// What a campaign has done before.
#[derive(Debug)]
pub struct Past {
    /// The numbers of tests that were finished.
    pub finished: Finished,
    /// The tests that were cut short, by number.
    pub suspended: BTreeMap<u64, Recipe>,
    /// The recipes of the queue, by name.
    pub queue: Vec<(String, Recipe)>,
    /// The features of what programs have said: the feedback.
    pub features: HashSet<u64>,
}

/// Folders that every work folder has.
const FOLDERS: [&str; 6] = [
    "queue",
    "recipes",
    "crashes",
    "hangs",
    "findings",
    "suspended",
];

impl Store {
    /// Opens or makes the work folder, and keeps others out.
    ///
    /// Fails where another fuzzer works in it, or it cannot be written.
    pub fn open(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root)?;
        for folder in FOLDERS {
            fs::create_dir_all(root.join(folder))
                .with_context(|| format!("cannot make the work folder '{}'", root.display()))?;
        }
        let lock = File::create(root.join(".lock")).context("cannot lock the work folder")?;
        let Ok(lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
            bail!(
                "another image-fuzzer works in '{}'; give it another folder",
                root.display()
            );
        };
        for folder in ["queue", "crashes", "hangs"] {
            for entry in fs::read_dir(root.join(folder))?.flatten() {
                // A fuzzer that was killed was writing it.
                if entry.file_name().to_string_lossy().starts_with(NAMELESS) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        // Version 0.2 kept the features under another name.
        let (earlier, features) = (root.join("marks"), root.join(FEATURES));
        if earlier.exists() && !features.exists() {
            fs::rename(&earlier, &features)
                .with_context(|| format!("cannot rename '{}'", earlier.display()))?;
        }
        let done = append_to(&root.join("done"))?;
        Ok(Self {
            root,
            done,
            _lock: lock,
        })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The state, taken up from before or begun with `seed`.
    ///
    /// Fails where the campaign was begun by another version or with another seed.
    pub fn state(&self, seed: Option<&str>, fresh: impl FnOnce() -> String) -> Result<State> {
        let path = self.root.join(STATE);
        if let Ok(text) = fs::read_to_string(&path) {
            let state: State = serde_json::from_str(&text)
                .with_context(|| format!("'{}' is damaged", path.display()))?;
            if state.fuzzer != FUZZER {
                bail!(
                    "'{}' belongs to a campaign of {}; this is {FUZZER}: use another folder",
                    self.root.display(),
                    state.fuzzer
                );
            }
            if seed.is_some_and(|seed| seed != state.seed) {
                bail!(
                    "'{}' belongs to a campaign with the seed '{}'; use another folder",
                    self.root.display(),
                    state.seed
                );
            }
            return Ok(state);
        }
        let state = State {
            fuzzer: FUZZER.into(),
            seed: seed.map_or_else(fresh, str::to_owned),
            asked: None,
        };
        write_whole(&path, &serde_json::to_vec_pretty(&state)?)?;
        Ok(state)
    }

    /// Notes what this start asks for.
    ///
    /// Fails where the folder cannot be written.
    pub fn note_asked(&self, state: &State, asked: CampaignConfig) -> Result<()> {
        let state = State {
            asked: Some(asked),
            ..state.clone()
        };
        write_whole(&self.root.join(STATE), &serde_json::to_vec_pretty(&state)?)
    }

    /// What the campaign has done so far.
    ///
    /// Fails where the folder cannot be read or written, or is damaged.
    pub fn past(&mut self) -> Result<Past> {
        let finished = self.finished()?;
        // Where the last line was being written when the fuzzer was killed, the next one
        // must not be appended to it.
        self.settle(&finished)?;
        Ok(Past {
            suspended: self.suspended(&finished)?,
            finished,
            queue: self.queue()?,
            features: self.features(),
        })
    }

    /// The numbers of tests that were finished.
    pub fn finished(&self) -> Result<Finished> {
        let text = fs::read_to_string(self.root.join("done")).context("cannot read 'done'")?;
        let mut finished = Finished::default();
        // A last line without its end was being written when the fuzzer was killed.
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            if let Some(count) = line.trim().strip_prefix("below ") {
                finished.below = count.parse().context("'done' is damaged")?;
            } else {
                finished
                    .beyond
                    .insert(line.trim().parse().context("'done' is damaged")?);
            }
        }
        finished.settle();
        Ok(finished)
    }

    /// Writes the finished numbers anew, in their short form.
    pub fn settle(&mut self, finished: &Finished) -> Result<()> {
        let mut text = format!("below {}\n", finished.below);
        for number in &finished.beyond {
            text.push_str(&format!("{number}\n"));
        }
        write_whole(&self.root.join("done"), text.as_bytes())?;
        self.done = append_to(&self.root.join("done"))?;
        Ok(())
    }

    /// Notes that test `number` is finished, after all it found is on disk.
    pub fn finish(&mut self, number: u64) -> Result<()> {
        self.done
            .write_all(format!("{number}\n").as_bytes())
            .context("cannot write to 'done'")
    }

    /// Keeps the recipe of a test that was cut short, to be done first next time.
    pub fn suspend(&self, number: u64, recipe: &Recipe) -> Result<()> {
        write_whole(&self.suspended_file(number), recipe.to_json()?.as_bytes())
    }

    /// Forgets that test `number` was cut short.
    pub fn forget(&self, number: u64) -> Result<()> {
        fs::remove_file(self.suspended_file(number)).context("cannot write to 'suspended'")
    }

    fn suspended_file(&self, number: u64) -> PathBuf {
        self.root.join("suspended").join(format!("{number}.json"))
    }

    /// The tests that were cut short: those not in `finished`, by number.
    pub fn suspended(&self, finished: &Finished) -> Result<BTreeMap<u64, Recipe>> {
        let mut tests = BTreeMap::new();
        for entry in fs::read_dir(self.root.join("suspended"))? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            if let (Ok(number), Ok(recipe)) = (name.parse(), Recipe::read(&path))
                && !finished.has(number)
            {
                tests.insert(number, recipe);
            }
        }
        Ok(tests)
    }

    /// Appends a line to one of the logs.
    pub fn log(&self, name: &str, line: &str) -> Result<()> {
        append_to(&self.root.join(name))?
            .write_all(format!("{line}\n").as_bytes())
            .with_context(|| format!("cannot write to '{name}'"))
    }

    /// Adds an image and its recipe to the queue: both, or neither where one of them cannot
    /// be written.
    pub fn enqueue(&self, name: &str, recipe: &Recipe, image: &NamedFile) -> Result<()> {
        let queue = self.root.join("queue");
        persist_as(write_nameless(&queue, image)?, &queue, name)?;
        let path = self.root.join("recipes").join(format!("{name}.json"));
        write_whole(&path, recipe.to_json()?.as_bytes()).inspect_err(|_| {
            // That there is no room is what is told.
            let _ = fs::remove_file(queue.join(name));
        })
    }

    /// Notes features that were not seen before, after the image that showed them is in the
    /// queue.
    pub fn note_features(&self, features: &[u64]) -> Result<()> {
        let lines: Vec<String> = features
            .iter()
            .map(|feature| format!("{feature:016x}"))
            .collect();
        self.log(FEATURES, &lines.join("\n"))
    }

    /// The features that were noted. A line that was cut short is of a test that will be done
    /// again.
    fn features(&self) -> HashSet<u64> {
        let text = fs::read_to_string(self.root.join(FEATURES)).unwrap_or_default();
        text.lines()
            .filter(|line| line.len() == 16)
            .filter_map(|line| u64::from_str_radix(line, 16).ok())
            .collect()
    }

    /// The recipes of the queue, by name. Those that another version made, or that
    /// cannot be read, are left out.
    pub fn queue(&self) -> Result<Vec<(String, Recipe)>> {
        let mut recipes = Vec::new();
        for entry in fs::read_dir(self.root.join("recipes"))? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            if let Ok(recipe) = Recipe::read(&path) {
                recipes.push((name.into_owned(), recipe));
            }
        }
        recipes.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(recipes)
    }
}

/// The numbers of finished tests: all below one, and some beyond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// All numbers below this one are finished.
    pub below: u64,
    /// These are finished as well.
    pub beyond: BTreeSet<u64>,
}

impl Finished {
    /// Counts `number` among the finished.
    pub fn add(&mut self, number: u64) {
        self.beyond.insert(number);
        self.settle();
    }

    /// Whether `number` is among the finished.
    pub fn has(&self, number: u64) -> bool {
        number < self.below || self.beyond.contains(&number)
    }

    /// How many tests are finished.
    pub fn count(&self) -> u64 {
        self.below + self.beyond.len() as u64
    }

    fn settle(&mut self) {
        self.beyond = self.beyond.split_off(&self.below);
        while self.beyond.remove(&self.below) {
            self.below += 1;
        }
    }
}

/// Opens a log to append to.
fn append_to(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot open '{}'", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_numbers_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        for number in [0, 1, 4, 3] {
            store.finish(number).unwrap();
        }
        let finished = store.finished().unwrap();
        assert_eq!(finished.below, 2);
        assert_eq!(finished.beyond, BTreeSet::from([3, 4]));
        store.settle(&finished).unwrap();
        store.finish(2).unwrap();
        assert_eq!(store.finished().unwrap().below, 5);
    }

    /// A campaign that went on once took all that it had seen before for new.
    #[test]
    fn marks_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        store.note_features(&[1, u64::MAX]).unwrap();
        store.note_features(&[7]).unwrap();
        store.log(FEATURES, "00000000000000").unwrap();
        assert_eq!(
            store.past().unwrap().features,
            HashSet::from([1, 7, u64::MAX])
        );
    }

    /// The number of the next test was once appended to a line that a kill had cut short,
    /// which made another number of both.
    #[test]
    fn a_cut_line_does_not_run_into_the_next() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("done"), "0\n1\n1").unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        store.past().unwrap();
        store.finish(5).unwrap();
        let finished = store.finished().unwrap();
        assert_eq!((finished.below, finished.beyond), (2, BTreeSet::from([5])));
    }

    #[test]
    fn a_cut_line_is_not_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        fs::write(folder.path().join("done"), "0\n1\n12").unwrap();
        assert_eq!(store.finished().unwrap().count(), 2);
    }

    #[test]
    fn one_fuzzer_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Store::open(folder.path()).unwrap();
        let said = Store::open(folder.path()).unwrap_err().to_string();
        assert!(said.contains("another image-fuzzer"), "{said}");
    }

    /// An image that there was no room for once stayed in the queue, empty.
    #[test]
    fn an_image_and_its_recipe_are_there_together_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let store = Store::open(root).unwrap();
        let count = |name: &str| fs::read_dir(root.join(name)).unwrap().count();
        let recipe = Recipe {
            fuzzer: FUZZER.into(),
            seed: "together".into(),
            base: crate::input::base::draw(&mut crate::rng::Rng::from_text("together")),
            edits: Vec::new(),
            commands: Vec::new(),
            fresh_copies: true,
            guard: None,
        };
        let small = NamedFile::new("a", &image_formats::Store::new());
        // Longer than files can be.
        let mut endless = image_formats::Store::new();
        endless.resize(u64::MAX);
        let large = NamedFile::new("a", &endless);
        assert!(store.enqueue("large", &recipe, &large).is_err());
        assert_eq!((count("queue"), count("recipes")), (0, 0));
        fs::rename(root.join("recipes"), root.join("away")).unwrap();
        assert!(store.enqueue("small", &recipe, &small).is_err());
        assert_eq!(count("queue"), 0);
        fs::rename(root.join("away"), root.join("recipes")).unwrap();
        store.enqueue("small", &recipe, &small).unwrap();
        assert_eq!((count("queue"), count("recipes")), (1, 1));
        // What a kill left is taken away.
        fs::write(root.join("queue/.new-x"), "").unwrap();
        drop(store);
        Store::open(root).unwrap();
        assert_eq!(count("queue"), 1);
    }

    #[test]
    fn a_campaign_keeps_its_seed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let begun = store.state(None, || "drawn".into()).unwrap();
        assert_eq!(begun.seed, "drawn");
        assert_eq!(store.state(Some("drawn"), String::new).unwrap(), begun);
        assert!(store.state(Some("other"), String::new).is_err());
        assert_eq!(CampaignConfig::last(folder.path()), None);
        let asked = CampaignConfig {
            commands: None,
            families: vec!["havoc".into()],
            config: None,
        };
        store.note_asked(&begun, asked.clone()).unwrap();
        assert_eq!(CampaignConfig::last(folder.path()), Some(asked.clone()));
        let other = CampaignConfig {
            families: Vec::new(),
            ..asked.clone()
        };
        assert_eq!(asked.differing(&other), ["--family"]);
    }
}
