//! The groups of a work folder: which tests hit them, and what their examples are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Example, records, write_folder};
use crate::files::{append, persist_as, write_temp};
use crate::input::recipe::Recipe;
use crate::oracle::Class;
use crate::signature::Signature;
use crate::triage::Key;

/// The groups of a work folder.
#[derive(Debug)]
pub struct Findings {
    root: PathBuf,
    groups: BTreeMap<Key, Group>,
    /// Groups whose example an earlier run did not finish minimising, with its recipe.
    unfinished: Vec<(Key, Recipe)>,
}

/// What is known of a group.
#[derive(Debug, Default)]
struct Group {
    /// The numbers of the tests that hit it.
    hits: BTreeSet<u64>,
    /// The size of its example.
    size: Option<Size>,
    /// Whether a second run reproduced it.
    confirmed: bool,
    /// Whether a worker is minimising its example.
    in_progress: bool,
    /// Its folder where it has one, which an earlier version may have named otherwise.
    folder: Option<PathBuf>,
}

/// A [`Recipe::size`].
type Size = (usize, usize, usize);

/// How a test that hit a group compares with the group's example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// The group has no example yet, or only one that was not reproduced.
    New,
    /// It has fewer edits or shorter commands than the example.
    Smaller,
    /// It is no better than the example, or a worker is minimising that.
    Duplicate,
}

/// A line of `hits.jsonl`: a test that hit a group.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HitLine {
    pub(super) test: u64,
    #[serde(flatten)]
    pub(super) key: Key,
}

/// The log of hits.
pub(super) const HITS: &str = "hits.jsonl";

/// The hits in the work folder `root`. An incomplete line, left by a kill, belongs to a test that
/// will be run again.
pub(super) fn hits(root: &Path) -> Vec<HitLine> {
    let text = fs::read_to_string(root.join(HITS)).unwrap_or_default();
    let hits = text.lines().map(serde_json::from_str);
    hits.filter_map(Result::ok).collect()
}

impl Findings {
    /// The groups found so far in the work folder `root`.
    ///
    /// # Errors
    ///
    /// The folder cannot be read, or a finding in it is damaged.
    pub fn open(root: &Path) -> Result<Self> {
        let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
        for hit in hits(root) {
            groups.entry(hit.key).or_default().hits.insert(hit.test);
        }
        let mut unfinished = Vec::new();
        for (folder, record) in records(root)? {
            let recipe = Recipe::read(&folder.join("recipe.json"))?;
            let group = groups.entry(record.key.clone()).or_default();
            group.size = Some(recipe.size());
            group.confirmed |= record.confirmed;
            group.folder = Some(folder);
            if !record.minimised {
                unfinished.push((record.key, recipe));
            }
        }
        Ok(Self {
            root: root.to_owned(),
            groups,
            unfinished,
        })
    }

    /// The confirmed hangs.
    pub fn hangs(&self) -> impl Iterator<Item = Signature> {
        let groups = self.groups.iter();
        let hangs = groups.filter(|(key, group)| key.class == Class::Hang && group.confirmed);
        hangs.map(|(key, _)| key.signature.clone())
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// How many groups have an example that a second run reproduced.
    pub fn confirmed(&self) -> usize {
        self.groups.values().filter(|it| it.confirmed).count()
    }

    /// How many groups each class has.
    pub fn classes(&self) -> BTreeMap<Class, usize> {
        let mut classes = BTreeMap::new();
        for key in self.groups.keys() {
            *classes.entry(key.class).or_default() += 1;
        }
        classes
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The groups whose example an earlier run did not finish minimising, for the caller to
    /// go on with and to [update](Self::update).
    pub fn unfinished(&mut self) -> Vec<(Key, Recipe)> {
        let unfinished = std::mem::take(&mut self.unfinished);
        for (key, _) in &unfinished {
            self.group(key).in_progress = true;
        }
        unfinished
    }

    /// The group that a finding named `key` belongs to: for a hang whose stack could not be
    /// sampled, the first known one.
    pub fn group_of(&self, key: &Key) -> Key {
        if self.groups.contains_key(key) {
            return key.clone();
        }
        // A function called where the program hangs may be there in every sample.
        let known = self.groups.keys().find(|known| key.covers(known));
        known.unwrap_or(key).clone()
    }

    /// Whether a second run reproduced an example of the group.
    pub fn is_confirmed(&self, key: &Key) -> bool {
        self.groups.get(key).is_some_and(|group| group.confirmed)
    }

    /// Counts test `number`, which has `recipe`, into a group; `confirmed` where a second run
    /// reproduced the finding. Unless it is a duplicate the caller is to make an example of it
    /// and to [update](Self::update) the group with that.
    ///
    /// # Errors
    ///
    /// The log cannot be written.
    pub fn hit(
        &mut self,
        key: &Key,
        number: u64,
        recipe: &Recipe,
        confirmed: bool,
    ) -> Result<Candidate> {
        self.count(key, number)?;
        let size = recipe.size();
        let group = self.group(key);
        let candidate = match group.size {
            None => Candidate::New,
            Some(_) if !group.confirmed && confirmed => Candidate::New,
            Some(_) if !group.confirmed => Candidate::Duplicate,
            Some(known) if (size.0, size.1) < (known.0, known.1) => Candidate::Smaller,
            Some(_) => Candidate::Duplicate,
        };
        if candidate == Candidate::Duplicate || group.in_progress {
            return Ok(Candidate::Duplicate);
        }
        group.in_progress = true;
        if candidate == Candidate::New {
            group.size = Some(size);
        }
        group.confirmed |= confirmed;
        Ok(candidate)
    }

    /// Counts test `number` into a group, and no more: it is no example.
    ///
    /// # Errors
    ///
    /// The log cannot be written.
    pub fn count(&mut self, key: &Key, number: u64) -> Result<()> {
        if self.group(key).hits.insert(number) {
            let hit = HitLine {
                test: number,
                key: key.clone(),
            };
            let line = serde_json::to_string(&hit)? + "\n";
            append(&self.root.join(HITS), &line)?;
        }
        Ok(())
    }

    /// Notes that no worker minimises the example of a group: it was not reproduced.
    pub fn release(&mut self, key: &Key) {
        self.group(key).in_progress = false;
    }

    /// Writes an example that a worker minimised unless the group has a smaller one. Until it
    /// is minimal the worker goes on with it.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub fn update(&mut self, example: &Example) -> Result<()> {
        let group = self.group(&example.key);
        if example.minimised {
            group.in_progress = false;
        }
        let size = example.recipe.size();
        let better = match group.size {
            Some(known) if size == known => example.minimised,
            Some(known) => size < known && example.confirmed,
            None => true,
        };
        if better { self.write(example) } else { Ok(()) }
    }

    /// Writes the folder of a group, and its image where AFL's tools look for it: both, or
    /// neither where one of them cannot be written.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub fn write(&mut self, example: &Example) -> Result<()> {
        let key = &example.key;
        let folder = self.group(key).folder.clone();
        let folder = folder.unwrap_or_else(|| self.root.join("findings").join(key.folder_name()));
        let images = self.root.join(images_of(key.class));
        let image = match example.files.first() {
            Some(image) => Some((afl_name(&images, &folder)?, write_temp(&images, image)?)),
            None => None,
        };
        write_folder(&folder, example)?;
        if let Some((name, image)) = image {
            persist_as(image, &images, &name)?;
        }
        let group = self.group(key);
        group.folder = Some(folder);
        group.size = Some(example.recipe.size());
        group.confirmed |= example.confirmed;
        Ok(())
    }

    fn group(&mut self, key: &Key) -> &mut Group {
        self.groups.entry(key.clone()).or_default()
    }
}

/// The folder in which AFL's tools look for the images of a class.
pub(super) fn images_of(class: Class) -> &'static str {
    match class {
        class if class.oracle().is_hang() => "hangs",
        _ => "crashes",
    }
}

/// The name of a group's image among the `images` for AFL's tools, where `folder` is the
/// group's: the one it has, or one with the next number.
fn afl_name(images: &Path, folder: &Path) -> Result<String> {
    let group = folder.file_name().unwrap_or_default().to_string_lossy();
    let mut count = 0;
    let entries = fs::read_dir(images);
    for entry in entries.with_context(|| format!("cannot read '{}'", images.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.split_once(',').is_some_and(|(_, of)| of == group) {
            return Ok(name);
        }
        count += 1;
    }
    Ok(format!("id:{count:06},{group}"))
}

/// How often each group of a work folder was hit.
pub fn counts(root: &Path) -> BTreeMap<Key, usize> {
    let groups = Findings::open(root).map(|findings| findings.groups);
    let groups = groups.unwrap_or_default().into_iter();
    groups.map(|(key, group)| (key, group.hits.len())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::test_examples::{example, recipe};
    use super::*;

    /// A work folder without findings.
    fn work_folder() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["findings", "crashes", "hangs"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        root
    }

    #[test]
    fn a_smaller_example_takes_the_place_of_a_larger_one() {
        let root = work_folder();
        let recipe = recipe(&["true", "$test_img"]);
        let key = Key::new(Class::Crash, "site");
        let of = |edits, minimised| example(&key, &recipe, edits, minimised);
        let mut findings = Findings::open(root.path()).unwrap();
        let hit = |findings: &mut Findings, number, edits| {
            let example = of(edits, false);
            findings.hit(&key, number, &example.recipe, true).unwrap()
        };
        assert_eq!(hit(&mut findings, 0, 3), Candidate::New);
        findings.write(&of(3, false)).unwrap();
        // While its worker minimises it others leave it alone.
        assert_eq!(hit(&mut findings, 1, 1), Candidate::Duplicate);
        findings.update(&of(3, false)).unwrap();
        assert_eq!(hit(&mut findings, 2, 1), Candidate::Duplicate);
        findings.update(&of(2, true)).unwrap();
        assert_eq!(hit(&mut findings, 3, 2), Candidate::Duplicate);
        assert_eq!(hit(&mut findings, 4, 1), Candidate::Smaller);
        findings.update(&of(1, true)).unwrap();
        assert_eq!(hit(&mut findings, 5, 1), Candidate::Duplicate);
        let found = records(root.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1.edits, 1);
        assert!(found[0].1.minimised);
        // Another run of the fuzzer knows as much.
        let mut again = Findings::open(root.path()).unwrap();
        assert_eq!(hit(&mut again, 6, 1), Candidate::Duplicate);
        assert_eq!(hit(&mut again, 7, 0), Candidate::Smaller);
        assert_eq!(counts(root.path())[&key], 8);
        let hang = |text: &str| Key::new(Class::Hang, text);
        let first = hang("hung in a < b");
        again.hit(&first, 8, &recipe, true).unwrap();
        assert_eq!(again.group_of(&hang("tool")), hang("hung in a < b"));
        assert_eq!(again.group_of(&hang("hung in c")), hang("hung in c"));
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
        let example = example(&key, &recipe(&["true", "$test_img"]), 2, true);
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
        let readme = at("findings").join(key.folder_name()).join("README.md");
        let readme = fs::read_to_string(readme).unwrap();
        assert!(readme.contains("\n1 of its bytes differs from"), "{readme}");
    }

    #[test]
    fn an_unconfirmed_finding_waits_for_an_example_that_is_reproduced() {
        let root = work_folder();
        let recipe = recipe(&["true", "$test_img"]);
        let key = Key::new(Class::Crash, "SIGSEGV");
        let mut once = example(&key, &recipe, 1, true);
        once.confirmed = false;
        let mut findings = Findings::open(root.path()).unwrap();
        let recipe = once.recipe.clone();
        let first = findings.hit(&key, 0, &recipe, false).unwrap();
        assert_eq!(first, Candidate::New);
        findings.write(&once).unwrap();
        findings.release(&key);
        let second = findings.hit(&key, 1, &recipe, false).unwrap();
        assert_eq!(second, Candidate::Duplicate);
        // Another run of the fuzzer waits for one as well.
        let mut findings = Findings::open(root.path()).unwrap();
        assert!(!findings.is_confirmed(&key) && findings.unfinished().is_empty());
        // A larger example that is reproduced is worth more than a smaller one.
        let twice = example(&key, &recipe, 3, false);
        let hit = findings.hit(&key, 2, &twice.recipe, true).unwrap();
        assert_eq!(hit, Candidate::New);
        findings.write(&twice).unwrap();
        assert!(findings.is_confirmed(&key));
        let found = records(root.path()).unwrap();
        assert_eq!((found.len(), found[0].1.edits), (1, 3));
        assert_eq!(counts(root.path())[&key], 3);
    }

    /// The names of what is in `folder`.
    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// A group as version 0.2 wrote it: its class, its signature, its folder, and the folder
    /// of its image for AFL's tools.
    type Earlier = (&'static str, &'static str, &'static str, &'static str);

    const EARLIER: [Earlier; 3] = [
        (
            "hang",
            "stuck in a < b",
            "hang-stuck-in-a-b-0a1b2c",
            "hangs",
        ),
        (
            "growth",
            "memory qemu-img info",
            "growth-memory-qemu-img-info-3d4e5f",
            "crashes",
        ),
        (
            "outside",
            "qemu-img info",
            "outside-qemu-img-info-6a7b8c",
            "crashes",
        ),
    ];

    /// Writes a group into the work folder `root` as version 0.2 did.
    fn write_earlier(root: &Path, number: usize, recipe: &Recipe, group: Earlier) -> Key {
        let (class, site, folder, images) = group;
        let stored = serde_json::json!({ "test": number, "class": class, "site": site });
        append(&root.join(HITS), &format!("{stored}\n")).unwrap();
        let key: Key = serde_json::from_value(stored).unwrap();
        assert_ne!(key.folder_name(), folder);
        let path = root.join("findings").join(folder);
        write_folder(&path, &example(&key, recipe, 3, true)).unwrap();
        let path = path.join("finding.json");
        let record = fs::read_to_string(&path).unwrap();
        let mut record: serde_json::Value = serde_json::from_str(&record).unwrap();
        let fields = record.as_object_mut().unwrap();
        fields.remove("signature").unwrap();
        let hits = fields.remove("hits_in_10").unwrap();
        fields.insert("of_ten".into(), hits);
        fields.insert("class".into(), class.into());
        fields.insert("site".into(), site.into());
        fs::write(&path, record.to_string()).unwrap();
        let image = format!("id:{number:06},{folder}");
        fs::write(root.join(images).join(image), "").unwrap();
        key
    }

    /// Version 0.2 had other words in the names of folders.
    #[test]
    fn groups_keep_the_folders_that_an_earlier_version_named() {
        let root = work_folder();
        let root = root.path();
        let recipe = recipe(&["true", "$test_img"]);
        let write = |(number, group)| write_earlier(root, number, &recipe, group);
        let keys: Vec<Key> = EARLIER.into_iter().enumerate().map(write).collect();
        let listing = || ["findings", "crashes", "hangs"].map(|folder| names(&root.join(folder)));
        let before = listing();
        let mut findings = Findings::open(root).unwrap();
        assert_eq!(findings.len(), keys.len());
        for key in &keys {
            assert!(findings.is_confirmed(key));
            let smaller = example(key, &recipe, 1, true);
            let hit = findings.hit(key, 7, &smaller.recipe, true).unwrap();
            assert_eq!(hit, Candidate::Smaller);
            findings.update(&smaller).unwrap();
        }
        assert_eq!(listing(), before);
        let found = records(root).unwrap();
        assert!(found.iter().all(|(_, record)| record.edits == 1));
        assert!(keys.iter().all(|key| counts(root)[key] == 2));
        for (number, (_, _, folder, images)) in EARLIER.into_iter().enumerate() {
            let image = root.join(images).join(format!("id:{number:06},{folder}"));
            assert_ne!(fs::metadata(image).unwrap().len(), 0);
        }
        // Another run of the fuzzer finds them there as well.
        assert_eq!(Findings::open(root).unwrap().len(), keys.len());
    }
}
