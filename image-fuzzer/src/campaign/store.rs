//! The work folder: what a campaign has done and found, on disk at every moment.
//!
//! ```text
//! state.json        seed and version of the fuzzer, configuration of the last start
//! done              numbers of finished tests
//! sweep             indexes of finished tests of the sweep
//! queue/            images that showed something new, named as AFL names them
//! recipes/          the recipes of the queue
//! reach             all that recipes of the queue reach, where that is known
//! set-aside         names of those that are not varied, since others reach the same
//! novelty.json      where new blocks and messages came from
//! features          hashes of the messages and exit statuses seen so far
//! blocks            blocks reached so far: file, address, seconds, test
//! crashes/ hangs/   one image of each group of findings, named as AFL names them
//! findings/         a folder for each group
//! parked/           recipes of tests that may hang and are to be run again
//! suspended/        recipes of tests that the end of a run interrupted
//! hits.jsonl        every test that hit a group
//! stats.jsonl       the statistics over time
//! totals.json       what all runs came to half a second ago
//! run.log           failed tests and their commands
//! test-N/           tests that were kept
//! ```
//!
//! Every file is written whole and renamed, or appended to in one write, so that a fuzzer
//! that is killed loses nothing but the tests it was running.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::corpus::REACH;
use super::finished::Finished;
use super::reached::{BLOCKS, BlockLog};
use crate::files::{TEMP_PREFIX, append, persist_as, write_temp, write_whole};
use crate::input::recipe::Recipe;
use image_mutations::named_file::NamedFile;

/// A campaign's work folder, locked for as long as this lives.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    _lock: Option<Flock<File>>,
}

/// What a campaign has done in earlier runs.
#[derive(Debug)]
pub(super) struct Progress {
    /// The numbers of finished tests.
    pub(super) finished: Finished,
    /// The interrupted tests, by number.
    pub(super) suspended: BTreeMap<u64, Recipe>,
    /// The tests that may hang, by number.
    pub(super) parked: BTreeMap<u64, Recipe>,
    /// The recipes of the queue, by name.
    pub(super) queue: Vec<(String, Recipe)>,
    /// The names of those that are not varied.
    pub(super) set_aside: HashSet<String>,
    /// What recipes of the queue reach: lines of [`REACH`].
    pub(super) reach: String,
    /// The features seen so far.
    pub(super) features: HashSet<u64>,
    /// The blocks reached so far.
    pub(super) blocks: BlockLog,
}

/// The log of features.
const FEATURES: &str = "features";

/// The list of recipes that are not varied.
const SET_ASIDE: &str = "set-aside";

/// The log of finished tests.
const DONE: &str = "done";

/// The log of finished tests of the sweep.
const SWEEP: &str = "sweep";

/// Logs of lines that are appended to, besides those that are rewritten at the start.
const LOGS: [&str; 6] = [
    FEATURES,
    BLOCKS,
    REACH,
    "hits.jsonl",
    "stats.jsonl",
    "run.log",
];

/// Folders that every work folder has.
const FOLDERS: [&str; 7] = [
    "queue",
    "recipes",
    "crashes",
    "hangs",
    "findings",
    "parked",
    "suspended",
];

impl Store {
    /// Opens or makes the work folder, and keeps others out.
    ///
    /// # Errors
    ///
    /// Another fuzzer uses the folder, or it cannot be written.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root)?;
        for folder in FOLDERS {
            fs::create_dir_all(root.join(folder))
                .with_context(|| format!("cannot make the work folder '{}'", root.display()))?;
        }
        let lock = File::create(root.join(".lock")).context("cannot lock the work folder")?;
        let Ok(lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
            bail!(
                "another image-fuzzer is using '{}'; use another folder",
                root.display()
            );
        };
        for folder in ["queue", "crashes", "hangs"] {
            for entry in fs::read_dir(root.join(folder))?.flatten() {
                // A fuzzer that was killed was writing it.
                if entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        for log in LOGS {
            end_last_line(&root.join(log))?;
        }
        // Version 0.2 kept the features under another name.
        let (earlier, features) = (root.join("marks"), root.join(FEATURES));
        if earlier.exists() && !features.exists() {
            fs::rename(&earlier, &features)
                .with_context(|| format!("cannot rename '{}'", earlier.display()))?;
        }
        Ok(Self {
            root,
            _lock: Some(lock),
        })
    }

    /// Opens the work folder to read it, and keeps fuzzers out. Nothing in it is changed.
    ///
    /// # Errors
    ///
    /// A fuzzer uses the folder, or it cannot be read.
    pub(super) fn open_to_read(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root)?;
        // A copy of a work folder may be without one.
        let lock = match File::open(root.join(".lock")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            lock => Some(lock.with_context(|| format!("cannot read '{}'", root.display()))?),
        };
        let lock = match lock.map(|lock| Flock::lock(lock, FlockArg::LockSharedNonblock)) {
            Some(Err((_, Errno::EWOULDBLOCK))) => bail!(
                "an image-fuzzer is using '{}': wait for its end, or stop it",
                root.display()
            ),
            // Not all shared file systems know locks.
            Some(lock) => lock.ok(),
            None => None,
        };
        Ok(Self { root, _lock: lock })
    }

    /// The folder itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// What the campaign has done so far.
    ///
    /// # Errors
    ///
    /// The folder cannot be read or written, or is damaged.
    pub(super) fn progress(&self) -> Result<Progress> {
        let progress = self.read()?;
        // The next number must not be appended to an incomplete line.
        self.compact(&progress.finished)?;
        Ok(progress)
    }

    /// The same, of a folder that is not to be changed.
    ///
    /// # Errors
    ///
    /// The folder cannot be read, or is damaged.
    pub(super) fn read(&self) -> Result<Progress> {
        let finished = self.finished()?;
        Ok(Progress {
            suspended: self.suspended(&finished)?,
            parked: self.by_number("parked")?,
            finished,
            queue: self.queue()?,
            set_aside: read_set_aside(&self.root),
            reach: fs::read_to_string(self.root.join(REACH)).unwrap_or_default(),
            features: self.features(),
            blocks: BlockLog::read(&self.root),
        })
    }

    /// The numbers of finished tests.
    fn finished(&self) -> Result<Finished> {
        read_finished(&self.root, DONE)
    }

    /// The finished tests of the sweep; none of them where it is `other` than before.
    ///
    /// # Errors
    ///
    /// The folder cannot be read or written.
    pub(super) fn swept(&self, other: bool) -> Result<Finished> {
        let finished = if other {
            Finished::default()
        } else {
            swept(&self.root)?
        };
        self.compact_swept(&finished)?;
        Ok(finished)
    }

    /// Rewrites the log of finished tests of the sweep in its shortest form.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(super) fn compact_swept(&self, finished: &Finished) -> Result<()> {
        write_whole(&self.root.join(SWEEP), finished.to_text().as_bytes())
    }

    /// Notes that a test of the sweep is finished.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(super) fn finish_swept(&self, index: u64) -> Result<()> {
        self.log(SWEEP, &index.to_string())
    }

    /// Rewrites the log of finished tests in its shortest form.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(super) fn compact(&self, finished: &Finished) -> Result<()> {
        write_whole(&self.root.join(DONE), finished.to_text().as_bytes())
    }

    /// Notes that test `number` is finished, after all it found is on disk.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(super) fn finish(&self, number: u64) -> Result<()> {
        self.log(DONE, &number.to_string())
    }

    /// Keeps the recipe of an interrupted test, to be run first when the campaign is resumed.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(super) fn suspend(&self, number: u64, recipe: &Recipe) -> Result<()> {
        write_whole(&self.suspended_file(number), recipe.to_json()?.as_bytes())
    }

    /// Removes the recipe of an interrupted test, which is finished now.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(super) fn forget(&self, number: u64) -> Result<()> {
        fs::remove_file(self.suspended_file(number)).context("cannot write to 'suspended'")
    }

    fn suspended_file(&self, number: u64) -> PathBuf {
        self.root.join("suspended").join(format!("{number}.json"))
    }

    /// The interrupted tests, by number: those not in `finished`.
    fn suspended(&self, finished: &Finished) -> Result<BTreeMap<u64, Recipe>> {
        let mut tests = self.by_number("suspended")?;
        tests.retain(|number, _| !finished.contains(*number));
        Ok(tests)
    }

    /// The recipes in `folder` that are named by numbers.
    fn by_number(&self, folder: &str) -> Result<BTreeMap<u64, Recipe>> {
        let recipes = self.recipes(folder)?.into_iter();
        let numbered = |(name, recipe): (String, Recipe)| Some((name.parse().ok()?, recipe));
        Ok(recipes.filter_map(numbered).collect())
    }

    /// Keeps the recipe of a test that may hang, as JSON.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(super) fn park(&self, number: u64, recipe: &str) -> Result<()> {
        write_whole(&self.parked_file(number), recipe.as_bytes())
    }

    /// Removes the recipe of a test that was run again.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(super) fn unpark(&self, number: u64) -> Result<()> {
        fs::remove_file(self.parked_file(number)).context("cannot write to 'parked'")
    }

    fn parked_file(&self, number: u64) -> PathBuf {
        self.root.join("parked").join(format!("{number}.json"))
    }

    /// Appends a line to one of the logs.
    ///
    /// # Errors
    ///
    /// The log cannot be written.
    pub(super) fn log(&self, name: &str, line: &str) -> Result<()> {
        append(&self.root.join(name), &format!("{line}\n"))
    }

    /// Adds an image and its recipe to the queue: both, or neither where one of them cannot
    /// be written.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(super) fn enqueue(&self, name: &str, recipe: &Recipe, image: &NamedFile) -> Result<()> {
        let queue = self.root.join("queue");
        persist_as(write_temp(&queue, image)?, &queue, name)?;
        let path = self.root.join("recipes").join(format!("{name}.json"));
        write_whole(&path, recipe.to_json()?.as_bytes()).inspect_err(|_| {
            // The first error is the one to report.
            let _ = fs::remove_file(queue.join(name));
        })
    }

    /// Stores the names of the recipes of the queue that are not varied. They stay there.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(super) fn set_aside(&self, names: &[&str]) -> Result<()> {
        let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
        write_whole(&self.root.join(SET_ASIDE), lines.as_bytes())
    }

    /// Logs features that were not seen before, after the image that showed them is in the
    /// queue.
    ///
    /// # Errors
    ///
    /// The log cannot be written.
    pub(super) fn log_features(&self, features: &[u64]) -> Result<()> {
        let lines: Vec<String> = features
            .iter()
            .map(|feature| format!("{feature:016x}"))
            .collect();
        self.log(FEATURES, &lines.join("\n"))
    }

    /// Logs blocks that were not reached before, as text of [`BLOCKS`], after the image that
    /// reached them is in the queue.
    ///
    /// # Errors
    ///
    /// The log cannot be written.
    pub(super) fn log_blocks(&self, lines: &str) -> Result<()> {
        self.log(BLOCKS, lines)
    }

    /// The features in the log. An incomplete line is of a test that will be run again.
    fn features(&self) -> HashSet<u64> {
        let text = fs::read_to_string(self.root.join(FEATURES)).unwrap_or_default();
        text.lines()
            .filter(|line| line.len() == 16)
            .filter_map(|line| u64::from_str_radix(line, 16).ok())
            .collect()
    }

    /// The recipes of the queue, by name.
    fn queue(&self) -> Result<Vec<(String, Recipe)>> {
        let mut recipes = self.recipes("recipes")?;
        recipes.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(recipes)
    }

    /// The recipes in `folder`, by name. Those that another version made, or that cannot be
    /// read, are left out.
    fn recipes(&self, folder: &str) -> Result<Vec<(String, Recipe)>> {
        let mut recipes = Vec::new();
        let path = self.root.join(folder);
        let entries = match fs::read_dir(&path) {
            // Earlier versions had fewer folders, and copies are without empty ones.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(recipes),
            entries => entries.with_context(|| format!("cannot read '{}'", path.display()))?,
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            if let Ok(recipe) = Recipe::read(&path) {
                recipes.push((name.into_owned(), recipe));
            }
        }
        Ok(recipes)
    }
}

/// Ends the last line of a log that a kill left incomplete, so that the next does not run
/// into it.
///
/// # Errors
///
/// The log cannot be read or written.
fn end_last_line(path: &Path) -> Result<()> {
    let shown = || format!("cannot read '{}'", path.display());
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.with_context(shown)?,
    };
    let mut last = [b'\n'];
    if file.metadata().with_context(shown)?.len() > 0 {
        file.seek(SeekFrom::End(-1)).with_context(shown)?;
        file.read_exact(&mut last).with_context(shown)?;
    }
    if last == [b'\n'] {
        return Ok(());
    }
    append(path, "\n")
}

/// The names of the recipes in the work folder `root` that are not varied, since others reach
/// the same.
pub(super) fn read_set_aside(root: &Path) -> HashSet<String> {
    let text = fs::read_to_string(root.join(SET_ASIDE)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The finished tests of the sweep in the work folder `root`.
///
/// # Errors
///
/// The folder cannot be read.
pub(super) fn swept(root: &Path) -> Result<Finished> {
    read_finished(root, SWEEP)
}

/// The numbers in the log `name` of the work folder `root`.
fn read_finished(root: &Path, name: &str) -> Result<Finished> {
    let text = match fs::read_to_string(root.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.with_context(|| format!("cannot read '{name}'"))?,
    };
    Finished::parse(&text).with_context(|| format!("'{name}' is damaged"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn finished_numbers_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for number in [0, 1, 4, 3] {
            store.finish(number).unwrap();
        }
        let finished = store.finished().unwrap();
        assert_eq!(finished.below, 2);
        assert_eq!(finished.beyond, BTreeSet::from([3, 4]));
        store.compact(&finished).unwrap();
        store.finish(2).unwrap();
        assert_eq!(store.finished().unwrap().below, 5);
    }

    /// A resumed campaign once took all that it had seen before for new.
    #[test]
    fn features_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.log_features(&[1, u64::MAX]).unwrap();
        store.log_features(&[7]).unwrap();
        store.log(FEATURES, "00000000000000").unwrap();
        assert_eq!(
            store.progress().unwrap().features,
            HashSet::from([1, 7, u64::MAX])
        );
    }

    /// The number of the next test was once appended to a line that a kill had left incomplete,
    /// which made another number of both.
    #[test]
    fn an_incomplete_line_does_not_run_into_the_next() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("done"), "0\n1\n1").unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.progress().unwrap();
        store.finish(5).unwrap();
        let finished = store.finished().unwrap();
        assert_eq!((finished.below, finished.beyond), (2, BTreeSet::from([5])));
    }

    /// The hit after a kill was once lost with the line that the kill had left incomplete.
    #[test]
    fn a_log_goes_on_in_a_line_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let hits = folder.path().join("hits.jsonl");
        for (before, after) in [("", "b\n"), ("a\n", "a\nb\n"), ("a\n{", "a\n{\nb\n")] {
            fs::write(&hits, before).unwrap();
            let store = Store::open(folder.path()).unwrap();
            store.log("hits.jsonl", "b").unwrap();
            assert_eq!(fs::read_to_string(&hits).unwrap(), after);
        }
    }

    #[test]
    fn an_incomplete_line_is_not_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        fs::write(folder.path().join("done"), "0\n1\n12").unwrap();
        assert_eq!(
            store.finished().unwrap(),
            Finished {
                below: 2,
                ..Finished::default()
            }
        );
    }

    #[test]
    fn only_one_fuzzer_uses_a_folder() {
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
            fuzzer: crate::input::recipe::FUZZER.into(),
            seed: "together".into(),
            base: image_mutations::base::draw(&mut image_mutations::rng::Rng::from_text(
                "together",
            )),
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
        // What a kill left is removed.
        fs::write(root.join("queue/.new-x"), "").unwrap();
        drop(store);
        Store::open(root).unwrap();
        assert_eq!(count("queue"), 1);
    }
}
