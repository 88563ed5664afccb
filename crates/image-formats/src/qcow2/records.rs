//! Records of variable length: header extensions, snapshots, bitmaps.

use crate::row::{BitRow, Row, bit_rows, rows};

/// Type of the extension that ends the extension area.
pub const EXT_END: u32 = 0;
/// Type of the extension with the backing file's format.
pub const EXT_BACKING_FORMAT: u32 = 0xe279_2aca;
/// Type of the feature name table.
pub const EXT_FEATURE_NAMES: u32 = 0x6803_f857;
/// Type of the bitmaps extension.
pub const EXT_BITMAPS: u32 = 0x2385_2875;
/// Type of the pointer to the encryption header.
pub const EXT_ENCRYPTION: u32 = 0x0537_be77;
/// Type of the extension with the external data file's name.
pub const EXT_DATA_FILE: u32 = 0x4441_5441;

/// Bytes in an entry of the feature name table.
pub(crate) const FEATURE_ENTRY: u64 = 48;
/// Bytes in the bitmaps extension.
pub(crate) const BITMAPS_EXT_LENGTH: u64 = 24;
/// Bytes in the fixed part of a snapshot table entry.
pub(crate) const SNAPSHOT_FIXED: u64 = 40;
/// Bytes in the fixed part of a bitmap directory entry.
pub(crate) const BITMAP_FIXED: u64 = 24;

/// What an extension type is called, if it is known.
#[must_use]
pub fn extension_name(kind: u32) -> &'static str {
    match kind {
        EXT_END => "end of the header extension area",
        EXT_BACKING_FORMAT => "backing file format",
        EXT_FEATURE_NAMES => "feature name table",
        EXT_BITMAPS => "bitmaps",
        EXT_ENCRYPTION => "full disk encryption header pointer",
        EXT_DATA_FILE => "external data file name",
        _ => "unknown",
    }
}

/// The head of every extension.
pub(crate) const EXT_ROWS: &[Row] = rows![
    "type", 0, 4, Choice, "each known type at most once; 0 ends the area";
    "length", 4, 4, Length, "the data ends before the backing file name and within the first cluster";
];

/// An entry of the feature name table.
pub(crate) const FEATURE_ROWS: &[Row] = rows![
    "type", 0, 1, Choice, "0 incompatible, 1 compatible, 2 autoclear";
    "bit", 1, 1, Number, "0 to 63";
    "name", 2, 46, Text, "padded with zeros";
];

/// The data of the bitmaps extension.
pub(crate) const BITMAPS_EXT_ROWS: &[Row] = rows![
    "nb_bitmaps", 8, 4, Count, "at least 1; QEMU reads up to 65535";
    "reserved", 12, 4, Reserved, "must be 0";
    "bitmap_directory_size", 16, 8, Length, "the sum of all directory entries";
    "bitmap_directory_offset", 24, 8, Offset, "cluster aligned, within the file";
];

/// The data of the pointer to the encryption header.
pub(crate) const ENCRYPTION_EXT_ROWS: &[Row] = rows![
    "encryption_offset", 8, 8, Offset, "cluster aligned, within the file";
    "encryption_length", 16, 8, Length, "the encryption header is within the file";
];

/// The fixed part of a snapshot table entry.
pub(crate) const SNAPSHOT_ROWS: &[Row] = rows![
    "l1_table_offset", 0, 8, Offset, "cluster aligned, within the file";
    "l1_size", 8, 4, Count, "enough for the snapshot's disk";
    "id_size", 12, 2, Length, "bytes in the unique ID";
    "name_size", 14, 2, Length, "bytes in the name";
    "date_sec", 16, 4, Number, "";
    "date_nsec", 20, 4, Number, "less than 1000000000";
    "vm_clock_nsec", 24, 8, Number, "";
    "vm_state_size", 32, 4, Size, "ignored when the large size is present";
    "extra_data_size", 36, 4, Length, "at least 16 in version 3; QEMU reads up to 1024";
];

/// The known parts of a snapshot's extra data, each there when it is long enough.
pub(crate) const SNAPSHOT_EXTRA_ROWS: &[Row] = rows![
    "vm_state_size_large", 40, 8, Size, "within what the L1 table covers after the disk";
    "disk_size", 48, 8, Size, "covered by the snapshot's L1 table";
    "icount", 56, 8, Number, "all ones when disabled";
];

const BITMAP_FLAGS: &[BitRow] = bit_rows![
    "in_use", 0, 1, Flag, "set while the stored bitmap may be inconsistent";
    "auto", 1, 1, Flag, "set when the bitmap tracks every change";
    "extra_data_compatible", 2, 1, Flag, "the bitmap may be used in spite of unknown extra data";
    "reserved", 3, 29, Reserved, "must be 0";
];

/// The fixed part of a bitmap directory entry.
pub(crate) const BITMAP_ROWS: &[Row] = rows![
    "table_offset", 0, 8, Offset, "cluster aligned, within the file";
    "table_size", 8, 4, Count, "enough for the virtual disk at this granularity";
    "flags", 12, 4, Flags, "no reserved bits", BITMAP_FLAGS;
    "type", 16, 1, Choice, "1: dirty tracking bitmap";
    "granularity_bits", 17, 1, Log2, "0 to 63; QEMU reads 9 to 31";
    "name_size", 18, 2, Length, "not 0; QEMU reads up to 1023";
    "extra_data_size", 20, 4, Length, "0, as no extra data is defined";
];
