//! What a file of an image is, and the structures of sparse extents.

use crate::field::Kind;
use crate::io::ReadAt as _;
use crate::row::{BitRow, Row, bit_rows, rows};
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// The unit of all offsets and sizes, in bytes.
pub(super) const SECTOR: u64 = 512;
/// The first bytes of a sparse extent of hosted products.
pub(super) const HOSTED_MAGIC: &[u8; 4] = b"KDMV";
/// The first bytes of a sparse extent of ESX Server.
pub(super) const COWD_MAGIC: &[u8; 4] = b"COWD";
/// The first number of a space-efficient sparse extent.
pub(super) const SE_MAGIC: u64 = 0xcafe_babe;
/// The first number of its volatile header.
pub(super) const SE_VOLATILE_MAGIC: u64 = 0xcafe_cafe;
/// Its version: 2.1.
pub(super) const SE_VERSION: u64 = 0x2_0000_0001;
/// Between the bytes of a line end, those that transfers as text change.
pub(super) const CHECK_BYTES: &[u8; 4] = b"\n \r\n";
/// The offset of a grain directory that only the footer knows.
pub(super) const AT_END: u64 = u64::MAX;
/// Entries in a grain table of hosted products.
pub(super) const TABLE_ENTRIES: u64 = 512;
/// Entries in a grain table of ESX Server, and of a space-efficient extent.
pub(super) const LARGE_TABLE_ENTRIES: u64 = 4096;

/// Flag: the check bytes are valid.
pub(super) const NEWLINE_TEST: u64 = 1;
/// Flag: the redundant grain directory is used.
pub(super) const REDUNDANT: u64 = 2;
/// Flag: an entry of a grain table may be 1 for a grain of zeros.
pub(super) const ZEROED_GRAINS: u64 = 4;
/// Flag: the grains are compressed.
pub(super) const COMPRESSED: u64 = 1 << 16;
/// Flag: there are markers.
pub(super) const MARKERS: u64 = 1 << 17;
/// The flags that are known.
pub(super) const KNOWN_FLAGS: u64 = NEWLINE_TEST | REDUNDANT | ZEROED_GRAINS | COMPRESSED | MARKERS;

/// Types of markers.
pub(super) const END_OF_STREAM: u64 = 0;
pub(super) const TABLE_MARKER: u64 = 1;
pub(super) const DIRECTORY_MARKER: u64 = 2;
pub(super) const FOOTER_MARKER: u64 = 3;

/// Sections of the specification (VMware Virtual Disks, Virtual Disk Format 1.1 and 5.0).
pub(super) mod sections {
    pub(in crate::vmdk) const DESCRIPTOR: &str = "The Descriptor File";
    pub(in crate::vmdk) const HEADER: &str = "Hosted Sparse Extents: Header";
    pub(in crate::vmdk) const TABLES: &str = "Hosted Sparse Extents: Grain Directories and Tables";
    pub(in crate::vmdk) const STREAM: &str = "Stream-Optimized Compressed Sparse Extents";
    pub(in crate::vmdk) const COWD: &str = "ESX Server Sparse Extents";
    pub(in crate::vmdk) const SE: &str = "Space-Efficient Sparse Extents";
}

/// The header of a hosted sparse extent, and its footer.
pub(super) const HEADER: &[Row] = rows![
    "magic", 0, 4, Bytes, "must be KDMV";
    "version", 4, 4, Version, "1 to 3";
    "flags", 8, 4, Flags, "bits 0 to 2, 16 and 17 only", bit_rows![
        "newline_test", 0, 1, Flag, "check_bytes are valid";
        "redundant_directory", 1, 1, Flag, "";
        "zeroed_grains", 2, 1, Flag, "from version 2 on";
        "compressed", 16, 1, Flag, "goes with compress_algorithm";
        "markers", 17, 1, Flag, "";
    ];
    "capacity", 12, 8, Size, "in sectors; should be a multiple of the granularity";
    "granularity", 20, 8, Count, "sectors in a grain, a power of two, more than 8";
    "desc_offset", 28, 8, Offset, "in sectors; 0 without a descriptor";
    "desc_size", 36, 8, Length, "in sectors";
    "num_gtes_per_gt", 44, 4, Count, "512";
    "rgd_offset", 48, 8, Offset, "in sectors";
    "gd_offset", 56, 8, Offset, "in sectors; all ones where a footer has it";
    "grain_offset", 64, 8, Offset, "in sectors, the first behind the metadata";
    "unclean_shutdown", 72, 1, Choice, "0 or 1";
    "check_bytes", 73, 4, Bytes, "must be LF, space, CR, LF";
    "compress_algorithm", 77, 2, Choice, "0 none, 1 deflate";
    "padding", 79, 433, Bytes, "zeros";
];

/// The marker before the data of a compressed grain.
pub(super) const GRAIN_MARKER: &[Row] = rows![
    "lba", 0, 8, Number, "the first sector of the grain on the disk";
    "size", 8, 4, Length, "bytes of compressed data behind the marker";
];

/// Bytes in it.
pub(super) const GRAIN_MARKER_LEN: u64 = 12;

/// A marker before a table, a directory or the footer, and at the end.
pub(super) const MARKER: &[Row] = rows![
    "sectors", 0, 8, Count, "in what follows the marker";
    "size", 8, 4, Length, "0";
    "type", 12, 4, Choice, "0 end of stream, 1 grain table, 2 grain directory, 3 footer";
    "padding", 16, 496, Bytes, "zeros";
];

/// The header of an ESX Server sparse extent.
pub(super) const COWD_HEADER: &[Row] = rows![
    "magic", 0, 4, Bytes, "must be COWD";
    "version", 4, 4, Version, "1";
    "flags", 8, 4, Flags, "3";
    "capacity", 12, 4, Size, "in sectors";
    "granularity", 16, 4, Count, "sectors in a grain, at least 1";
    "gd_offset", 20, 4, Offset, "in sectors";
    "num_gd_entries", 24, 4, Count, "as many as the capacity needs";
    "free_sector", 28, 4, Offset, "in sectors, the end of what is used";
    "generation", 1060, 4, Number, "";
    "name", 1064, 60, Text, "";
    "description", 1124, 512, Text, "";
    "saved_generation", 1636, 4, Number, "";
    "reserved", 1640, 8, Bytes, "zeros";
    "unclean_shutdown", 1648, 4, Choice, "0 or 1";
    "padding", 1652, 396, Bytes, "zeros";
];

/// Its part of an extent without a parent.
pub(super) const COWD_ROOT: &[Row] = rows![
    "cylinders", 32, 4, Count, "";
    "heads", 36, 4, Count, "";
    "sectors", 40, 4, Count, "";
    "unused", 44, 1016, Bytes, "zeros";
];

/// Its part of an extent with a parent.
pub(super) const COWD_CHILD: &[Row] = rows![
    "parent_file_name", 32, 1024, Text, "";
    "parent_generation", 1056, 4, Number, "";
];

/// The constant header of a space-efficient sparse extent.
pub(super) const SE_HEADER: &[Row] = rows![
    "magic", 0, 8, Magic, "0xcafebabe";
    "version", 8, 8, Version, "0x200000001";
    "capacity", 16, 8, Size, "in sectors";
    "granularity", 24, 8, Count, "sectors in a grain: 8";
    "grain_table_size", 32, 8, Count, "sectors in a grain table: 64";
    "flags", 40, 8, Flags, "0";
    "reserved1", 48, 8, Reserved, "0";
    "reserved2", 56, 8, Reserved, "0";
    "reserved3", 64, 8, Reserved, "0";
    "reserved4", 72, 8, Reserved, "0";
    "volatile_header_offset", 80, 8, Offset, "in sectors";
    "volatile_header_size", 88, 8, Length, "in sectors";
    "journal_header_offset", 96, 8, Offset, "in sectors";
    "journal_header_size", 104, 8, Length, "in sectors";
    "journal_offset", 112, 8, Offset, "in sectors";
    "journal_size", 120, 8, Length, "in sectors";
    "grain_dir_offset", 128, 8, Offset, "in sectors";
    "grain_dir_size", 136, 8, Length, "in sectors";
    "grain_tables_offset", 144, 8, Offset, "in sectors";
    "grain_tables_size", 152, 8, Length, "in sectors";
    "free_bitmap_offset", 160, 8, Offset, "in sectors";
    "free_bitmap_size", 168, 8, Length, "in sectors";
    "backmap_offset", 176, 8, Offset, "in sectors";
    "backmap_size", 184, 8, Length, "in sectors";
    "grains_offset", 192, 8, Offset, "in sectors";
    "grains_size", 200, 8, Length, "in sectors";
    "padding", 208, 304, Bytes, "zeros";
];

/// Its regions: byte offset of the fields with their first sector and their sectors, and the
/// names of those.
pub(super) const SE_REGIONS: [(u64, &str); 8] = [
    (80, "volatile_header"),
    (96, "journal_header"),
    (112, "journal"),
    (128, "grain_dir"),
    (144, "grain_tables"),
    (160, "free_bitmap"),
    (176, "backmap"),
    (192, "grains"),
];

/// Its volatile header.
pub(super) const SE_VOLATILE: &[Row] = rows![
    "magic", 0, 8, Magic, "0xcafecafe";
    "free_gt_number", 8, 8, Number, "the next grain table that is free";
    "next_txn_seq_number", 16, 8, Number, "";
    "replay_journal", 24, 8, Choice, "0; 1 where the journal is to be replayed";
    "padding", 32, 480, Bytes, "zeros";
];

/// An entry of its grain directory.
pub(super) const SE_DIRECTORY_ENTRY: &[BitRow] = bit_rows![
    "type", 60, 4, Choice, "0 unallocated, 1 allocated";
    "reserved", 32, 28, Reserved, "0";
    "table", 0, 32, Number, "which grain table";
];

/// An entry of its grain tables.
pub(super) const SE_TABLE_ENTRY: &[BitRow] = bit_rows![
    "type", 60, 4, Choice, "0 unallocated, 1 unmapped, 2 zeros, 3 allocated";
    "low", 48, 12, Number, "the lowest 12 bits of the number of the grain in the file";
    "high", 0, 48, Number, "its other bits";
];

/// What a file of an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A text file that describes extents.
    Descriptor,
    /// A sparse extent of hosted products.
    Hosted,
    /// A sparse extent of ESX Server.
    Cowd,
    /// A space-efficient sparse extent.
    Se,
}

impl Shape {
    /// What a file is by its first bytes; a hosted extent where nothing is known.
    pub(super) fn of(source: &Store) -> Self {
        let head = source.read_vec(0, SECTOR as usize);
        Self::probe(&head).unwrap_or(Self::Hosted)
    }

    /// What a file is that begins with these bytes, at least 16 of them.
    pub(super) fn probe(head: &[u8]) -> Option<Self> {
        let [magic, version] = [SE_MAGIC.to_le_bytes(), SE_VERSION.to_le_bytes()];
        if head.starts_with(HOSTED_MAGIC) {
            Some(Self::Hosted)
        } else if head.starts_with(COWD_MAGIC) {
            Some(Self::Cowd)
        } else if head.starts_with(&[magic, version].concat()) {
            Some(Self::Se)
        } else {
            super::descriptor::probe(head).then_some(Self::Descriptor)
        }
    }
}

/// The numbers in the header of a hosted sparse extent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hosted {
    pub(super) version: u64,
    pub(super) flags: u64,
    /// Sectors on the disk.
    pub(super) capacity: u64,
    /// Sectors in a grain.
    pub(super) granularity: u64,
    /// Sector of the descriptor.
    pub(super) desc_offset: u64,
    /// Sectors of the descriptor.
    pub(super) desc_size: u64,
    /// Entries in a grain table.
    pub(super) gtes: u64,
    /// Sector of the redundant grain directory.
    pub(super) rgd: u64,
    /// Sector of the grain directory.
    pub(super) gd: u64,
    /// Sectors of metadata.
    pub(super) overhead: u64,
    pub(super) unclean: u64,
    pub(super) algorithm: u64,
}

impl Hosted {
    /// Reads the header at byte `at`.
    pub(super) fn read(source: &Store, at: u64) -> Self {
        let number = |offset, bytes| number(source, at.saturating_add(offset), bytes, Little);
        Self {
            version: number(4, 4),
            flags: number(8, 4),
            capacity: number(12, 8),
            granularity: number(20, 8),
            desc_offset: number(28, 8),
            desc_size: number(36, 8),
            gtes: number(44, 4),
            rgd: number(48, 8),
            gd: number(56, 8),
            overhead: number(64, 8),
            unclean: number(72, 1),
            algorithm: number(77, 2),
        }
    }

    /// The header in force: that of the footer, where there is one.
    pub(super) fn in_force(source: &Store) -> Self {
        let header = Self::read(source, 0);
        match footer_at(source, header) {
            Some(at) => Self::read(source, at),
            None => header,
        }
    }

    /// Whether grains are compressed.
    pub(super) fn is_compressed(&self) -> bool {
        self.algorithm == 1
    }

    /// Byte offset and length of the embedded descriptor, where there is one.
    pub(super) fn descriptor(&self) -> Option<(u64, u64)> {
        let at = self.desc_offset.checked_mul(SECTOR)?;
        (at > 0 && self.desc_size > 0).then(|| (at, self.desc_size.saturating_mul(SECTOR)))
    }
}

/// Byte offset of the footer of an extent with this header, if there must be one and the file
/// has room for it: it stands before the end-of-stream marker.
pub(super) fn footer_at(source: &Store, header: Hosted) -> Option<u64> {
    let at = (source.len() / SECTOR * SECTOR).checked_sub(2 * SECTOR)?;
    (header.gd == AT_END && at >= 2 * SECTOR).then_some(at)
}

/// Whether the sector at byte `at` is a marker of this type.
pub(super) fn is_marker(source: &Store, at: u64, kind: u64) -> bool {
    number(source, at.saturating_add(8), 8, Little) == kind << 32
}

/// The kind of the fields of grain directories and tables.
pub(super) const ENTRY: Kind = Kind::Offset;
