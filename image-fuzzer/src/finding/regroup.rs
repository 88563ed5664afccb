//! The findings of several work folders as those of one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::index::{HITS, HitLine, hits, images_of};
use super::version_record::{self, VersionRecord};
use super::{Record, image_in, records};
use crate::files::{copy_sparse, write_whole};
use crate::input::recipe::Recipe;
use crate::triage::Key;

/// A work folder whose findings are taken.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The folder.
    pub root: &'a Path,
    /// The number that its test 0 gets.
    pub first: u64,
}

/// A finding of a group.
struct Example {
    folder: PathBuf,
    record: Record,
    recipe: Recipe,
}

impl Example {
    /// The lower, the better: one that is reproduced, then one that is minimal, then the
    /// smallest.
    fn rank(&self) -> (bool, bool, (usize, usize, usize)) {
        let Self { record, recipe, .. } = self;
        (!record.confirmed, !record.minimised, recipe.size())
    }
}

/// What is taken over of a group.
#[derive(Default)]
struct Group {
    examples: Vec<Example>,
    hits: BTreeSet<u64>,
}

/// Copies the findings of `origins` into the new work folder `into`: of each group the best
/// example, with the hits of all. Returns how many groups there are, and how many findings
/// there were.
///
/// # Errors
///
/// A finding is damaged, or the folder cannot be written.
pub fn regroup(origins: &[Origin<'_>], into: &Path) -> Result<(usize, usize)> {
    let mut found: Vec<(Key, Example)> = Vec::new();
    let mut hit: Vec<(Key, u64)> = Vec::new();
    for origin in origins {
        for (folder, record) in records(origin.root)? {
            let recipe = Recipe::read(&folder.join("recipe.json"))?;
            let key = record.key.clone();
            found.push((
                key,
                Example {
                    folder,
                    record,
                    recipe,
                },
            ));
        }
        let lines = hits(origin.root).into_iter();
        hit.extend(lines.map(|line| (line.key, origin.first + line.test)));
    }
    let findings = found.len();
    let names = names(
        found
            .iter()
            .map(|(key, _)| key)
            .chain(hit.iter().map(|(key, _)| key)),
    );
    let mut groups: BTreeMap<&Key, Group> = BTreeMap::new();
    for (key, example) in found {
        groups
            .entry(&names[&key])
            .or_default()
            .examples
            .push(example);
    }
    for (key, test) in hit {
        groups.entry(&names[&key]).or_default().hits.insert(test);
    }
    let mut log = String::new();
    let mut images: BTreeMap<&str, usize> = BTreeMap::new();
    let count = groups.len();
    for (key, group) in groups {
        for test in group.hits {
            let key = key.clone();
            log += &(serde_json::to_string(&HitLine { test, key })? + "\n");
        }
        let examples = group.examples;
        let versions = examples
            .iter()
            .flat_map(|it| it.record.versions.clone())
            .collect();
        let Some(best) = examples.into_iter().min_by_key(Example::rank) else {
            continue;
        };
        let folder = into.join("findings").join(key.folder_name());
        copy(&best, key, versions, &folder)?;
        let images_of = images_of(key.class);
        let number = images.entry(images_of).or_default();
        let name = format!("id:{number:06},{}", key.folder_name());
        *number += 1;
        let image = image_in(&folder);
        copy_sparse(&image, &into.join(images_of).join(name))
            .with_context(|| format!("cannot copy '{}'", image.display()))?;
    }
    write_whole(&into.join(HITS), log.as_bytes())?;
    Ok((count, findings))
}

/// The group that each of `keys` is of: that of the same name or, for a hang whose stack says
/// less, one that it may be.
fn names<'a>(keys: impl Iterator<Item = &'a Key>) -> BTreeMap<Key, Key> {
    let all: BTreeSet<&Key> = keys.collect();
    let mut sorted: Vec<&Key> = all.into_iter().collect();
    // Those first that say where they are.
    sorted.sort_by_key(|key| key.signature.frames().is_none());
    let mut groups: Vec<&Key> = Vec::new();
    let mut names = BTreeMap::new();
    for key in sorted {
        let known = groups.iter().find(|known| key.covers(known));
        let group = known.copied().unwrap_or(key);
        if group == key {
            groups.push(key);
        }
        names.insert(key.clone(), group.clone());
    }
    names
}

/// Copies a finding, which is of the group `key` now and was seen with these `versions` too.
fn copy(example: &Example, key: &Key, versions: Vec<VersionRecord>, to: &Path) -> Result<()> {
    let from = example.folder.display();
    fs::create_dir(to).with_context(|| format!("cannot make '{}'", to.display()))?;
    for entry in fs::read_dir(&example.folder).with_context(|| format!("cannot read '{from}'"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            copy_sparse(&entry.path(), &to.join(entry.file_name()))
                .with_context(|| format!("cannot copy '{}'", entry.path().display()))?;
        }
    }
    let mut record = example.record.clone();
    record.key = key.clone();
    version_record::merge(&mut record.versions, versions);
    record.write(to)
}

#[cfg(test)]
mod tests {
    use super::super::test_examples::{example, recipe};
    use super::super::{Findings, counts};
    use super::*;
    use crate::oracle::Class;

    /// A work folder with a finding of each of these groups, with so many edits, hit so often.
    fn work_folder(groups: &[(&Key, usize, u64)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["findings", "crashes", "hangs"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        let recipe = recipe(&["true", "$test_img"]);
        let mut findings = Findings::open(root.path()).unwrap();
        for (key, edits, hits) in groups {
            let example = example(key, &recipe, *edits, true);
            for test in 0..*hits {
                findings.hit(key, test, &example.recipe, true).unwrap();
            }
            findings.write(&example).unwrap();
        }
        root
    }

    #[test]
    fn groups_of_the_same_signature_are_one_with_the_smallest_example() {
        let crash = Key::new(Class::Crash, "SIGSEGV in a < b");
        let other = Key::new(Class::Crash, "SIGSEGV in c < d");
        let hang = Key::new(Class::Hang, "hung in a < b");
        let vague = Key::new(Class::Hang, "qemu-img check");
        let one = work_folder(&[(&crash, 3, 2), (&vague, 1, 1)]);
        let two = work_folder(&[(&crash, 1, 3), (&other, 2, 1), (&hang, 2, 4)]);
        let into = work_folder(&[]);
        fs::remove_file(into.path().join(HITS)).unwrap_or_default();
        let origins = [(&one, 0), (&two, 100)].map(|(root, first)| Origin {
            root: root.path(),
            first,
        });
        assert_eq!(regroup(&origins, into.path()).unwrap(), (3, 5));
        let counts = counts(into.path());
        assert_eq!((counts[&crash], counts[&other], counts[&hang]), (5, 1, 5));
        let records = records(into.path()).unwrap();
        let edits = |key: &Key| {
            let found = records.iter().find(|(_, record)| record.key == *key);
            found.map(|(_, record)| record.edits)
        };
        assert_eq!(
            (edits(&crash), edits(&other), edits(&vague)),
            (Some(1), Some(2), None)
        );
        let images = |name: &str| fs::read_dir(into.path().join(name)).unwrap().count();
        assert_eq!((images("crashes"), images("hangs")), (2, 1));
        // What they were made from is as it was.
        assert_eq!(super::records(one.path()).unwrap().len(), 2);
        fs::write(
            one.path()
                .join("findings")
                .join(crash.folder_name())
                .join("finding.json"),
            "{",
        )
        .unwrap();
        let said = format!("{:#}", regroup(&origins, into.path()).unwrap_err());
        assert!(said.contains("finding.json' is damaged"), "{said}");
    }
}
