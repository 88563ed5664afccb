//! What the blocks of a disk hold, in descriptions of images.

use serde::{Deserialize, Serialize};

use crate::pattern::Pattern;
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;

/// A block of the disk and what it holds. The unit (cluster, grain, block, chunk) and its size
/// are those of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Which one, counted from 0.
    pub index: u64,
    /// What it holds.
    pub content: Content,
}

/// How a block is stored. Not every format has all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Stored as it is.
    Data(Pattern),
    /// Reads as zeros whatever the parent has, without being stored.
    Zero,
    /// Stored compressed.
    Compressed(Pattern),
}

/// Sectors of a block that hold the same kind of data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectorRun {
    /// The first one, counted from the start of the block.
    pub first: u32,
    /// How many there are.
    pub count: u32,
    /// What they hold.
    pub data: Pattern,
}

impl SectorRun {
    /// The sector behind the last one.
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.first) + u64::from(self.count)
    }
}

/// Whether `runs` are within the `sectors` sectors of a block, in order and disjoint.
///
/// # Errors
///
/// One is empty, overlaps the one before it, or is not within the block.
pub(crate) fn check_runs(runs: &[SectorRun], sectors: u64, block: u64) -> Result<(), SpecError> {
    let mut from = 0;
    for run in runs {
        let (first, end) = (u64::from(run.first), run.end());
        ensure!(run.count > 0, "block {block}: a run of 0 sectors");
        ensure!(
            first >= from,
            "block {block}: sector {first} is not behind the run before it"
        );
        ensure!(
            end <= sectors,
            "block {block}: sectors up to {end} of {sectors}"
        );
        from = end;
    }
    Ok(())
}

/// Writes the data of `runs` into a block that begins at byte `at`.
pub(crate) fn write_runs(runs: &[SectorRun], sector_size: u64, at: u64, store: &mut Store) {
    for run in runs {
        let bytes = run
            .data
            .bytes((u64::from(run.count) * sector_size) as usize);
        store.write(at + u64::from(run.first) * sector_size, &bytes);
    }
}

/// The blocks in rising order of their indexes.
///
/// # Errors
///
/// One is named twice, or is not one of the `count` blocks of the disk.
pub(crate) fn sorted(blocks: &[Block], count: u64) -> Result<Vec<&Block>, SpecError> {
    sorted_by(blocks, |block| block.index, count)
}

/// As [`sorted`], of blocks of any type whose number `index` tells.
///
/// # Errors
///
/// Those of [`sorted`].
pub(crate) fn sorted_by<T>(
    blocks: &[T],
    index: impl Fn(&T) -> u64,
    count: u64,
) -> Result<Vec<&T>, SpecError> {
    let mut all: Vec<&T> = blocks.iter().collect();
    all.sort_by_key(|block| index(block));
    for pair in all.windows(2) {
        let first = index(pair[0]);
        ensure!(index(pair[1]) != first, "block {first} is named twice");
    }
    if let Some(last) = all.last() {
        let index = index(last);
        ensure!(index < count, "block {index} of {count}: past the disk");
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_sorted_and_checked() {
        let block = |index| Block {
            index,
            content: Content::Zero,
        };
        let blocks = [block(3), block(1)];
        let indexes = |sorted: Vec<&Block>| sorted.iter().map(|block| block.index).collect();
        let all: Vec<u64> = sorted(&blocks, 4).map(indexes).unwrap();
        assert_eq!(all, [1, 3]);
        assert!(sorted(&blocks, 3).is_err());
        assert!(sorted(&[block(1), block(1)], 4).is_err());
    }

    #[test]
    fn runs_are_checked_and_written() {
        let run = |first, count| SectorRun {
            first,
            count,
            data: Pattern::Fill(first as u8 + 1),
        };
        let runs = [run(0, 1), run(2, 2)];
        assert!(check_runs(&runs, 4, 0).is_ok());
        assert!(check_runs(&runs, 3, 0).is_err());
        assert!(check_runs(&[run(1, 2), run(2, 1)], 4, 0).is_err());
        assert!(check_runs(&[run(0, 0)], 4, 0).is_err());
        let mut store = Store::new();
        write_runs(&runs, 2, 1, &mut store);
        assert_eq!(store.to_vec(100).unwrap(), [0, 1, 1, 0, 0, 3, 3, 3, 3]);
    }
}
