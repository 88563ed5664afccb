//! From paths to fields and back.
//!
//! The structure of an image is a list of nodes (the header, an L2 entry, a
//! snapshot, ...), and every node is a short list of fields. Both a search for one
//! path and a walk over all fields go through the same lists.

use crate::field::{Kind, Place};
use crate::luks;
use crate::qcow2::entries::refcount_place;
use crate::qcow2::entries::{
    BITMAP_TABLE_BITS, L1_BITS, L2Entry, OFFSET_MASK, REFCOUNT_TABLE_BITS, STANDARD_BITS,
    SUBCLUSTER_BITS,
};
use crate::qcow2::header::{
    ADDITIONAL_ROWS, COMPRESSION_TYPE_AT, V2_ROWS, V3_LENGTH_COMPRESSION, V3_ROWS,
};
use crate::qcow2::read::layout::{Disk, ExtensionAt, Layout};
use crate::qcow2::read::node::Node;
use crate::qcow2::sections::{
    ADDITIONAL, BITMAP_DATA, BITMAP_TABLE, BITMAPS_EXT, DIRECTORY, ENCRYPTION, EXTENDED,
    EXTENSIONS, FEATURES, HEADER, MAPPING, REFCOUNTS, SNAPSHOTS, STRINGS,
};
use crate::store::Store;
use crate::value::Endian;

use crate::qcow2::records::{
    BITMAP_FIXED, BITMAP_ROWS, BITMAPS_EXT_LENGTH, BITMAPS_EXT_ROWS, ENCRYPTION_EXT_ROWS,
    EXT_BACKING_FORMAT, EXT_BITMAPS, EXT_DATA_FILE, EXT_ENCRYPTION, EXT_FEATURE_NAMES, EXT_ROWS,
    FEATURE_ENTRY, FEATURE_ROWS, SNAPSHOT_EXTRA_ROWS, SNAPSHOT_FIXED, SNAPSHOT_ROWS,
};
use crate::row::{Leaf, bit_leaves, table_leaves};

/// Finds the nodes and fields of one image. `source` determines where structures are;
/// values are read from changed bytes.
#[derive(Clone, Copy)]
pub(crate) struct Tree<'a> {
    pub(crate) source: &'a Store,
    pub(crate) layout: &'a Layout,
}

impl<'a> Tree<'a> {
    /// The fields of a node; none when the image does not have it.
    pub(crate) fn leaves(&self, node: Node) -> Vec<Leaf> {
        let mut leaves = Vec::new();
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
            leaves.clear();
        }
        leaves
    }

    fn header(&self, leaves: &mut Vec<Leaf>) -> Option<()> {
        let header = &self.layout.header;
        table_leaves(V2_ROWS, 0, Endian::Big, HEADER, leaves);
        if header.version >= 3 {
            table_leaves(V3_ROWS, 0, Endian::Big, HEADER, leaves);
        }
        let length = u64::from(header.header_length);
        if length > COMPRESSION_TYPE_AT {
            table_leaves(ADDITIONAL_ROWS, 0, Endian::Big, ADDITIONAL, leaves);
        }
        let start = u64::from(V3_LENGTH_COMPRESSION);
        let cluster = self
            .layout
            .geometry
            .map_or(512, |geometry| geometry.cluster_size());
        let len = length.min(cluster).min(1 << 20).saturating_sub(start);
        if len > 0 {
            leaves.push(run(
                "unknown",
                start,
                len,
                Kind::Bytes,
                "unknown fields",
                ADDITIONAL,
            ));
        }
        Some(())
    }

    fn backing_name(&self, leaves: &mut Vec<Leaf>) -> Option<()> {
        let name = self.layout.backing_name?;
        leaves.push(run(
            "",
            name.offset,
            name.len,
            Kind::Text,
            "after the extensions, within the first cluster",
            HEADER,
        ));
        Some(())
    }

    fn extension(&self, index: usize, leaves: &mut Vec<Leaf>) -> Option<()> {
        let ext = self.layout.extensions.get(index)?;
        table_leaves(EXT_ROWS, ext.offset, Endian::Big, EXTENSIONS, leaves);
        let data = ext.offset + 8;
        match ext.kind {
            EXT_BACKING_FORMAT | EXT_DATA_FILE => {
                leaves.push(run(
                    "text",
                    data,
                    ext.present,
                    Kind::Text,
                    "not terminated by a zero byte",
                    STRINGS,
                ));
            }
            EXT_BITMAPS if ext.present >= BITMAPS_EXT_LENGTH => {
                table_leaves(
                    BITMAPS_EXT_ROWS,
                    ext.offset,
                    Endian::Big,
                    BITMAPS_EXT,
                    leaves,
                );
            }
            EXT_ENCRYPTION if ext.present >= 16 => {
                table_leaves(
                    ENCRYPTION_EXT_ROWS,
                    ext.offset,
                    Endian::Big,
                    ENCRYPTION,
                    leaves,
                );
            }
            EXT_FEATURE_NAMES if ext.present >= FEATURE_ENTRY => {}
            _ if ext.present > 0 => {
                leaves.push(run("data", data, ext.present, Kind::Bytes, "", EXTENSIONS));
            }
            _ => {}
        }
        let padding = ext.declared.next_multiple_of(8) - ext.declared;
        if padding > 0 && ext.present == ext.declared {
            leaves.push(run(
                "padding",
                data + ext.declared,
                padding,
                Kind::Bytes,
                "",
                EXTENSIONS,
            ));
        }
        Some(())
    }

    fn feature(&self, index: usize, entry: u64, leaves: &mut Vec<Leaf>) -> Option<()> {
        let ext = self.layout.extensions.get(index)?;
        (entry < features_in(ext)).then_some(())?;
        let at = ext.offset + 8 + entry * FEATURE_ENTRY;
        table_leaves(FEATURE_ROWS, at, Endian::Big, FEATURES, leaves);
        Some(())
    }

    fn refcount_table(&self, index: u64, leaves: &mut Vec<Leaf>) -> Option<()> {
        let offset = self.layout.refcount_table.entry(index)?;
        leaves.push(entry(offset, "the offset of a refcount block", REFCOUNTS));
        bit_leaves(
            "",
            REFCOUNT_TABLE_BITS,
            offset,
            8,
            Endian::Big,
            REFCOUNTS,
            leaves,
        );
        Some(())
    }

    fn refcount(&self, block: u64, index: u64, leaves: &mut Vec<Leaf>) -> Option<()> {
        let geometry = self.layout.geometry?;
        let base = self.layout.refcount_block(self.source, block)?;
        (index < geometry.refcount_block_entries()).then_some(())?;
        leaves.push(Leaf {
            name: String::new(),
            kind: Kind::Refcount,
            place: refcount_place(base.0, index, geometry.refcount_bits())?,
            rule: "how often the cluster is referred to",
            section: REFCOUNTS,
        });
        Some(())
    }

    fn l1(&self, disk: Disk, index: u64, leaves: &mut Vec<Leaf>) -> Option<()> {
        let offset = self.layout.l1_of(disk)?.entry(index)?;
        leaves.push(entry(offset, "the offset of an L2 table", MAPPING));
        bit_leaves("", L1_BITS, offset, 8, Endian::Big, MAPPING, leaves);
        Some(())
    }

    fn l2(&self, disk: Disk, table: u64, index: u64, leaves: &mut Vec<Leaf>) -> Option<()> {
        let geometry = self.layout.geometry?;
        let base = self.layout.l2_table(self.source, disk, table)?;
        (index < geometry.l2_entries()).then_some(())?;
        let offset = base.0.checked_add(index * geometry.l2_entry_size())?;
        leaves.push(entry(offset, "a cluster descriptor", MAPPING));
        let word = self.source.read_u64(offset);
        match L2Entry::from_word(word, geometry) {
            L2Entry::Standard { host, .. } => {
                bit_leaves("", STANDARD_BITS, offset, 8, Endian::Big, MAPPING, leaves);
                if self.layout.cluster_at(host.0).is_some() {
                    leaves.push(run(
                        "data",
                        host.0,
                        geometry.cluster_size(),
                        Kind::Bytes,
                        "",
                        MAPPING,
                    ));
                }
            }
            L2Entry::Compressed(descriptor) => {
                let x = geometry.compressed_offset_bits() as u8;
                let part = |name: &str, low, bits, kind, rule| Leaf {
                    name: name.to_owned(),
                    kind,
                    place: Place::Bits {
                        offset,
                        bytes: 8,
                        endian: Endian::Big,
                        low,
                        bits,
                        in_position: low == 0,
                    },
                    rule,
                    section: MAPPING,
                };
                let rule = "within the file; any alignment";
                leaves.push(part("compressed_offset", 0, x, Kind::Offset, rule));
                let rule = "sectors beyond the first that hold the compressed data";
                leaves.push(part("sectors", x, 62 - x, Kind::Count, rule));
                bit_leaves(
                    "",
                    &STANDARD_BITS[1..3],
                    offset,
                    8,
                    Endian::Big,
                    MAPPING,
                    leaves,
                );
                let start = descriptor.host.0;
                let len = descriptor.len().min(self.layout.end.saturating_sub(start));
                if len > 0 {
                    leaves.push(run(
                        "data",
                        start,
                        len,
                        Kind::Bytes,
                        "inflates to exactly one cluster",
                        MAPPING,
                    ));
                }
            }
        }
        if geometry.extended_l2() {
            let offset = offset.checked_add(8)?;
            leaves.push(Leaf {
                name: "subclusters".to_owned(),
                kind: Kind::Bitmap,
                place: Place::number(offset, 8),
                rule: "0 for compressed clusters; no subcluster both allocated and zero",
                section: EXTENDED,
            });
            bit_leaves(
                "",
                SUBCLUSTER_BITS,
                offset,
                8,
                Endian::Big,
                EXTENDED,
                leaves,
            );
        }
        Some(())
    }

    fn snapshot(&self, index: usize, leaves: &mut Vec<Leaf>) -> Option<()> {
        let snapshot = self.layout.snapshots.get(index)?;
        table_leaves(
            SNAPSHOT_ROWS,
            snapshot.offset,
            Endian::Big,
            SNAPSHOTS,
            leaves,
        );
        let mut known = SNAPSHOT_FIXED;
        for row in SNAPSHOT_EXTRA_ROWS.chunks(1) {
            if known + 8 <= SNAPSHOT_FIXED + snapshot.extra {
                table_leaves(row, snapshot.offset, Endian::Big, SNAPSHOTS, leaves);
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
        self.runs(at, &parts, SNAPSHOTS, leaves)
    }

    fn bitmap(&self, index: usize, leaves: &mut Vec<Leaf>) -> Option<()> {
        let bitmap = self.layout.bitmaps.get(index)?;
        table_leaves(BITMAP_ROWS, bitmap.offset, Endian::Big, DIRECTORY, leaves);
        let padding = bitmap.len() - BITMAP_FIXED - bitmap.extra - bitmap.name;
        let parts = [
            ("extra_data", bitmap.extra, Kind::Bytes),
            ("name", bitmap.name, Kind::Text),
            ("padding", padding, Kind::Bytes),
        ];
        self.runs(bitmap.offset + BITMAP_FIXED, &parts, DIRECTORY, leaves)
    }

    /// Consecutive runs of bytes, as far as they are within the file.
    fn runs(
        &self,
        start: u64,
        parts: &[(&str, u64, Kind)],
        section: &'static str,
        leaves: &mut Vec<Leaf>,
    ) -> Option<()> {
        let mut at = start;
        for &(name, len, kind) in parts {
            let there = len.min(self.layout.end.saturating_sub(at));
            if there > 0 {
                leaves.push(run(name, at, there, kind, "", section));
            }
            at = at.saturating_add(len);
        }
        Some(())
    }

    fn bitmap_table(&self, bitmap: usize, index: u64, leaves: &mut Vec<Leaf>) -> Option<()> {
        let offset = self.layout.bitmaps.get(bitmap)?.table.entry(index)?;
        leaves.push(entry(
            offset,
            "the offset of a cluster of the bitmap",
            BITMAP_TABLE,
        ));
        bit_leaves(
            "",
            BITMAP_TABLE_BITS,
            offset,
            8,
            Endian::Big,
            BITMAP_TABLE,
            leaves,
        );
        let data = self
            .layout
            .cluster_at(self.source.read_u64(offset) & OFFSET_MASK);
        if let (Some(data), Some(geometry)) = (data, self.layout.geometry) {
            leaves.push(run(
                "data",
                data.0,
                geometry.cluster_size(),
                Kind::Bytes,
                "",
                BITMAP_DATA,
            ));
        }
        Some(())
    }

    fn luks(&self, leaves: &mut Vec<Leaf>) -> Option<()> {
        let header = self
            .layout
            .encryption
            .filter(|region| region.len >= luks::HEADER_LENGTH)?;
        table_leaves(luks::ROWS, header.offset, Endian::Big, ENCRYPTION, leaves);
        Some(())
    }

    fn luks_slot(&self, index: u64, leaves: &mut Vec<Leaf>) -> Option<()> {
        let header = self
            .layout
            .encryption
            .filter(|region| region.len >= luks::HEADER_LENGTH)?;
        (index < luks::SLOTS).then_some(())?;
        let at = header.offset + luks::SLOTS_AT + index * luks::SLOT_LENGTH;
        table_leaves(luks::SLOT_ROWS, at, Endian::Big, ENCRYPTION, leaves);
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

fn entry(offset: u64, rule: &'static str, section: &'static str) -> Leaf {
    Leaf {
        name: String::new(),
        kind: Kind::Entry,
        place: Place::number(offset, 8),
        rule,
        section,
    }
}

fn run(
    name: &str,
    offset: u64,
    len: u64,
    kind: Kind,
    rule: &'static str,
    section: &'static str,
) -> Leaf {
    Leaf {
        name: name.to_owned(),
        kind,
        place: Place::Bytes { offset, len },
        rule,
        section,
    }
}
