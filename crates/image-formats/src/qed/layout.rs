//! The header and tables.

use crate::field::Kind;
use crate::row::{Row, bit_rows, rows};
use crate::store::Store;
use crate::structure::{Nested, Structure, Table, number};
use crate::value::Endian::Little;

/// `"QED\0"`.
pub(super) const MAGIC: &[u8; 4] = b"QED\0";
/// Feature bit: the image has a backing file.
pub(super) const BACKING_FILE: u64 = 1;
/// Feature bit: the image is to be checked before use.
pub(super) const NEED_CHECK: u64 = 2;
/// Feature bit: the backing file is raw.
pub(super) const NO_PROBE: u64 = 4;
/// The feature bits that are known.
pub(super) const KNOWN_FEATURES: u64 = BACKING_FILE | NEED_CHECK | NO_PROBE;
/// The entry of a cluster that reads as zeros.
pub(super) const ZERO: u64 = 1;
/// The longest name of a backing file that is read, in bytes.
const LONGEST_NAME: u64 = 4096;

/// Sections of the specification.
pub(super) mod sections {
    pub(in crate::qed) const HEADER: &str = "Header";
    pub(in crate::qed) const TABLES: &str = "Tables";
    pub(in crate::qed) const CHECKING: &str = "Consistency checking";
}

const HEADER: &[Row] = rows![
    "magic", 0, 4, Bytes, "must be QED, 0";
    "cluster_size", 4, 4, Size, "a power of two, 4 KiB to 64 MiB";
    "table_size", 8, 4, Count, "clusters in a table, a power of two, 1 to 16";
    "header_size", 12, 4, Count, "clusters in the header, at least 1";
    "features", 16, 8, Flags, "bits 0 to 2 only", bit_rows![
        "backing_file", 0, 1, Flag, "";
        "need_check", 1, 1, Flag, "";
        "backing_format_no_probe", 2, 1, Flag, "";
    ];
    "compat_features", 24, 8, Flags, "unknown bits are ignored";
    "autoclear_features", 32, 8, Flags, "unknown bits are cleared by a writer";
    "l1_table_offset", 40, 8, Offset, "cluster aligned, within the file";
    "image_size", 48, 8, Size, "a multiple of 512, as much as the tables can map at most";
    "backing_filename_offset", 56, 4, Offset, "within the header";
    "backing_filename_size", 60, 4, Length, "within the header";
];

/// The numbers that the structure of an image follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Bytes in a cluster.
    pub(super) cluster_size: u64,
    /// Clusters in a table.
    pub(super) table_size: u64,
    /// Clusters in the header.
    pub(super) header_size: u64,
    /// Incompatible features.
    pub(super) features: u64,
    /// Byte offset of the L1 table.
    pub(super) l1: u64,
    /// Bytes on the disk.
    pub(super) image_size: u64,
    /// Byte offset of the name of the backing file.
    pub(super) name_at: u64,
    /// Its length in bytes.
    pub(super) name_len: u64,
}

impl Layout {
    /// Reads the header.
    pub(super) fn read(source: &Store) -> Self {
        let at = |offset, bytes| number(source, offset, bytes, Little);
        Self {
            cluster_size: at(4, 4),
            table_size: at(8, 4),
            header_size: at(12, 4),
            features: at(16, 8),
            l1: at(40, 8),
            image_size: at(48, 8),
            name_at: at(56, 4),
            name_len: at(60, 4),
        }
    }

    /// Whether cluster and table size are allowed, without which nothing can be found.
    pub(super) fn has_geometry(&self) -> bool {
        let power = |number: u64, from: u64, to: u64| {
            number.is_power_of_two() && (from..=to).contains(&number)
        };
        power(self.cluster_size, 1 << 12, 1 << 26) && power(self.table_size, 1, 16)
    }

    /// Entries in a table.
    pub(super) fn entries(&self) -> u64 {
        self.cluster_size.saturating_mul(self.table_size) / 8
    }

    /// The name of the backing file, if the image has one.
    pub(super) fn backing_name(&self, source: &Store) -> Option<Vec<u8>> {
        let len = self.name_len.min(LONGEST_NAME);
        let named = self.features & BACKING_FILE != 0 && len > 0;
        named.then(|| source.read_vec(self.name_at, len as usize))
    }
}

/// The structures of an image.
pub(super) fn structure(source: &Store) -> Structure {
    let layout = Layout::read(source);
    let structure = Structure::new(Little)
        .section(sections::HEADER)
        .record("header", 0, HEADER)
        .run(
            "backing_file_name",
            match layout.features & BACKING_FILE {
                0 => (0, 0),
                _ => (layout.name_at, layout.name_len.min(LONGEST_NAME)),
            },
            Kind::Text,
            "within the header; not ended by a zero byte",
        );
    if !layout.has_geometry() {
        return structure;
    }
    let entries = layout.entries();
    let table = |name: &str, at| {
        let rule = "0 unallocated, or cluster aligned within the file";
        Table::of_numbers(name, (at, entries, 8), Kind::Offset, rule)
    };
    let l2 = Nested::new("l2", entries, table("", 0), move |source, index| {
        let at = number(source, layout.l1.checked_add(index * 8)?, 8, Little);
        let aligned = at.is_multiple_of(layout.cluster_size);
        (at != 0 && aligned).then_some(at)
    });
    structure
        .section(sections::TABLES)
        .table(table("l1", layout.l1))
        .nested(l2)
}
