//! The header.

use bitflags::bitflags;

use crate::qcow2::types::Geometry;
use crate::row::{BitRow, Row, bit_rows, rows};
use crate::store::Store;

/// `"QFI\xfb"`.
pub(crate) const MAGIC: u32 = 0x5146_49fb;
/// Bytes in a header of version 2.
pub(crate) const V2_LENGTH: u32 = 72;
/// Bytes in the shortest header of version 3.
pub(crate) const V3_LENGTH: u32 = 104;
/// Bytes in a header that ends with the compression type and its padding.
pub(crate) const V3_LENGTH_COMPRESSION: u32 = 112;
/// Byte offset of the compression type.
pub(crate) const COMPRESSION_TYPE_AT: u64 = 104;

/// QEMU's limit for the L1 table, in bytes.
pub(crate) const QEMU_MAX_L1_BYTES: u64 = 32 << 20;
/// QEMU's limit for the refcount table, in bytes.
pub(crate) const QEMU_MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
/// QEMU's limit for the cluster size.
pub(crate) const QEMU_MAX_CLUSTER_BITS: u32 = 21;
/// The longest backing file name, in bytes.
pub(crate) const MAX_BACKING_NAME: u32 = 1023;

bitflags! {
    /// Features that a reader must know to open the image; unknown bits are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Incompatible: u64 {
        /// Reference counts may be wrong.
        const DIRTY = 1;
        /// Any structure may be corrupt.
        const CORRUPT = 1 << 1;
        /// Guest data is in an external file.
        const DATA_FILE = 1 << 2;
        /// The compression type is not deflate.
        const COMPRESSION = 1 << 3;
        /// L2 entries have subclusters.
        const EXTENDED_L2 = 1 << 4;
        /// Unknown bits.
        const _ = !0;
    }
}

bitflags! {
    /// Features that a reader may ignore; unknown bits are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Compatible: u64 {
        /// Reference counts may be written late.
        const LAZY_REFCOUNTS = 1;
        /// Unknown bits.
        const _ = !0;
    }
}

bitflags! {
    /// Features that a writer who does not know them must clear; unknown bits are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Autoclear: u64 {
        /// The bitmaps extension is consistent.
        const BITMAPS = 1;
        /// The external data file is a valid raw image.
        const RAW_DATA_FILE = 1 << 1;
        /// Unknown bits.
        const _ = !0;
    }
}

/// The header as it stands in the image, wrong values included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `"QFI\xfb"`, big-endian.
    pub magic: u32,
    /// 2 or 3.
    pub version: u32,
    /// Byte offset of the backing file's name; 0 without backing file.
    pub backing_file_offset: u64,
    /// Bytes in the backing file's name.
    pub backing_file_size: u32,
    /// Binary logarithm of the cluster size.
    pub cluster_bits: u32,
    /// Bytes the guest sees.
    pub size: u64,
    /// 0 none, 1 AES, 2 LUKS.
    pub crypt_method: u32,
    /// Entries in the active L1 table.
    pub l1_size: u32,
    /// Byte offset of the active L1 table.
    pub l1_table_offset: u64,
    /// Byte offset of the refcount table.
    pub refcount_table_offset: u64,
    /// Clusters in the refcount table.
    pub refcount_table_clusters: u32,
    /// Snapshots in the snapshot table.
    pub nb_snapshots: u32,
    /// Byte offset of the snapshot table.
    pub snapshots_offset: u64,
    /// Incompatible features; none in version 2.
    pub incompatible: Incompatible,
    /// Compatible features; none in version 2.
    pub compatible: Compatible,
    /// Autoclear features; none in version 2.
    pub autoclear: Autoclear,
    /// Binary logarithm of the bits in a reference count; 4 in version 2.
    pub refcount_order: u32,
    /// Bytes in the header; 72 in version 2.
    pub header_length: u32,
    /// Compression type; 0 (deflate) where the header ends before it.
    pub compression_type: u8,
}

impl Header {
    /// Reads the header at the start of the image; bytes past the end of the file are zeros.
    #[must_use]
    pub(crate) fn read(source: &Store) -> Self {
        let mut raw = [0; V3_LENGTH_COMPRESSION as usize];
        source.read(0, &mut raw);
        let u32_at = |at: usize| {
            raw[at..at + 4]
                .iter()
                .fold(0, |n, b| n << 8 | u32::from(*b))
        };
        let u64_at = |at: usize| {
            raw[at..at + 8]
                .iter()
                .fold(0, |n, b| n << 8 | u64::from(*b))
        };
        let version = u32_at(4);
        let v3 = version >= 3;
        let features = |at: usize| if v3 { u64_at(at) } else { 0 };
        let header_length = if v3 { u32_at(100) } else { V2_LENGTH };
        Self {
            magic: u32_at(0),
            version,
            backing_file_offset: u64_at(8),
            backing_file_size: u32_at(16),
            cluster_bits: u32_at(20),
            size: u64_at(24),
            crypt_method: u32_at(32),
            l1_size: u32_at(36),
            l1_table_offset: u64_at(40),
            refcount_table_offset: u64_at(48),
            refcount_table_clusters: u32_at(56),
            nb_snapshots: u32_at(60),
            snapshots_offset: u64_at(64),
            incompatible: Incompatible::from_bits_retain(features(72)),
            compatible: Compatible::from_bits_retain(features(80)),
            autoclear: Autoclear::from_bits_retain(features(88)),
            refcount_order: if v3 { u32_at(96) } else { 4 },
            header_length,
            compression_type: if u64::from(header_length) > COMPRESSION_TYPE_AT {
                raw[104]
            } else {
                0
            },
        }
    }

    /// The sizes that follow from the header, unless its cluster size is out of range.
    #[must_use]
    pub(crate) fn geometry(&self) -> Option<Geometry> {
        let extended = self.incompatible.contains(Incompatible::EXTENDED_L2);
        Geometry::new(self.cluster_bits, self.refcount_order, extended)
    }
}

const INCOMPATIBLE: &[BitRow] = bit_rows![
    "dirty", 0, 1, Flag, "set while refcounts may be inconsistent";
    "corrupt", 1, 1, Flag, "set when any structure may be corrupt";
    "data_file", 2, 1, Flag, "set when guest data is in an external file";
    "compression", 3, 1, Flag, "set exactly when compression_type is not 0";
    "extended_l2", 4, 1, Flag, "needs clusters of at least 16 KiB";
    "reserved", 5, 59, Reserved, "must be 0";
];

const COMPATIBLE: &[BitRow] = bit_rows![
    "lazy_refcounts", 0, 1, Flag, "refcount updates may be postponed";
    "reserved", 1, 63, Reserved, "must be 0";
];

const AUTOCLEAR: &[BitRow] = bit_rows![
    "bitmaps", 0, 1, Flag, "needs the bitmaps extension";
    "raw_data_file", 1, 1, Flag, "needs data_file, conflicts with a backing file";
    "reserved", 2, 62, Reserved, "must be 0";
];

/// The fields of every version.
pub(crate) const V2_ROWS: &[Row] = rows![
    "magic", 0, 4, Magic, "must be 0x514649fb";
    "version", 4, 4, Version, "must be 2 or 3";
    "backing_file_offset", 8, 8, Offset, "0, or within the first cluster after the extensions";
    "backing_file_size", 16, 4, Length, "at most 1023 bytes";
    "cluster_bits", 20, 4, Log2, "at least 9; QEMU reads up to 21; with extended_l2 at least 14";
    "size", 24, 8, Size, "covered by the L1 table; a multiple of 512 in images QEMU makes";
    "crypt_method", 32, 4, Choice, "0 none, 1 AES, 2 LUKS";
    "l1_size", 36, 4, Count, "enough for the size; QEMU reads up to 4194304 entries (32 MiB)";
    "l1_table_offset", 40, 8, Offset, "cluster aligned, within the file";
    "refcount_table_offset", 48, 8, Offset, "cluster aligned, within the file";
    "refcount_table_clusters", 56, 4, Count, "not 0; QEMU reads up to 8 MiB of table";
    "nb_snapshots", 60, 4, Count, "QEMU reads up to 65536";
    "snapshots_offset", 64, 8, Offset, "cluster aligned, within the file";
];

/// The fields that version 3 added.
pub(crate) const V3_ROWS: &[Row] = rows![
    "incompatible_features", 72, 8, Flags, "no unknown bits", INCOMPATIBLE;
    "compatible_features", 80, 8, Flags, "unknown bits are ignored", COMPATIBLE;
    "autoclear_features", 88, 8, Flags, "writers clear unknown bits", AUTOCLEAR;
    "refcount_order", 96, 4, Log2, "at most 6";
    "header_length", 100, 4, Length, "at least 104, a multiple of 8, within the first cluster";
];

/// The additional fields, there when the header is long enough.
pub(crate) const ADDITIONAL_ROWS: &[Row] = rows![
    "compression_type", 104, 1, Choice, "0 deflate, 1 zstd; not 0 exactly when the feature bit is set";
    "padding", 105, 7, Bytes, "must be 0";
];
