//! The blocks that a campaign reached.
//!
//! How rare a block is comes from a sample of the tests, all of whose blocks are noted: noting
//! them all the time would take as long as the tests. As in AFLFast (Böhme, Pham,
//! Roychoudhury: Coverage-based greybox fuzzing as Markov chain, CCS 2016) and in libFuzzer's
//! entropic schedule (Böhme, Manès, Cha: Boosting fuzzer efficiency, FSE 2020), what few tests
//! reach is worth more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::totals::Totals;
use crate::exec::blocks::{BlockFile, BlockId};
use crate::output::duration;

/// The log of blocks, in the work folder.
pub(super) const BLOCKS: &str = "blocks";

/// A worker that has taken a sample takes the next one after so many times as long.
pub(super) const SAMPLE_PAUSE: u32 = 66;

/// The same for the first few: they tell which blocks later ones need not note, and so how soon
/// anything is known of the recipes of the queue.
pub(super) const FIRST_PAUSE: u32 = 20;

/// How many samples these are, of all workers.
pub(super) const FIRST_SAMPLES: u64 = 40;

/// The blocks that were reached so far.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    known: HashSet<BlockId>,
    /// The files that the log tells of.
    files: HashSet<u64>,
    /// How many samples reached each block.
    sampled: HashMap<BlockId, u32>,
}

impl Reached {
    /// What earlier runs reached.
    pub(crate) fn of(log: &BlockLog) -> Self {
        Self {
            known: log.reached.iter().map(|first| first.block).collect(),
            files: log.files.keys().copied().collect(),
            sampled: HashMap::new(),
        }
    }

    /// How many blocks there are.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Those of `blocks` that are new, each once.
    pub(crate) fn add(&mut self, blocks: &[BlockId]) -> Vec<BlockId> {
        let new = blocks.iter().copied();
        new.filter(|block| self.known.insert(*block)).collect()
    }

    /// Whether a block of this file was reached by a test.
    pub(super) fn has_file(&self, file: u64) -> bool {
        self.files.contains(&file)
    }

    /// Takes in all the blocks of one test.
    pub(super) fn sample(&mut self, blocks: &[BlockId]) {
        for block in blocks {
            let count = self.sampled.entry(*block).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Takes in that these are reached by most tests, and not in samples any more.
    pub(super) fn ignore(&mut self, common: &[BlockId]) {
        let counts = common.iter().map(|block| (*block, u32::MAX));
        self.sampled.extend(counts);
    }

    /// What blocks are worth: one for each, less where samples reach it too.
    pub(super) fn worth(&self, blocks: &[BlockId]) -> f64 {
        let count = |block| self.sampled.get(block).copied().unwrap_or(0);
        let worth = |block| 1.0 / (1.0 + f64::from(count(block)));
        blocks.iter().map(worth).sum()
    }

    /// The lines of the log for new blocks, which test `number` reached so many seconds after
    /// the campaign was begun. `files` are the files that blocks are in.
    pub(crate) fn lines(
        &mut self,
        new: &[BlockId],
        number: u64,
        seconds: f64,
        files: impl FnOnce() -> Vec<BlockFile>,
    ) -> String {
        let mut text = String::new();
        if new.iter().any(|block| !self.files.contains(&block.file)) {
            for file in files() {
                let has_new = new.iter().any(|block| block.file == file.id);
                if has_new && self.files.insert(file.id) {
                    let BlockFile { id, blocks, .. } = file;
                    let build_id = match file.build_id.as_str() {
                        "" => "-",
                        known => known,
                    };
                    let path = file.path.display();
                    let _ = writeln!(text, "file {id:016x} {blocks} {build_id} {path}");
                }
            }
        }
        for BlockId { file, address } in new {
            let _ = writeln!(text, "{file:016x} {address:x} {seconds:.1} {number}");
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// When a block was reached first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct First {
    /// The block.
    pub block: BlockId,
    /// Time on the clock in which the campaign had run, in seconds.
    pub seconds: f64,
    /// The number of the test.
    pub test: u64,
}

/// What the log of a work folder says.
#[derive(Debug, Default)]
pub struct BlockLog {
    /// The files whose blocks were noted, by their ids.
    pub files: BTreeMap<u64, BlockFile>,
    /// The blocks that were reached, in order.
    pub reached: Vec<First>,
}

impl BlockLog {
    /// Reads the log of the work folder `root`; empty where it has none.
    pub fn read(root: &Path) -> Self {
        let text = std::fs::read(root.join(BLOCKS)).unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&text))
    }

    /// How many blocks were reached of how many; `None` where none were noted.
    pub fn counts(&self) -> Option<BlockCounts> {
        let last = self.reached.last()?;
        Some(BlockCounts {
            reached: self.reached.len(),
            all: self.files.values().map(|file| file.blocks).sum(),
            last_seconds: last.seconds,
        })
    }

    /// A line that a kill left incomplete is passed over.
    fn parse(text: &str) -> Self {
        let mut log = Self::default();
        for line in text.split_inclusive('\n').filter(|l| l.ends_with('\n')) {
            let line = line.trim_end();
            if let Some(file) = line.strip_prefix("file ").and_then(parse_file) {
                log.files.insert(file.id, file);
            } else {
                log.reached.extend(parse_first(line));
            }
        }
        log
    }
}

/// How many blocks of all programs were reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BlockCounts {
    /// How many were.
    pub reached: usize,
    /// How many there are.
    pub all: usize,
    /// When the last new one was, in seconds in which the campaign had run.
    pub last_seconds: f64,
}

impl BlockCounts {
    /// In words. How long ago the last one was is time in which the campaign ran: a report may
    /// be read much later.
    pub fn text(&self, totals: &Totals) -> String {
        let Self { reached, all, .. } = self;
        let ago = duration(totals.seconds - self.last_seconds);
        format!("{reached} of {all} reached, the last new one {ago} of testing ago")
    }
}

fn parse_file(line: &str) -> Option<BlockFile> {
    let mut words = line.splitn(4, ' ');
    let id = u64::from_str_radix(words.next()?, 16).ok()?;
    let blocks = words.next()?.parse().ok()?;
    let build_id = words.next()?;
    Some(BlockFile {
        id,
        blocks,
        build_id: build_id.trim_start_matches('-').to_owned(),
        path: PathBuf::from(words.next()?),
    })
}

fn parse_first(line: &str) -> Option<First> {
    let mut words = line.split(' ');
    let file = u64::from_str_radix(words.next()?, 16).ok()?;
    let address = u32::from_str_radix(words.next()?, 16).ok()?;
    Some(First {
        block: BlockId { file, address },
        seconds: words.next()?.parse().ok()?,
        test: words.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(address: u32) -> BlockId {
        BlockId { file: 7, address }
    }

    fn file() -> BlockFile {
        BlockFile {
            id: 7,
            path: "/usr/bin/a program".into(),
            build_id: String::new(),
            blocks: 99,
        }
    }

    #[test]
    fn the_log_gives_what_was_reached() {
        let mut reached = Reached::default();
        let new = reached.add(&[block(16), block(32), block(16)]);
        assert_eq!(new, [block(16), block(32)]);
        let mut text = reached.lines(&new, 3, 1.25, || vec![file()]) + "\n";
        let new = reached.add(&[block(32), block(48)]);
        assert_eq!(new, [block(48)]);
        text += &(reached.lines(&new, 9, 2.0, Vec::new) + "\n");
        let log = BlockLog::parse(&format!("{text}0000000000000007 50 3.0 "));
        assert_eq!(log.files, BTreeMap::from([(7, file())]));
        let tests: Vec<_> = log.reached.iter().map(|f| (f.block, f.test)).collect();
        assert_eq!(tests, [(block(16), 3), (block(32), 3), (block(48), 9)]);
        let mut again = Reached::of(&log);
        assert_eq!(again.len(), 3);
        assert_eq!(again.add(&[block(48), block(80)]), [block(80)]);
        assert!(
            !again
                .lines(&[block(80)], 10, 3.0, || vec![file()])
                .contains("file")
        );
    }

    #[test]
    fn the_counts_are_those_of_all_files() {
        assert_eq!(BlockLog::default().counts(), None);
        let text = "file 7 99 - /a\nfile 8 20 ab /b c\n7 10 1.5 0\n8 10 60.0 4\n";
        let counts = BlockLog::parse(text).counts().unwrap();
        assert_eq!((counts.reached, counts.all), (2, 119));
        let totals = Totals {
            seconds: 200.0,
            ..Totals::default()
        };
        assert_eq!(
            counts.text(&totals),
            "2 of 119 reached, the last new one 2 min 20 s of testing ago"
        );
    }

    #[test]
    fn what_few_samples_reach_is_worth_more() {
        let mut reached = Reached::default();
        reached.sample(&[block(16), block(32)]);
        reached.sample(&[block(16)]);
        assert!(reached.worth(&[block(32)]) > reached.worth(&[block(16)]));
        assert!(reached.worth(&[block(48)]) > reached.worth(&[block(32)]));
        assert_eq!(reached.worth(&[]), 0.0);
    }
}
