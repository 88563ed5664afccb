//! The header and tables.

use super::rules::sections;
use crate::field::Kind;
use crate::row::{BitRow, Row, bit_rows, rows};
use crate::store::Store;
use crate::structure::{Nested, Structure, Table, number};
use crate::value::Endian::Big;

/// `"QFI\xfb"`.
pub(super) const MAGIC: u32 = 0x5146_49fb;
/// Bytes in the header.
pub(super) const HEADER_LEN: u64 = 48;
/// Encryption: AES-128 in CBC mode.
pub(super) const AES: u64 = 1;
/// Bit of an L2 entry: the cluster is compressed.
pub(super) const COMPRESSED: u64 = 1 << 63;
/// The longest name of a backing file, in bytes.
pub(super) const LONGEST_NAME: u64 = 1023;

const HEADER: &[Row] = rows![
    "magic", 0, 4, Magic, "must be 0x514649fb";
    "version", 4, 4, Version, "must be 1";
    "backing_file_offset", 8, 8, Offset, "0 without backing file";
    "backing_file_size", 16, 4, Length, "at most 1023 bytes";
    "mtime", 20, 4, Number, "of the backing file";
    "size", 24, 8, Size, "more than 1";
    "cluster_bits", 32, 1, Log2, "9 to 16";
    "l2_bits", 33, 1, Log2, "6 to 13";
    "padding", 34, 2, Reserved, "must be 0";
    "crypt_method", 36, 4, Choice, "0 none, 1 AES";
    "l1_table_offset", 40, 8, Offset, "behind the header, within the file";
];

/// The named bits of L2 entries where clusters have so many bits: how wide the length of
/// a compressed one is depends on them.
macro_rules! entry_bits {
    ($bits:literal, $low:literal) => {
        bit_rows![
            "compressed", 63, 1, Flag, "";
            "offset", 0, 63, Offset, "cluster aligned, within the file";
            "compressed_size", $low, $bits, Length, "less than a cluster";
            "compressed_offset", 0, $low, Offset, "within the file";
        ]
    };
}

/// The named bits of L2 entries, for `cluster_bits` 9 to 16.
const ENTRY_BITS: [&[BitRow]; 8] = [
    entry_bits!(9, 54),
    entry_bits!(10, 53),
    entry_bits!(11, 52),
    entry_bits!(12, 51),
    entry_bits!(13, 50),
    entry_bits!(14, 49),
    entry_bits!(15, 48),
    entry_bits!(16, 47),
];

/// The numbers that the structure of an image follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) name_at: u64,
    pub(super) name_len: u64,
    /// Bytes on the disk.
    pub(super) size: u64,
    pub(super) cluster_bits: u64,
    pub(super) l2_bits: u64,
    pub(super) crypt_method: u64,
    /// Byte offset of the L1 table.
    pub(super) l1: u64,
}

/// Where a cluster of the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cluster {
    /// Nowhere.
    Unallocated,
    /// At this byte offset.
    Plain(u64),
    /// Compressed: at this byte offset, and so many bytes long.
    Compressed(u64, u64),
}

impl Layout {
    /// Reads the header.
    pub(super) fn read(source: &Store) -> Self {
        let at = |offset, bytes| number(source, offset, bytes, Big);
        Self {
            name_at: at(8, 8),
            name_len: at(16, 4),
            size: at(24, 8),
            cluster_bits: at(32, 1),
            l2_bits: at(33, 1),
            crypt_method: at(36, 4),
            l1: at(40, 8),
        }
    }

    /// Whether the sizes of clusters and L2 tables are allowed, without which nothing can be
    /// found.
    pub(super) fn has_geometry(&self) -> bool {
        self.cluster_size().is_some() && (6..=13).contains(&self.l2_bits)
    }

    /// Bytes in a cluster, where that is allowed.
    pub(super) fn cluster_size(&self) -> Option<u64> {
        let allowed = (9..=16).contains(&self.cluster_bits);
        allowed.then(|| 1 << self.cluster_bits)
    }

    /// Entries in an L2 table; call it only where the image has a geometry.
    pub(super) fn l2_entries(&self) -> u64 {
        1 << self.l2_bits
    }

    /// Entries in the L1 table; call it only where the image has a geometry.
    pub(super) fn l1_entries(&self) -> u64 {
        self.size.div_ceil(1 << (self.cluster_bits + self.l2_bits))
    }

    /// The name of the backing file, if the image has one.
    pub(super) fn backing_name(&self, source: &Store) -> Option<Vec<u8>> {
        let len = self.name_len.min(LONGEST_NAME);
        let named = self.name_at != 0 && len > 0;
        named.then(|| source.read_vec(self.name_at, len as usize))
    }

    /// Where the cluster is that an L2 entry stands for.
    pub(super) fn cluster(&self, entry: u64) -> Cluster {
        let low = 63 - self.cluster_bits.min(63);
        match entry {
            0 => Cluster::Unallocated,
            _ if entry & COMPRESSED == 0 => Cluster::Plain(entry),
            _ => {
                let len = (entry & !COMPRESSED) >> low;
                Cluster::Compressed(entry & ((1 << low) - 1), len)
            }
        }
    }
}

/// The structures of an image.
pub(super) fn structure(source: &Store) -> Structure {
    let layout = Layout::read(source);
    let name_len = match layout.name_at {
        0 => 0,
        _ => layout.name_len.min(LONGEST_NAME),
    };
    let structure = Structure::new(Big)
        .section(sections::HEADER)
        .record("header", 0, HEADER)
        .section(sections::BACKING)
        .run(
            "backing_file_name",
            (layout.name_at, name_len),
            Kind::Text,
            "not ended by a zero byte",
        );
    if !layout.has_geometry() {
        return structure;
    }
    let rule = "0 unallocated, or cluster aligned within the file";
    let l1_entries = layout.l1_entries();
    let l1 = Table::of_numbers("l1", (layout.l1, l1_entries, 8), Kind::Offset, rule);
    let l2 = Table::of_numbers("", (0, layout.l2_entries(), 8), Kind::Entry, rule)
        .with_bits(ENTRY_BITS[(layout.cluster_bits - 9) as usize]);
    let l2 = Nested::new("l2", l1_entries, l2, move |source, index| {
        let at = layout.l1.checked_add(index.checked_mul(8)?)?;
        let at = number(source, at, 8, Big);
        (at != 0).then_some(at)
    });
    structure.section(sections::TABLES).table(l1).nested(l2)
}
