//! What a test has reached, as it is stored.

use std::io;
use std::path::Path;

use super::codec::{Reader, Writer, unpacked};
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
    /// [`super::Table::build`].
    pub build: String,
    /// Whether every block was recorded, not the first of each function alone.
    pub has_blocks: bool,
    /// When it was first started, in milliseconds after the start of the test. The blocks of
    /// [`super::Table::startup`] are reached then; they are not listed.
    pub first_ms: u32,
    /// The other blocks that were reached, in ascending order.
    pub blocks: Vec<u32>,
    /// For each of them, after how many milliseconds.
    pub times_ms: Vec<u32>,
}

impl Reached {
    /// Writes it to a file.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
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

    /// Reads what [`save`](Self::save) has written.
    pub(super) fn load(path: &Path) -> io::Result<Self> {
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
            // What is recorded is about the build, wherever it is.
            qemu: String::new(),
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

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

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
