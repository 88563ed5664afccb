//! The header and block map of VDI.

use crate::field::Kind;
use crate::fixed::{Array, FixedImage, Structure, number, record};
use crate::model::Driver;
use crate::row::{Row, row};
use crate::store::Store;
use crate::value::Endian::Little;

const HEADER: &[Row] = &[
    row("text", 0, 64, Kind::Text, ""),
    row("signature", 64, 4, Kind::Magic, "must be 0xbeda107f"),
    row("version", 68, 4, Kind::Version, "must be 0x00010001"),
    row("header_size", 72, 4, Kind::Length, "at least 384"),
    row("image_type", 76, 4, Kind::Choice, "1 dynamic, 2 static"),
    row("image_flags", 80, 4, Kind::Flags, ""),
    row("description", 84, 256, Kind::Text, ""),
    row("offset_bmap", 340, 4, Kind::Offset, "a multiple of 512"),
    row("offset_data", 344, 4, Kind::Offset, "a multiple of 512"),
    row("cylinders", 348, 4, Kind::Count, ""),
    row("heads", 352, 4, Kind::Count, ""),
    row("sectors", 356, 4, Kind::Count, ""),
    row("sector_size", 360, 4, Kind::Count, "must be 512"),
    row("unused1", 364, 4, Kind::Reserved, ""),
    row(
        "disk_size",
        368,
        8,
        Kind::Size,
        "at most blocks_in_image blocks",
    ),
    row(
        "block_size",
        376,
        4,
        Kind::Size,
        "1 MiB in images QEMU reads",
    ),
    row("block_extra", 380, 4, Kind::Size, ""),
    row(
        "blocks_in_image",
        384,
        4,
        Kind::Count,
        "QEMU reads up to 0x1fffffff",
    ),
    row("blocks_allocated", 388, 4, Kind::Count, ""),
    row("uuid_image", 392, 16, Kind::Bytes, ""),
    row("uuid_last_snap", 408, 16, Kind::Bytes, ""),
    row("uuid_link", 424, 16, Kind::Bytes, "all zeros"),
    row("uuid_parent", 440, 16, Kind::Bytes, "all zeros"),
];

/// VDI in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "vdi",
    probe: |ends| ends.head(64, &0xbeda_107f_u32.to_le_bytes()),
    open: |store| FixedImage::open(store, structure),
};

fn structure(source: &Store) -> Structure {
    let at = |offset| number(source, offset, 4, Little);
    let map = Array {
        name: "block_map",
        at: at(340),
        entries: at(384),
        bytes: 4,
        endian: Little,
    };
    Structure {
        records: vec![record("header", 0, HEADER, Little)],
        arrays: vec![map.within(source)],
        signatures: vec![("header.signature", 0xbeda_107f.into())],
        ..Structure::default()
    }
}
