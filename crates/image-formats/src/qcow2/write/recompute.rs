//! Recomputing reference counts and the flag COPIED.

use crate::io::ReadError;
use crate::qcow2::entries::{COPIED, L2Entry, OFFSET_MASK};
use crate::qcow2::header::Incompatible;
use crate::qcow2::image::Image;
use crate::qcow2::read::layout::{Disk, Layout};
use crate::qcow2::read::references::{References, place_of};
use crate::qcow2::read::scan::{Budget, l2_entries, used_entries};
use crate::qcow2::types::{ClusterIndex, Geometry, HostOffset};
use crate::store::Store;
use crate::value::Value;

/// Most bytes of refcount blocks that are rewritten.
const MAX_REFCOUNT_BYTES: u64 = 1 << 30;
/// Most L2 entries whose flag is recomputed.
const MAX_ENTRIES: u64 = 4 << 20;

/// Why the references to clusters cannot be counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecountError {
    /// There are more than this crate counts.
    #[error("the image has more than {} references to clusters", References::LIMIT)]
    TooMany,
    /// The source cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Image {
    /// Corrects every reference count in the existing refcount blocks, and sets the flag COPIED in the active L1 table and its L2 tables
    /// exactly where the count is one. Blocks are neither added nor moved; counts too
    /// large for their width become the largest that fits.
    ///
    /// # Errors
    ///
    /// There are too many references to count, or the source cannot be read; nothing is
    /// changed then.
    pub fn recompute_refcounts(&mut self) -> Result<(), RecountError> {
        recompute(self.bytes_mut()).map(|_| ())
    }
}

/// As [`Image::recompute_refcounts`]. Returns the largest count that a cluster should
/// have, whether it fits or not.
pub(crate) fn recompute(store: &mut Store) -> Result<u64, RecountError> {
    let layout = Layout::read(store);
    let references = References::count(store, &layout);
    store.check_reads()?;
    if !references.complete {
        return Err(RecountError::TooMany);
    }
    let Some(geometry) = layout.geometry else {
        return Ok(0);
    };
    let per_block = geometry.refcount_block_entries();
    let tables: Vec<u64> = used_entries(store, layout.refcount_table).collect();
    let bytes = (tables.len() as u64).saturating_mul(geometry.cluster_size());
    if bytes > MAX_REFCOUNT_BYTES {
        return Err(RecountError::TooMany);
    }
    for index in tables {
        let Some(block) = layout.refcount_block(store, index) else {
            continue;
        };
        let first = index.saturating_mul(per_block);
        let range = ClusterIndex(first)..ClusterIndex(first.saturating_add(per_block));
        let counts = references.clusters.range(range);
        let counts = counts.map(|(cluster, reference)| (cluster.0 - first, reference.count));
        write_block(store, geometry, block, counts);
    }
    copied(store);
    let counts = references.clusters.values();
    let largest = counts.map(|reference| reference.count).max();
    Ok(largest.unwrap_or(0))
}

/// Writes the counts of one refcount block, where they are others than before.
fn write_block(
    store: &mut Store,
    geometry: Geometry,
    block: HostOffset,
    counts: impl Iterator<Item = (u64, u64)>,
) {
    const PIECE: usize = 512;
    let size = usize::try_from(geometry.cluster_size()).unwrap_or(0);
    let old = store.read_vec(block.0, size);
    let mut new = vec![0_u8; size];
    let bits = geometry.refcount_bits() as usize;
    for (index, count) in counts {
        let count = count.min(geometry.max_refcount());
        let bit = usize::try_from(index).unwrap_or(0).saturating_mul(bits);
        if bits < 8 {
            if let Some(byte) = new.get_mut(bit / 8) {
                *byte |= (count << (bit % 8)) as u8;
            }
        } else if let Some(bytes) = new.get_mut(bit / 8..bit / 8 + bits / 8) {
            bytes.copy_from_slice(&count.to_be_bytes()[8 - bits / 8..]);
        }
    }
    for ((old, new), piece) in old.chunks(PIECE).zip(new.chunks(PIECE)).zip(0_u64..) {
        if old != new {
            store.write(block.0.saturating_add(piece * PIECE as u64), new);
        }
    }
}

/// Recomputes the flag COPIED.
fn copied(store: &mut Store) {
    let layout = Layout::read(store);
    let Some(geometry) = layout.geometry else {
        return;
    };
    let external = layout.header.incompatible.contains(Incompatible::DATA_FILE);
    let mut changes = Vec::new();
    let flags = Flags {
        store,
        layout: &layout,
        geometry,
    };
    let l1 = used_entries(store, layout.l1).filter_map(|index| layout.l1.entry(index));
    changes.extend(l1.filter_map(|offset| flags.change(offset, store.read_u64(offset), false)));
    let mut budget = Budget::new(MAX_ENTRIES);
    l2_entries(store, &layout, Disk::Active, &mut budget, &mut |entry| {
        if let L2Entry::Standard { .. } = L2Entry::from_word(entry.word, geometry) {
            changes.extend(flags.change(entry.offset, entry.word, external));
        }
    });
    for (offset, word) in changes {
        store.write(offset, &u64::to_be_bytes(word));
    }
}

/// Recomputes the flags of entries of one image.
struct Flags<'a> {
    store: &'a Store,
    layout: &'a Layout,
    geometry: Geometry,
}

impl Flags<'_> {
    /// The offset of an entry and its new word, if the flag in it is wrong.
    fn change(&self, offset: u64, word: u64, external: bool) -> Option<(u64, u64)> {
        let host = word & OFFSET_MASK;
        // In an external data file every cluster has a count of one, the one at 0 too.
        let points = if external {
            word & (OFFSET_MASK | COPIED) != 0
        } else {
            host != 0
        };
        let cluster = self.geometry.cluster_of(HostOffset(host));
        let stored =
            || place_of(self.store, self.layout, cluster).map(|place| place.get(self.store));
        let one = points && (external || stored() == Some(Value::Uint(1)));
        let new = if one { word | COPIED } else { word & !COPIED };
        (points && new != word).then_some((offset, new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::ReadAt as _;

    #[test]
    fn an_empty_file_stays_empty() {
        let mut store = Store::new();
        assert_eq!(recompute(&mut store), Ok(0));
        assert!(store.is_empty());
    }
}
