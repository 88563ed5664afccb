//! Who refers to which cluster of the file.

use crate::field::Place;
use crate::io::{ReadAt, read_u64, read_vec};
use crate::qcow2::entries::{COPIED, L2Entry, OFFSET_MASK};
use crate::qcow2::header::Incompatible;
use crate::qcow2::image::Image;
use crate::qcow2::layout::{Disk, Layout, TableAt};
use crate::qcow2::scan::{Budget, l2_entries, used_entries};
use crate::qcow2::tree::refcount_place;
use crate::qcow2::types::{ClusterIndex, Geometry, HostOffset};
use crate::value::Value;
use bitflags::bitflags;
use std::collections::BTreeMap;

bitflags! {
    /// What a cluster of the file is used as.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Use: u16 {
        /// The header.
        const HEADER = 1;
        /// Part of the refcount table.
        const REFCOUNT_TABLE = 1 << 1;
        /// A refcount block.
        const REFCOUNT_BLOCK = 1 << 2;
        /// Part of the active L1 table.
        const ACTIVE_L1 = 1 << 3;
        /// An L2 table.
        const L2 = 1 << 4;
        /// Guest data or a machine's state.
        const DATA = 1 << 5;
        /// Part of the snapshot table.
        const SNAPSHOT_TABLE = 1 << 6;
        /// Part of a snapshot's L1 table.
        const SNAPSHOT_L1 = 1 << 7;
        /// Part of the bitmap directory.
        const BITMAP_DIRECTORY = 1 << 8;
        /// Part of a bitmap table.
        const BITMAP_TABLE = 1 << 9;
        /// Data of a bitmap.
        const BITMAP_DATA = 1 << 10;
        /// Part of the encryption header.
        const ENCRYPTION = 1 << 11;
    }
}

/// How often a cluster is referred to, and as what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reference {
    /// The reference count it should have.
    pub count: u64,
    /// All it is used as.
    pub uses: Use,
}

/// All references to clusters of the file.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// By cluster; those that nobody refers to are not there.
    pub clusters: BTreeMap<ClusterIndex, Reference>,
    /// Whether that is all. An image with more references than
    /// [`References::LIMIT`] is counted up to there.
    pub complete: bool,
}

impl References {
    /// Most references that are counted.
    pub const LIMIT: u64 = 4 << 20;

    /// Counts the references in an image as its tables stand.
    #[must_use]
    pub fn count(source: &(impl ReadAt + ?Sized), layout: &Layout) -> Self {
        let mut found = Self {
            complete: true,
            ..Self::default()
        };
        if let Some(geometry) = layout.geometry {
            let mut counter = Counter {
                source,
                layout,
                geometry,
                found: &mut found,
                taken: 0,
            };
            counter.everything();
        }
        found
    }
}

struct Counter<'a, S: ?Sized> {
    source: &'a S,
    layout: &'a Layout,
    geometry: Geometry,
    found: &'a mut References,
    /// References counted so far, and tables looked at.
    taken: u64,
}

impl<S: ReadAt + ?Sized> Counter<'_, S> {
    fn everything(&mut self) {
        self.bytes(0, 1, Use::HEADER);
        self.refcounts();
        self.disk(Disk::Active, Use::ACTIVE_L1);
        let records = |first: Option<u64>, lens: &mut dyn Iterator<Item = u64>| {
            first.map(|offset| (offset, lens.fold(0, u64::saturating_add)))
        };
        let layout = self.layout;
        let table = &layout.snapshots;
        if let Some((offset, len)) = records(
            table.first().map(|s| s.offset),
            &mut table.iter().map(|s| s.len()),
        ) {
            self.bytes(offset, len, Use::SNAPSHOT_TABLE);
        }
        for index in 0..table.len() {
            self.disk(Disk::Snapshot(index), Use::SNAPSHOT_L1);
        }
        let directory = &layout.bitmaps;
        if let Some((offset, len)) = records(
            directory.first().map(|b| b.offset),
            &mut directory.iter().map(|b| b.len()),
        ) {
            self.bytes(offset, len, Use::BITMAP_DIRECTORY);
        }
        for bitmap in directory {
            self.table(bitmap.table, Use::BITMAP_TABLE);
            self.pointers(bitmap.table, OFFSET_MASK, Use::BITMAP_DATA);
        }
        if let Some(region) = layout.encryption {
            self.bytes(region.offset, region.len, Use::ENCRYPTION);
        }
    }

    fn refcounts(&mut self) {
        self.table(self.layout.refcount_table, Use::REFCOUNT_TABLE);
        self.pointers(self.layout.refcount_table, !0x1ff, Use::REFCOUNT_BLOCK);
    }

    fn disk(&mut self, disk: Disk, l1_use: Use) {
        let Some(l1) = self.layout.l1_of(disk) else {
            return;
        };
        self.table(l1, l1_use);
        self.pointers(l1, OFFSET_MASK, Use::L2);
        let (source, layout, geometry) = (self.source, self.layout, self.geometry);
        let external = layout.header.incompatible.contains(Incompatible::DATA_FILE);
        let mut budget = Budget::new(References::LIMIT.saturating_sub(self.taken));
        l2_entries(
            source,
            layout,
            disk,
            &mut budget,
            &mut |entry| match L2Entry::from_word(entry.word, geometry) {
                L2Entry::Compressed(at) => self.bytes(at.host.0, at.len(), Use::DATA),
                L2Entry::Standard { host, .. } if host.0 != 0 && !external => {
                    self.bytes(host.0, 1, Use::DATA);
                }
                L2Entry::Standard { .. } => {}
            },
        );
        if budget.spent() {
            self.found.complete = false;
            self.taken = References::LIMIT;
        }
    }

    /// The clusters that a table lies in.
    fn table(&mut self, table: TableAt, used_as: Use) {
        self.bytes(table.offset, table.present * 8, used_as);
    }

    /// The clusters that the entries of a table point to.
    fn pointers(&mut self, table: TableAt, mask: u64, used_as: Use) {
        for index in used_entries(self.source, table) {
            let Some(offset) = table.entry(index) else {
                return;
            };
            let target = read_u64(self.source, offset) & mask;
            if target != 0 {
                self.bytes(target, 1, used_as);
            }
        }
    }

    /// One reference to every cluster that the bytes lie in.
    fn bytes(&mut self, offset: u64, len: u64, used_as: Use) {
        if len == 0 {
            return;
        }
        let first = self.geometry.cluster_of(HostOffset(offset));
        let last = self
            .geometry
            .cluster_of(HostOffset(offset.saturating_add(len - 1)));
        for cluster in first.0..=last.0 {
            if self.taken >= References::LIMIT {
                self.found.complete = false;
                return;
            }
            self.taken += 1;
            let entry = self
                .found
                .clusters
                .entry(ClusterIndex(cluster))
                .or_default();
            entry.count += 1;
            entry.uses |= used_as;
        }
    }
}

/// The place of the reference count of a cluster, when there is a block for it.
pub(crate) fn place_of(
    source: &(impl ReadAt + ?Sized),
    layout: &Layout,
    cluster: ClusterIndex,
) -> Option<Place> {
    let geometry = layout.geometry?;
    let (table, index) = geometry.refcount_indices(cluster);
    let block = layout.refcount_block(source, table.0)?;
    refcount_place(block.0, index.0, geometry.refcount_bits())
}

/// What was done by [`Image::recompute_refcounts`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recomputed {
    /// Refcount blocks that were wrong.
    pub changed_blocks: u64,
    /// Clusters in use that no refcount block covers, the first 1024 of them.
    pub uncovered: Vec<ClusterIndex>,
}

/// More references than this crate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image has more than {} references to clusters", References::LIMIT)]
pub struct TooManyReferences;

impl Image {
    /// The reference count stored for a cluster; 0 where there is no refcount block.
    #[must_use]
    pub fn refcount(&self, cluster: ClusterIndex) -> u64 {
        let layout = Layout::read(self.bytes());
        place_of(self.bytes(), &layout, cluster)
            .and_then(|place| place.get(self.bytes()).as_uint())
            .unwrap_or(0)
    }

    /// Counts all references in the bytes as they are now.
    #[must_use]
    pub fn references(&self) -> References {
        References::count(self.bytes(), &Layout::read(self.bytes()))
    }

    /// Most bytes of refcount blocks that are written anew.
    const MAX_REFCOUNT_BYTES: u64 = 1 << 30;

    /// Makes every reference count in the refcount blocks that are there what it
    /// should be. Blocks are neither added nor moved; counts too large for their
    /// width become the largest that fits.
    ///
    /// # Errors
    /// When there are too many references to count; nothing is changed then.
    pub fn recompute_refcounts(&mut self) -> Result<Recomputed, TooManyReferences> {
        let layout = Layout::read(self.bytes());
        let references = References::count(self.bytes(), &layout);
        if !references.complete {
            return Err(TooManyReferences);
        }
        let mut done = Recomputed::default();
        let Some(geometry) = layout.geometry else {
            return Ok(done);
        };
        let per_block = geometry.refcount_block_entries();
        let tables: Vec<u64> = used_entries(self.bytes(), layout.refcount_table).collect();
        let bytes = (tables.len() as u64).saturating_mul(geometry.cluster_size());
        if bytes > Self::MAX_REFCOUNT_BYTES {
            return Err(TooManyReferences);
        }
        for index in tables {
            let Some(block) = layout.refcount_block(self.bytes(), index) else {
                continue;
            };
            let first = index.saturating_mul(per_block);
            let range = ClusterIndex(first)..ClusterIndex(first.saturating_add(per_block));
            let counts = references.clusters.range(range);
            let counts = counts.map(|(cluster, reference)| (cluster.0 - first, reference.count));
            if write_block(self, geometry, block, counts) {
                done.changed_blocks += 1;
            }
        }
        let covered =
            |cluster: &&ClusterIndex| place_of(self.bytes(), &layout, **cluster).is_none();
        done.uncovered = references
            .clusters
            .keys()
            .filter(covered)
            .take(1024)
            .copied()
            .collect();
        Ok(done)
    }

    /// Sets the flag COPIED in the active L1 table and its L2 tables exactly where the
    /// stored reference count is one.
    pub fn recompute_copied(&mut self) {
        let layout = Layout::read(self.bytes());
        let Some(geometry) = layout.geometry else {
            return;
        };
        let external = layout.header.incompatible.contains(Incompatible::DATA_FILE);
        let indexes: Vec<u64> = used_entries(self.bytes(), layout.l1).collect();
        for index in indexes {
            let Some(offset) = layout.l1.entry(index) else {
                continue;
            };
            let table = layout.l2_table(self.bytes(), Disk::Active, index);
            self.set_copied(&layout, geometry, offset, false);
            let Some(table) = table else {
                continue;
            };
            for entry in 0..geometry.l2_entries() {
                let offset = table.0.saturating_add(entry * geometry.l2_entry_size());
                if !matches!(
                    L2Entry::from_word(read_u64(self.bytes(), offset), geometry),
                    L2Entry::Compressed(_)
                ) {
                    self.set_copied(&layout, geometry, offset, external);
                }
            }
        }
    }

    fn set_copied(&mut self, layout: &Layout, geometry: Geometry, offset: u64, external: bool) {
        let word = read_u64(self.bytes(), offset);
        let host = word & OFFSET_MASK;
        // In an external data file every cluster has a count of one, the one at 0 too.
        if word == 0 || (host == 0 && !external) || (external && word & (OFFSET_MASK | COPIED) == 0)
        {
            return;
        }
        let cluster = geometry.cluster_of(HostOffset(host));
        let stored = place_of(self.bytes(), layout, cluster).map(|place| place.get(self.bytes()));
        let copied = external || stored == Some(Value::Uint(1));
        let new = if copied {
            word | COPIED
        } else {
            word & !COPIED
        };
        if new != word {
            self.bytes_mut().write(offset, &new.to_be_bytes());
        }
    }
}

/// Writes the counts of one refcount block, and says whether that changed it.
fn write_block(
    image: &mut Image,
    geometry: Geometry,
    block: HostOffset,
    counts: impl Iterator<Item = (u64, u64)>,
) -> bool {
    let size = usize::try_from(geometry.cluster_size()).unwrap_or(0);
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
    let changed = read_vec(image.bytes(), block.0, size) != new;
    if changed {
        image.bytes_mut().write(block.0, &new);
    }
    changed
}
