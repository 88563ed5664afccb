//! References to the clusters of the file.

use std::collections::BTreeMap;

use bitflags::bitflags;

use crate::field::Place;
use crate::qcow2::entries::refcount_place;
use crate::qcow2::entries::{L2Entry, OFFSET_MASK};
use crate::qcow2::header::Incompatible;
use crate::qcow2::read::layout::{Disk, Layout, TableAt};
use crate::qcow2::read::scan::{Budget, l2_entries, used_entries};
use crate::qcow2::types::{ClusterIndex, Geometry, HostOffset};
use crate::store::Store;

bitflags! {
    /// What a cluster of the file is used as.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub(crate) struct Use: u16 {
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

/// How many references a cluster has, and from what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The reference count it should have.
    pub(crate) count: u64,
    /// All its uses.
    pub(crate) uses: Use,
}

/// All references to clusters of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct References {
    /// By cluster; those without references are left out.
    pub(crate) clusters: BTreeMap<ClusterIndex, Reference>,
    /// Whether that is all. An image with more references than
    /// [`References::LIMIT`] is counted up to there.
    pub(crate) complete: bool,
}

impl References {
    /// Most references that are counted.
    pub(crate) const LIMIT: u64 = 4 << 20;

    /// Counts the references in an image as its tables stand.
    #[must_use]
    pub(crate) fn count(source: &Store, layout: &Layout) -> Self {
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

struct Counter<'a> {
    source: &'a Store,
    layout: &'a Layout,
    geometry: Geometry,
    found: &'a mut References,
    /// References counted and tables read so far.
    taken: u64,
}

impl Counter<'_> {
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

    /// The clusters that contain a table.
    fn table(&mut self, table: TableAt, used_as: Use) {
        self.bytes(table.offset, table.present * 8, used_as);
    }

    /// The clusters that the entries of a table point to.
    fn pointers(&mut self, table: TableAt, mask: u64, used_as: Use) {
        for index in used_entries(self.source, table) {
            let Some(offset) = table.entry(index) else {
                return;
            };
            let target = self.source.read_u64(offset) & mask;
            if target != 0 {
                self.bytes(target, 1, used_as);
            }
        }
    }

    /// One reference to every cluster that contains the bytes.
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
pub(crate) fn place_of(source: &Store, layout: &Layout, cluster: ClusterIndex) -> Option<Place> {
    let geometry = layout.geometry?;
    let (table, index) = geometry.refcount_indices(cluster);
    let block = layout.refcount_block(source, table.0)?;
    refcount_place(block.0, index.0, geometry.refcount_bits())
}
