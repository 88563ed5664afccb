//! An iterator over the structures of an image.

use crate::io::ReadAt as _;
use crate::luks;
use crate::path::Path;
use crate::qcow2::read::layout::{Disk, TableAt};
use crate::qcow2::read::node::Node;
use crate::qcow2::read::tree::{Tree, features_in};

/// Entries of a table that are read at once.
const CHUNK: u64 = 512;

impl<'a> Tree<'a> {
    /// Every node of the image; entries of tables that are zero are left out, but for the
    /// first one after each used one.
    pub(crate) fn nodes(self) -> Box<dyn Iterator<Item = Node> + 'a> {
        self.all_nodes(self.layout.refcount_table, true)
    }

    /// The nodes, the refcounts being those of `refcount_table`; those of the active disk
    /// where `active` is set.
    fn all_nodes(
        self,
        refcount_table: TableAt,
        active: bool,
    ) -> Box<dyn Iterator<Item = Node> + 'a> {
        let layout = self.layout;
        let extensions = layout.extensions.iter().enumerate().flat_map(|(i, ext)| {
            let features = (0..features_in(ext)).map(move |j| Node::Feature(i, j));
            std::iter::once(Node::Extension(i)).chain(features)
        });
        let blocks = self
            .tables_in(refcount_table)
            .flat_map(move |i| self.refcounts(i));
        let refcount_table = self.used_in(refcount_table).map(Node::RefcountTable);
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
                .chain(
                    active
                        .then(|| self.disk(Disk::Active))
                        .into_iter()
                        .flatten(),
                )
                .chain(snapshots)
                .chain(bitmaps)
                .chain(encryption),
        )
    }

    /// Every node whose path begins with `path`, and some more; nothing is read that is only
    /// needed for others.
    pub(crate) fn nodes_under(self, path: &Path) -> Box<dyn Iterator<Item = Node> + 'a> {
        let first = path.segments().first();
        let (name, index) = first.map_or(("", None), |it| (it.name.as_str(), it.index));
        let layout = self.layout;
        let only = move |at: &u64| index.is_none_or(|index| index == *at);
        match name {
            "header" => Box::new(std::iter::once(Node::Header)),
            "backing_file_name" => Box::new(std::iter::once(Node::BackingName)),
            "refcount_table" => {
                let used = self.used_in(layout.refcount_table).filter(only);
                Box::new(used.map(Node::RefcountTable))
            }
            "refcount_block" => match index {
                Some(block) => Box::new(self.refcounts(block)),
                None => Box::new(
                    self.used_in(layout.refcount_table)
                        .flat_map(move |i| self.refcounts(i)),
                ),
            },
            "l1" => {
                let used = self.used_in(layout.l1).filter(only);
                Box::new(used.map(|i| Node::L1(Disk::Active, i)))
            }
            "l2" => match index {
                Some(table) => Box::new(self.l2_nodes(Disk::Active, table)),
                None => self.disk(Disk::Active),
            },
            _ => self.nodes_beside_tables(),
        }
    }

    /// The nodes that are neither refcounts nor of the active disk.
    fn nodes_beside_tables(self) -> Box<dyn Iterator<Item = Node> + 'a> {
        let disk =
            |node: &Node| !matches!(node, Node::L1(Disk::Active, _) | Node::L2(Disk::Active, ..));
        let layout = self.layout;
        let empty = TableAt {
            present: 0,
            ..layout.refcount_table
        };
        Box::new(self.all_nodes(empty, false).filter(disk))
    }

    /// The tables of a disk: its L1 entries, then the L2 entries of each.
    fn disk(self, disk: Disk) -> Box<dyn Iterator<Item = Node> + 'a> {
        let Some(table) = self.layout.l1_of(disk) else {
            return Box::new(std::iter::empty());
        };
        let l1 = self.used_in(table);
        let l2 = self.tables_in(table);
        let l2 = l2.flat_map(move |i| self.l2_nodes(disk, i));
        Box::new(l1.map(move |i| Node::L1(disk, i)).chain(l2))
    }

    /// The entries of an L2 table.
    fn l2_nodes(self, disk: Disk, table: u64) -> impl Iterator<Item = Node> + 'a {
        let base = self.layout.l2_table(self.source, disk, table);
        let found = base.zip(self.layout.geometry).into_iter();
        let entries = found.flat_map(move |(base, geometry)| {
            self.used(base.0, geometry.l2_entries(), geometry.l2_entry_size())
        });
        entries.map(move |entry| Node::L2(disk, table, entry))
    }

    /// The tables that the entries of a table lead to.
    fn tables_in(self, table: TableAt) -> impl Iterator<Item = u64> + 'a {
        let most = usize::try_from(self.most).unwrap_or(usize::MAX);
        self.used_in(table).take(most)
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
    /// the first one after each; [`Tree::most`] at most.
    fn used(self, offset: u64, entries: u64, width: u64) -> impl Iterator<Item = u64> + 'a {
        let mut left = self.most;
        let mut previous_used = true;
        let mut chunk = Vec::new();
        let mut chunk_start = 0;
        let mut at = 0;
        std::iter::from_fn(move || {
            while at < entries && left > 0 {
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
                    left -= 1;
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
