//! What tests have reached, in files beside the history.
//!
//! ```text
//! TEST_DIR-history/coverage/programs/BUILD    a table of each program
//!                           tests/NAME.HASH   what a test and combination has reached
//! ```
//!
//! Each file is replaced as a whole, so that runs at the same time do not disturb each other,
//! and the newest result of a test is the one that is kept.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::carry::Carry;
use super::reached::Reached;
use super::table::{Table, hash};
use crate::model::Combo;

/// The files of a recording.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The recording beside the history in `history`; nothing is made.
    #[must_use]
    pub fn new(history: &Path) -> Self {
        Self {
            dir: history.join("coverage"),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn program(&self, build: &str) -> PathBuf {
        self.dir.join("programs").join(build)
    }

    fn test(&self, test: &str, combo: &Combo) -> PathBuf {
        let key = [
            &combo.format,
            &combo.protocol,
            &combo.cache,
            &combo.aio,
            &combo.options,
        ];
        let key = hash(key.map(String::as_str).join("\n").as_bytes());
        // Named tests are in folders.
        let name = test.replace('/', "_");
        self.dir.join("tests").join(format!("{name}.{key:016x}"))
    }

    /// Makes its folders.
    ///
    /// # Errors
    ///
    /// They cannot be made.
    pub fn create(&self) -> io::Result<()> {
        for folder in ["programs", "tests"] {
            fs::create_dir_all(self.dir.join(folder))?;
        }
        Ok(())
    }

    /// The table of a build, where there is one.
    #[must_use]
    pub fn table(&self, build: &str) -> Option<Table> {
        Table::load(&self.program(build)).ok()
    }

    /// Every table; files that are none are passed over.
    #[must_use]
    pub fn tables(&self) -> Vec<Table> {
        let load = |path: &PathBuf| Table::load(path).ok();
        files(&self.dir.join("programs"))
            .iter()
            .filter_map(load)
            .collect()
    }

    /// What every test has reached, by name; files that are none are passed over.
    #[must_use]
    pub fn tests(&self) -> Vec<Reached> {
        let load = |path: &PathBuf| Reached::load(path).ok();
        let tests = files(&self.dir.join("tests"));
        let mut tests: Vec<Reached> = tests.iter().filter_map(load).collect();
        tests.sort_by(|a, b| (&a.test, &a.combo).cmp(&(&b.test, &b.combo)));
        tests
    }

    /// Keeps a table.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn put_table(&self, table: &Table) -> io::Result<()> {
        table.save(&self.program(&table.build))
    }

    /// Keeps what a test has reached, in place of what it had reached before.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn put(&self, reached: &Reached) -> io::Result<()> {
        reached.save(&self.test(&reached.test, &reached.combo))
    }

    /// Drops earlier builds of the programs of `tables`. What tests have reached of functions
    /// that have not changed is kept.
    ///
    /// # Errors
    ///
    /// A file cannot be written or removed.
    pub fn replace_builds(&self, tables: &[&Table]) -> io::Result<()> {
        let mut changes = Vec::new();
        // Tables are large: those that stay are not read again.
        let is_new = |path: &&PathBuf| {
            let builds = tables.iter().map(|table| table.build.as_str());
            builds
                .map(OsStr::new)
                .any(|it| path.file_name() == Some(it))
        };
        let all = files(&self.dir.join("programs"));
        for old in all.iter().filter(|path| !is_new(path)) {
            let Ok(old) = Table::load(old) else {
                continue;
            };
            let new = tables.iter().find(|new| new.program == old.program);
            if let Some(new) = new {
                changes.push((Carry::new(&old, new), old.build.clone()));
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        for mut reached in self.tests() {
            let mut changed = false;
            for (carry, build) in &changes {
                changed |= carry.apply(&mut reached, build);
            }
            if changed {
                self.put(&reached)?;
            }
        }
        for (_, build) in changes {
            fs::remove_file(self.program(&build))?;
        }
        Ok(())
    }
}

/// The files in a folder; none where it cannot be read.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::reached::tests::reached;
    use super::super::table::tests::table;
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_newest_result_of_a_test_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        assert!(store.tests().is_empty() && store.tables().is_empty());
        store.create().unwrap();
        store.put(&reached("tests/b", "1", &[4])).unwrap();
        store.put(&reached("001", "1", &[1])).unwrap();
        store.put(&reached("001", "1", &[2, 3])).unwrap();
        let mut raw = reached("001", "1", &[9]);
        raw.combo = sample::combo("raw");
        store.put(&raw).unwrap();
        fs::write(store.dir().join("tests/other"), "check coverage test 9\n").unwrap();
        let all = store.tests();
        let expected = [
            reached("001", "1", &[2, 3]),
            raw,
            reached("tests/b", "1", &[4]),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn a_new_build_replaces_the_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.create().unwrap();
        let old = table("qemu-img", "1", &[("same", 2), ("changed", 2), ("last", 1)]);
        let mut new = table("qemu-img", "2", &[("changed", 3), ("same", 2), ("last", 1)]);
        new.functions[0].content_hash = 5;
        let other = table("qemu-io", "3", &[("same", 2)]);
        for table in [&old, &new, &other] {
            store.put_table(table).unwrap();
        }
        store.put(&reached("001", "1", &[0, 1, 2, 4])).unwrap();
        store.put(&reached("002", "3", &[1])).unwrap();
        store.replace_builds(&[&new]).unwrap();
        let mut builds: Vec<_> = store.tables().into_iter().map(|it| it.build).collect();
        builds.sort_unstable();
        assert_eq!(builds, ["2", "3"]);
        let all = store.tests();
        assert_eq!(all[0].programs[0].build, "2");
        assert_eq!(all[0].programs[0].blocks, [3, 4, 5]);
        assert_eq!(all[0].programs[0].times_ms, [0, 1, 4]);
        assert_eq!(all[1], reached("002", "3", &[1]));
    }
}
