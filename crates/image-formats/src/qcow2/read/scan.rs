//! Reading tables without trusting their sizes.

use crate::io::ReadAt as _;
use crate::qcow2::read::layout::{Disk, Layout, TableAt};
use crate::store::Store;
use crate::value::read_be;

/// How much more of a hostile image is read.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u64,
}

impl Budget {
    pub(crate) fn new(left: u64) -> Self {
        Self { left }
    }

    /// Takes one unit; false when none is left.
    pub(crate) fn take(&mut self) -> bool {
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }

    /// Takes `count` units; false when fewer are left.
    pub(crate) fn take_many(&mut self, count: u64) -> bool {
        let enough = self.left >= count;
        self.left = self.left.saturating_sub(count);
        enough
    }

    pub(crate) fn spent(&self) -> bool {
        self.left == 0
    }
}

/// An L2 entry that is not zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryAt {
    /// L1 index of its table.
    pub(crate) l1: u64,
    /// Index in its table.
    pub(crate) l2: u64,
    /// Byte offset in the file.
    pub(crate) offset: u64,
    /// First or only word.
    pub(crate) word: u64,
    /// Second word; 0 when there is none.
    pub(crate) second: u64,
}

/// Calls `visit` for every L2 entry of a disk that is not zero, as far as the budget
/// goes: a unit for every entry, and one for every 4 KiB of a table.
pub(crate) fn l2_entries(
    source: &Store,
    layout: &Layout,
    disk: Disk,
    budget: &mut Budget,
    visit: &mut dyn FnMut(EntryAt),
) {
    const PIECE: u64 = 4096;
    let (Some(l1), Some(geometry)) = (layout.l1_of(disk), layout.geometry) else {
        return;
    };
    let (size, step) = (geometry.cluster_size(), geometry.l2_entry_size());
    for index in used_entries(source, l1) {
        let Some(table) = layout.l2_table(source, disk, index) else {
            if budget.take() { continue } else { return }
        };
        for start in (0..size).step_by(PIECE as usize) {
            let at = table.0.saturating_add(start);
            let len = PIECE.min(size - start);
            if !budget.take() {
                return;
            }
            if is_hole(source, at, len) {
                continue;
            }
            let words = source.read_vec(at, len as usize);
            for (entry, i) in words.chunks_exact(step as usize).zip(0..) {
                let (word, second) = (read_be(&entry[..8]), read_be(&entry[8..]));
                if word == 0 && second == 0 {
                    continue;
                }
                if !budget.take() {
                    return;
                }
                visit(EntryAt {
                    l1: index,
                    l2: start / step + i,
                    offset: at.saturating_add(i * step),
                    word,
                    second,
                });
            }
        }
    }
}

/// Indexes of the entries of a table that are not zero.
pub(crate) fn used_entries<'a>(
    source: &'a Store,
    table: TableAt,
) -> impl Iterator<Item = u64> + 'a {
    const PIECE: u64 = 4096;
    let pieces = (0..table.present).step_by(PIECE as usize);
    pieces.flat_map(move |start| {
        let len = PIECE.min(table.present - start) * 8;
        let at = table.offset.saturating_add(start * 8);
        let words = if is_hole(source, at, len) {
            Vec::new()
        } else {
            source.read_vec(at, len as usize)
        };
        let used: Vec<u64> = words
            .chunks_exact(8)
            .zip(start..)
            .filter_map(|(word, index)| word.iter().any(|byte| *byte != 0).then_some(index))
            .collect();
        used
    })
}

/// Whether there are only zeros, as far as the source knows.
fn is_hole(source: &Store, at: u64, len: u64) -> bool {
    let next = source.next_data(at);
    next.is_none_or(|data| data.start >= at.saturating_add(len))
}
