//! The header and block map of VDI.

use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::{Structure, Table, number};
use crate::value::Endian::Little;

const HEADER: &[Row] = rows![
    "text", 0, 64, Text, "";
    "signature", 64, 4, Magic, "must be 0xbeda107f";
    "version", 68, 4, Version, "must be 0x00010001";
    "header_size", 72, 4, Length, "at least 384";
    "image_type", 76, 4, Choice, "1 dynamic, 2 static";
    "image_flags", 80, 4, Flags, "";
    "description", 84, 256, Text, "";
    "offset_bmap", 340, 4, Offset, "a multiple of 512";
    "offset_data", 344, 4, Offset, "a multiple of 512";
    "cylinders", 348, 4, Count, "";
    "heads", 352, 4, Count, "";
    "sectors", 356, 4, Count, "";
    "sector_size", 360, 4, Count, "must be 512";
    "unused1", 364, 4, Reserved, "";
    "disk_size", 368, 8, Size, "at most blocks_in_image blocks";
    "block_size", 376, 4, Size, "1 MiB in images QEMU reads";
    "block_extra", 380, 4, Size, "";
    "blocks_in_image", 384, 4, Count, "QEMU reads up to 0x1fffffff";
    "blocks_allocated", 388, 4, Count, "";
    "uuid_image", 392, 16, Bytes, "";
    "uuid_last_snap", 408, 16, Bytes, "";
    "uuid_link", 424, 16, Bytes, "all zeros";
    "uuid_parent", 440, 16, Bytes, "all zeros";
];

// VDI in the table of formats.
crate::tables::driver!("vdi", |ends| ends.head(64, &0xbeda_107f_u32.to_le_bytes()));

fn structure(source: &Store) -> Structure {
    let at = |offset| number(source, offset, 4, Little);
    Structure::new(Little)
        .record("header", 0, HEADER)
        .table(Table::of_numbers(
            "block_map",
            (at(340), at(384), 4),
            crate::field::Kind::Offset,
            "",
        ))
        .signature("header.signature", 0xbeda_107f)
}
