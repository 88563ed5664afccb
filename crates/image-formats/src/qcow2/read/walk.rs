//! An iterator over the structures of an image.

use crate::io::ReadAt as _;
use crate::luks;
use crate::qcow2::read::layout::{Disk, TableAt};
use crate::qcow2::read::node::Node;
use crate::qcow2::read::tree::{Tree, features_in};

/// Entries of a table that are read at once.
const CHUNK: u64 = 512;

impl<'a> Tree<'a> {
    /// Every node of the image; entries of tables that are zero are left out, but for the
    /// first one after each used one.
    pub(crate) fn nodes(self) -> Box<dyn Iterator<Item = Node> + 'a> {
        let layout = self.layout;
        let extensions = layout.extensions.iter().enumerate().flat_map(|(i, ext)| {
            let features = (0..features_in(ext)).map(move |j| Node::Feature(i, j));
            std::iter::once(Node::Extension(i)).chain(features)
        });
        let refcount_table = self.used_in(layout.refcount_table).map(Node::RefcountTable);
        let blocks = self
            .used_in(layout.refcount_table)
            .flat_map(move |i| self.refcounts(i));
        let snapshots = (0..layout.snapshots.len()).flat_map(move |i| {
            std::iter::once(Node::Snapshot(i)).chain(self.disk(Disk::Snapshot(i)))
        });
        let bitmaps = layout
            .bitmaps
            .iter()
            .enumerate()
            .flat_map(move |(i, bitmap)| {
                let table = self.used_in(bitmap.table);
                std::iter::once(Node::Bitmap(i)).chain(table.map(move |j| Node::BitmapTable(i, j)))
            });
        let slots = (0..luks::SLOTS).map(Node::LuksSlot);
        let encryption = layout
            .luks_header()
            .into_iter()
            .flat_map(move |_| std::iter::once(Node::Luks).chain(slots.clone()));
        let name = layout.backing_name.map(|_| Node::BackingName);
        Box::new(
            std::iter::once(Node::Header)
                .chain(name)
                .chain(extensions)
                .chain(refcount_table)
                .chain(blocks)
                .chain(self.disk(Disk::Active))
                .chain(snapshots)
                .chain(bitmaps)
                .chain(encryption),
        )
    }

    /// The tables of a disk: its L1 entries, then the L2 entries of each.
    fn disk(self, disk: Disk) -> Box<dyn Iterator<Item = Node> + 'a> {
        let Some(table) = self.layout.l1_of(disk) else {
            return Box::new(std::iter::empty());
        };
        let l1 = self.used_in(table);
        let l2 = self.used_in(table);
        let l2 = l2.flat_map(move |i| {
            let base = self.layout.l2_table(self.source, disk, i);
            let geometry = self.layout.geometry;
            let entries = base
                .zip(geometry)
                .into_iter()
                .flat_map(move |(base, geometry)| {
                    self.used(base.0, geometry.l2_entries(), geometry.l2_entry_size())
                });
            entries.map(move |j| Node::L2(disk, i, j))
        });
        Box::new(l1.map(move |i| Node::L1(disk, i)).chain(l2))
    }

    fn refcounts(self, block: u64) -> impl Iterator<Item = Node> + 'a {
        let base = self.layout.refcount_block(self.source, block);
        let found = base.zip(self.layout.geometry).into_iter();
        found.flat_map(move |(base, geometry)| {
            let bits = geometry.refcount_bits();
            // Entries narrower than a byte are read a byte at a time.
            let per_byte = u64::from(8 / bits.min(8));
            let width = u64::from(bits.div_ceil(8));
            let entries = self.used(base.0, geometry.refcount_block_entries() / per_byte, width);
            entries.flat_map(move |at| {
                (at * per_byte..(at + 1) * per_byte).map(move |j| Node::Refcount(block, j))
            })
        })
    }

    fn used_in(self, table: TableAt) -> impl Iterator<Item = u64> + 'a {
        self.used(table.offset, table.present, 8)
    }

    /// Indexes of the entries of a table, of `width` bytes each, that are not zero, with
    /// the first one after each.
    fn used(self, offset: u64, entries: u64, width: u64) -> impl Iterator<Item = u64> + 'a {
        let mut previous_used = true;
        let mut chunk = Vec::new();
        let mut chunk_start = 0;
        let mut at = 0;
        std::iter::from_fn(move || {
            while at < entries {
                let index = at;
                if index >= chunk_start + chunk.len() as u64 / width {
                    let skipped = self.skip_hole(offset, width, index).min(entries);
                    if skipped > index && !previous_used {
                        at = skipped;
                        continue;
                    }
                    chunk_start = index;
                    let count = CHUNK.min(entries - index);
                    let start = offset.saturating_add(index * width);
                    chunk = self.source.read_vec(start, (count * width) as usize);
                }
                at += 1;
                let within = ((index - chunk_start) * width) as usize;
                let used = chunk[within..within + width as usize]
                    .iter()
                    .any(|byte| *byte != 0);
                let listed = used || previous_used;
                previous_used = used;
                if listed {
                    return Some(index);
                }
            }
            None
        })
    }

    /// The first entry from `index` on that may hold anything but zeros.
    fn skip_hole(self, offset: u64, width: u64, index: u64) -> u64 {
        let start = offset.saturating_add(index * width);
        match self.source.next_data(start) {
            Some(data) => data.start.saturating_sub(offset) / width,
            None => u64::MAX,
        }
    }
}
