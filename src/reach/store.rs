//! What tests have reached, in files beside the history.
//!
//! ```text
//! TEST_DIR-history/coverage/programs/BUILD    a table of each program
//!                           tests/NAME.HASH   what a test and combination has reached
//! ```
//!
//! Each file is replaced as a whole, so that runs at the same time do not disturb each other,
//! and the newest result of a test is the one that is kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::carry::Carry;
use super::codec::{Reader, Writer, unpacked};
use super::table::{Table, hash};
use crate::model::Combo;

/// The first line of the file of a test.
const FIRST_LINE: &str = "check coverage test 1";

/// What a test has reached under a combination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The test.
    pub test: String,
    /// The combination.
    pub combo: Combo,
    /// When it was recorded, in seconds since 1970.
    pub at: u64,
    /// How long it took, in milliseconds.
    pub wall_ms: u32,
    /// What it has reached of each program that it started.
    pub programs: Vec<ProgramReached>,
}

/// What a test has reached of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramReached {
    /// [`Table::build`].
    pub build: String,
    /// Whether every block was recorded, not the first of each function alone.
    pub has_blocks: bool,
    /// When it was first started, in milliseconds after the start of the test. The blocks of
    /// [`Table::startup`] are reached then; they are not listed.
    pub first_ms: u32,
    /// The other blocks that were reached, in ascending order.
    pub blocks: Vec<u32>,
    /// For each of them, after how many milliseconds.
    pub times_ms: Vec<u32>,
}

impl Reached {
    fn save(&self, path: &Path) -> io::Result<()> {
        let mut to = Writer::default();
        let combo = &self.combo;
        for text in [
            &self.test,
            &combo.format,
            &combo.protocol,
            &combo.cache,
            &combo.aio,
            &combo.options,
        ] {
            to.text(text);
        }
        to.number(self.at);
        to.number(u64::from(self.wall_ms));
        to.number(self.programs.len() as u64);
        for program in &self.programs {
            to.text(&program.build);
            to.number(u64::from(program.has_blocks));
            to.number(u64::from(program.first_ms));
            to.ascending(&program.blocks);
            // Neighbours are mostly reached at the same time.
            let mut before = program.first_ms;
            for &time in &program.times_ms {
                let distance = i64::from(time) - i64::from(before);
                to.number(((distance << 1) ^ (distance >> 63)).cast_unsigned());
                before = time;
            }
        }
        to.save(path, FIRST_LINE)
    }

    fn load(path: &Path) -> io::Result<Self> {
        let bytes = unpacked(path, FIRST_LINE)?;
        Self::decode(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let test = from.text()?;
        let combo = Combo {
            format: from.text()?,
            protocol: from.text()?,
            cache: from.text()?,
            aio: from.text()?,
            options: from.text()?,
        };
        let (at, wall_ms) = (from.number()?, from.small()?);
        let mut programs = Vec::new();
        for _ in 0..from.count()? {
            let build = from.text()?;
            let (has_blocks, first_ms) = (from.number()? == 1, from.small()?);
            let blocks = from.ascending()?;
            let mut before = i64::from(first_ms);
            let mut times_ms = Vec::with_capacity(blocks.len());
            for _ in &blocks {
                let coded = from.number()?;
                let distance = (coded >> 1).cast_signed() ^ -(coded & 1).cast_signed();
                before = before.checked_add(distance)?;
                times_ms.push(u32::try_from(before).ok()?);
            }
            programs.push(ProgramReached {
                build,
                has_blocks,
                first_ms,
                blocks,
                times_ms,
            });
        }
        from.is_done().then_some(Self {
            test,
            combo,
            at,
            wall_ms,
            programs,
        })
    }
}

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
        for old in self.tables() {
            let new = tables.iter().find(|new| new.program == old.program);
            if let Some(new) = new.filter(|new| new.build != old.build) {
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
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::table::tests::table;
    use super::*;
    use crate::report::sample;

    /// A result of a test that has reached these blocks of a program, each after as many
    /// milliseconds as its number.
    pub(crate) fn reached(test: &str, build: &str, blocks: &[u32]) -> Reached {
        Reached {
            test: test.to_owned(),
            combo: sample::combo("qcow2"),
            at: 7,
            wall_ms: 1000,
            programs: vec![ProgramReached {
                build: build.to_owned(),
                has_blocks: true,
                first_ms: 3,
                blocks: blocks.to_vec(),
                times_ms: blocks.to_vec(),
            }],
        }
    }

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

    proptest! {
        #[test]
        fn results_are_read_as_they_were_written(
            mut blocks in prop::collection::btree_map(any::<u32>(), any::<u32>(), 0..60),
            first_ms in any::<u32>(),
        ) {
            let mut result = reached("030", "abc", &[]);
            blocks.remove(&u32::MAX);
            result.programs[0].first_ms = first_ms;
            result.programs[0].blocks = blocks.keys().copied().collect();
            result.programs[0].times_ms = blocks.values().copied().collect();
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("x");
            result.save(&file).unwrap();
            prop_assert_eq!(Reached::load(&file).unwrap(), result);
            let bytes = unpacked(&file, FIRST_LINE).unwrap();
            prop_assert_eq!(Reached::decode(&bytes[..bytes.len() - 1]), None);
        }
    }
}
