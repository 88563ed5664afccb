//! Where the parts of an image go, and the GUIDs that it has.

use super::spec::{Block, BlockState, Spec};
use crate::spec_error::{SpecError, ensure};
use crate::vhdx::layout::MIB;

/// The largest file that is laid out, in MiB.
const MOST_UNITS: u64 = 1 << 27;
/// The number of the GUID of a write to the file.
pub(super) const FILE_WRITE_GUID: u64 = 0;
/// The number of the GUID of the data, which children have.
pub(super) const DATA_WRITE_GUID: u64 = 1;
/// The number of the GUID of the log.
pub(super) const LOG_GUID: u64 = 2;
/// The number of the GUID of the disk.
pub(super) const DISK_GUID: u64 = 3;
/// The number of the GUID of an unknown region.
pub(super) const UNKNOWN_GUID: u64 = 4;
/// The number of the GUID of no parent.
pub(super) const OTHER_GUID: u64 = 5;
/// The number of the GUID of the first item of a user.
pub(super) const USER_GUID: u64 = 16;

/// Where the parts of an image are, in bytes.
pub(super) struct Places {
    pub(super) log: u64,
    pub(super) bat: u64,
    pub(super) bat_bytes: u64,
    pub(super) metadata: u64,
    pub(super) unknown: Option<u64>,
    /// The sector bitmap block of each chunk that has one.
    pub(super) bitmaps: Vec<(u64, u64)>,
    /// The payload blocks that have a place, with those of a fixed image.
    pub(super) payload: Vec<(Block, u64)>,
    /// Bytes in the file.
    pub(super) end: u64,
}

/// Finds a place for each part.
pub(super) fn arrange(spec: &Spec, blocks: &[Block]) -> Result<Places, SpecError> {
    let ratio = spec.chunk_ratio();
    let partial = |block: &&Block| block.state == BlockState::PartiallyPresent;
    let mut chunks: Vec<u64> = blocks
        .iter()
        .filter(partial)
        .map(|block| block.index / ratio)
        .collect();
    chunks.dedup();
    let payload: Vec<&Block> = blocks.iter().filter(|block| block.is_allocated()).collect();
    let count = spec.payload_blocks();
    let entries = match spec.parent {
        Some(_) => count.div_ceil(ratio) * (ratio + 1),
        None => count + count.saturating_sub(1) / ratio,
    };
    let bat_units = (entries * 8).div_ceil(MIB).max(1);
    let mut lengths = vec![
        u64::from(spec.log_length) / MIB,
        bat_units,
        1,
        u64::from(spec.unknown_region),
    ];
    lengths.resize(lengths.len() + chunks.len(), 1);
    lengths.resize(
        lengths.len() + payload.len(),
        u64::from(spec.block_size) / MIB,
    );
    let (firsts, total) = spec.placement.arrange(&lengths, 1);
    ensure!(total <= MOST_UNITS, "an image of {total} MiB");
    let at: Vec<u64> = firsts.iter().map(|unit| unit * MIB).collect();
    let (bitmap_places, block_places) = at[4..].split_at(chunks.len());
    let payload = payload.into_iter().cloned();
    Ok(Places {
        log: at[0],
        bat: at[1],
        bat_bytes: bat_units * MIB,
        metadata: at[2],
        unknown: spec.unknown_region.then_some(at[3]),
        bitmaps: chunks
            .into_iter()
            .zip(bitmap_places.iter().copied())
            .collect(),
        payload: payload.zip(block_places.iter().copied()).collect(),
        end: total * MIB,
    })
}
