//! What the blocks of a disk hold, in descriptions of images.

use serde::{Deserialize, Serialize};

use crate::pattern::Pattern;
use crate::spec_error::{SpecError, ensure};

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

/// The blocks in rising order of their indexes.
///
/// # Errors
///
/// One is named twice, or is not one of the `count` blocks of the disk.
pub(crate) fn sorted(blocks: &[Block], count: u64) -> Result<Vec<&Block>, SpecError> {
    let mut all: Vec<&Block> = blocks.iter().collect();
    all.sort_by_key(|block| block.index);
    for pair in all.windows(2) {
        let index = pair[0].index;
        ensure!(pair[1].index != index, "block {index} is named twice");
    }
    if let Some(last) = all.last() {
        let index = last.index;
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
}
