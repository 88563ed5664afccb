//! From paths to fields and back.
//!
//! The structure of an image is a list of nodes (the header, an L2 entry, a
//! snapshot, ...), and every node is a short list of fields. Both a search for one
//! path and a walk over all fields go through the same lists.

use crate::field::{Kind, Place, word};
use crate::luks;
use crate::qcow2::entries::{
    BITMAP_TABLE_BITS, L1_BITS, L2Entry, OFFSET_MASK, REFCOUNT_TABLE_BITS, STANDARD_BITS,
    SUBCLUSTER_BITS, refcount_place,
};
use crate::qcow2::header::{
    ADDITIONAL_ROWS, COMPRESSION_TYPE_AT, V2_ROWS, V3_LENGTH_COMPRESSION, V3_ROWS,
};
use crate::qcow2::read::layout::{Disk, ExtensionAt, Layout};
use crate::qcow2::read::node::Node;
use crate::qcow2::records::{
    BITMAP_FIXED, BITMAP_ROWS, BITMAPS_EXT_LENGTH, BITMAPS_EXT_ROWS, ENCRYPTION_EXT_ROWS,
    EXT_BACKING_FORMAT, EXT_BITMAPS, EXT_DATA_FILE, EXT_ENCRYPTION, EXT_FEATURE_NAMES, EXT_ROWS,
    FEATURE_ENTRY, FEATURE_ROWS, SNAPSHOT_EXTRA_ROWS, SNAPSHOT_FIXED, SNAPSHOT_ROWS,
};
use crate::qcow2::sections::{
    ADDITIONAL, BITMAP_DATA, BITMAP_TABLE, BITMAPS_EXT, DIRECTORY, ENCRYPTION, EXTENDED,
    EXTENSIONS, FEATURES, HEADER, MAPPING, REFCOUNTS, SNAPSHOTS, STRINGS,
};
use crate::row::{Leaf, Leaves};
use crate::store::Store;
use crate::value::Endian;

/// Finds the nodes and fields of one image. `source` determines where structures are;
/// values are read from changed bytes.
#[derive(Clone, Copy)]
pub(crate) struct Tree<'a> {
    pub(crate) source: &'a Store,
    pub(crate) layout: &'a Layout,
    /// The most entries of a table that are listed, and the most tables that one leads to.
    pub(crate) most: u64,
}

impl<'a> Tree<'a> {
    /// The fields of a node; none when the image does not have it.
    pub(crate) fn leaves(&self, node: Node) -> Vec<Leaf> {
        let mut leaves = Leaves::new(Endian::Big, HEADER);
        let found = match node {
            Node::Header => self.header(&mut leaves),
            Node::BackingName => self.backing_name(&mut leaves),
            Node::Extension(i) => self.extension(i, &mut leaves),
            Node::Feature(i, j) => self.feature(i, j, &mut leaves),
            Node::RefcountTable(i) => self.refcount_table(i, &mut leaves),
            Node::Refcount(i, j) => self.refcount(i, j, &mut leaves),
            Node::L1(disk, i) => self.l1(disk, i, &mut leaves),
            Node::L2(disk, i, j) => self.l2(disk, i, j, &mut leaves),
            Node::Snapshot(i) => self.snapshot(i, &mut leaves),
            Node::Bitmap(i) => self.bitmap(i, &mut leaves),
            Node::BitmapTable(i, j) => self.bitmap_table(i, j, &mut leaves),
            Node::Luks => self.luks(&mut leaves),
            Node::LuksSlot(i) => self.luks_slot(i, &mut leaves),
        };
        if found.is_none() {
            return Vec::new();
        }
        leaves.all
    }

    fn header(&self, leaves: &mut Leaves) -> Option<()> {
        let header = &self.layout.header;
        leaves.table(V2_ROWS, 0);
        if header.version >= 3 {
            leaves.table(V3_ROWS, 0);
        }
        let length = u64::from(header.header_length);
        leaves.section = ADDITIONAL;
        if length > COMPRESSION_TYPE_AT {
            leaves.table(ADDITIONAL_ROWS, 0);
        }
        let start = u64::from(V3_LENGTH_COMPRESSION);
        let cluster = self
            .layout
            .geometry
            .map_or(512, |geometry| geometry.cluster_size());
        let len = length.min(cluster).min(1 << 20).saturating_sub(start);
        if len > 0 {
            leaves.run("unknown", start, len, Kind::Bytes, "unknown fields");
        }
        Some(())
    }

    fn backing_name(&self, leaves: &mut Leaves) -> Option<()> {
        let name = self.layout.backing_name?;
        leaves.run(
            "",
            name.offset,
            name.len,
            Kind::Text,
            "after the extensions, within the first cluster",
        );
        Some(())
    }

    fn extension(&self, index: usize, leaves: &mut Leaves) -> Option<()> {
        leaves.section = EXTENSIONS;
        let ext = self.layout.extensions.get(index)?;
        leaves.table(EXT_ROWS, ext.offset);
        let data = ext.offset + 8;
        match ext.kind {
            EXT_BACKING_FORMAT | EXT_DATA_FILE => {
                leaves.section = STRINGS;
                leaves.run(
                    "text",
                    data,
                    ext.present,
                    Kind::Text,
                    "not terminated by a zero byte",
                );
            }
            EXT_BITMAPS if ext.present >= BITMAPS_EXT_LENGTH => {
                leaves.section = BITMAPS_EXT;
                leaves.table(BITMAPS_EXT_ROWS, ext.offset);
            }
            EXT_ENCRYPTION if ext.present >= 16 => {
                leaves.section = ENCRYPTION;
                leaves.table(ENCRYPTION_EXT_ROWS, ext.offset);
            }
            EXT_FEATURE_NAMES if ext.present >= FEATURE_ENTRY => {}
            _ if ext.present > 0 => {
                leaves.run("data", data, ext.present, Kind::Bytes, "");
            }
            _ => {}
        }
        let padding = ext.declared.next_multiple_of(8) - ext.declared;
        if padding > 0 && ext.present == ext.declared {
            leaves.section = EXTENSIONS;
            leaves.run("padding", data + ext.declared, padding, Kind::Bytes, "");
        }
        Some(())
    }

    fn feature(&self, index: usize, entry: u64, leaves: &mut Leaves) -> Option<()> {
        leaves.section = FEATURES;
        let ext = self.layout.extensions.get(index)?;
        (entry < features_in(ext)).then_some(())?;
        let at = ext.offset + 8 + entry * FEATURE_ENTRY;
        leaves.table(FEATURE_ROWS, at);
        Some(())
    }

    fn refcount_table(&self, index: u64, leaves: &mut Leaves) -> Option<()> {
        leaves.section = REFCOUNTS;
        let offset = self.layout.refcount_table.entry(index)?;
        leaves.entry(
            offset,
            "the offset of a refcount block",
            REFCOUNT_TABLE_BITS,
        );
        Some(())
    }

    fn refcount(&self, block: u64, index: u64, leaves: &mut Leaves) -> Option<()> {
        leaves.section = REFCOUNTS;
        let geometry = self.layout.geometry?;
        let base = self.layout.refcount_block(self.source, block)?;
        (index < geometry.refcount_block_entries()).then_some(())?;
        let place = refcount_place(base.0, index, geometry.refcount_bits())?;
        leaves.push(
            "",
            Kind::Refcount,
            place,
            "how often the cluster is referred to",
        );
        Some(())
    }

    fn l1(&self, disk: Disk, index: u64, leaves: &mut Leaves) -> Option<()> {
        leaves.section = MAPPING;
        let offset = self.layout.l1_of(disk)?.entry(index)?;
        leaves.entry(offset, "the offset of an L2 table", L1_BITS);
        Some(())
    }

    fn l2(&self, disk: Disk, table: u64, index: u64, leaves: &mut Leaves) -> Option<()> {
        leaves.section = MAPPING;
        let geometry = self.layout.geometry?;
        let base = self.layout.l2_table(self.source, disk, table)?;
        (index < geometry.l2_entries()).then_some(())?;
        let offset = base.0.checked_add(index * geometry.l2_entry_size())?;
        leaves.entry(offset, "a cluster descriptor", &[]);
        let descriptor = self.source.read_u64(offset);
        match L2Entry::from_word(descriptor, geometry) {
            L2Entry::Standard { host, .. } => {
                leaves.bits("", STANDARD_BITS, offset, 8);
                if self.layout.cluster_at(host.0).is_some() {
                    leaves.run("data", host.0, geometry.cluster_size(), Kind::Bytes, "");
                }
            }
            L2Entry::Compressed(descriptor) => {
                let x = geometry.compressed_offset_bits() as u8;
                let place = word(offset, 8, Endian::Big, 0, x, true);
                let rule = "within the file; any alignment";
                leaves.push("compressed_offset", Kind::Offset, place, rule);
                let place = word(offset, 8, Endian::Big, x, 62 - x, false);
                let rule = "sectors beyond the first that hold the compressed data";
                leaves.push("sectors", Kind::Count, place, rule);
                leaves.bits("", &STANDARD_BITS[1..3], offset, 8);
                let start = descriptor.host.0;
                let len = descriptor.len().min(self.layout.end.saturating_sub(start));
                if len > 0 {
                    leaves.run(
                        "data",
                        start,
                        len,
                        Kind::Bytes,
                        "inflates to exactly one cluster",
                    );
                }
            }
        }
        if geometry.extended_l2() {
            let offset = offset.checked_add(8)?;
            let rule = "0 for compressed clusters; no subcluster both allocated and zero";
            leaves.section = EXTENDED;
            leaves.push("subclusters", Kind::Bitmap, Place::number(offset, 8), rule);
            leaves.bits("", SUBCLUSTER_BITS, offset, 8);
        }
        Some(())
    }

    fn snapshot(&self, index: usize, leaves: &mut Leaves) -> Option<()> {
        leaves.section = SNAPSHOTS;
        let snapshot = self.layout.snapshots.get(index)?;
        leaves.table(SNAPSHOT_ROWS, snapshot.offset);
        let mut known = SNAPSHOT_FIXED;
        for row in SNAPSHOT_EXTRA_ROWS.chunks(1) {
            if known + 8 <= SNAPSHOT_FIXED + snapshot.extra {
                leaves.table(row, snapshot.offset);
                known += 8;
            }
        }
        let at = snapshot.offset + known;
        let unknown = SNAPSHOT_FIXED + snapshot.extra - known;
        let padding =
            snapshot.len() - SNAPSHOT_FIXED - snapshot.extra - snapshot.id - snapshot.name;
        let parts = [
            ("extra_data", unknown, Kind::Bytes),
            ("id", snapshot.id, Kind::Text),
            ("name", snapshot.name, Kind::Text),
            ("padding", padding, Kind::Bytes),
        ];
        self.runs(at, &parts, leaves)
    }

    fn bitmap(&self, index: usize, leaves: &mut Leaves) -> Option<()> {
        leaves.section = DIRECTORY;
        let bitmap = self.layout.bitmaps.get(index)?;
        leaves.table(BITMAP_ROWS, bitmap.offset);
        let padding = bitmap.len() - BITMAP_FIXED - bitmap.extra - bitmap.name;
        let parts = [
            ("extra_data", bitmap.extra, Kind::Bytes),
            ("name", bitmap.name, Kind::Text),
            ("padding", padding, Kind::Bytes),
        ];
        self.runs(bitmap.offset + BITMAP_FIXED, &parts, leaves)
    }

    /// Consecutive runs of bytes, as far as they are within the file.
    fn runs(&self, start: u64, parts: &[(&str, u64, Kind)], leaves: &mut Leaves) -> Option<()> {
        let mut at = start;
        for &(name, len, kind) in parts {
            let there = len.min(self.layout.end.saturating_sub(at));
            if there > 0 {
                leaves.run(name, at, there, kind, "");
            }
            at = at.saturating_add(len);
        }
        Some(())
    }

    fn bitmap_table(&self, bitmap: usize, index: u64, leaves: &mut Leaves) -> Option<()> {
        leaves.section = BITMAP_TABLE;
        let offset = self.layout.bitmaps.get(bitmap)?.table.entry(index)?;
        leaves.entry(
            offset,
            "the offset of a cluster of the bitmap",
            BITMAP_TABLE_BITS,
        );
        let data = self
            .layout
            .cluster_at(self.source.read_u64(offset) & OFFSET_MASK);
        if let (Some(data), Some(geometry)) = (data, self.layout.geometry) {
            leaves.section = BITMAP_DATA;
            leaves.run("data", data.0, geometry.cluster_size(), Kind::Bytes, "");
        }
        Some(())
    }

    fn luks(&self, leaves: &mut Leaves) -> Option<()> {
        leaves.section = ENCRYPTION;
        let header = self.layout.luks_header()?;
        leaves.table(luks::ROWS, header.offset);
        Some(())
    }

    fn luks_slot(&self, index: u64, leaves: &mut Leaves) -> Option<()> {
        leaves.section = ENCRYPTION;
        let header = self.layout.luks_header()?;
        (index < luks::SLOTS).then_some(())?;
        let at = header.offset + luks::SLOTS_AT + index * luks::SLOT_LENGTH;
        leaves.table(luks::SLOT_ROWS, at);
        Some(())
    }
}

/// Entries in a feature name table.
pub(crate) fn features_in(ext: &ExtensionAt) -> u64 {
    if ext.kind == EXT_FEATURE_NAMES {
        ext.present / FEATURE_ENTRY
    } else {
        0
    }
}
