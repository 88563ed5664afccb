//! The trailer of Apple disk images.

use crate::field::Kind;
use crate::fixed::{FixedImage, Structure, record};
use crate::io::ReadAt as _;
use crate::model::Driver;
use crate::row::{Row, row};
use crate::store::Store;
use crate::value::Endian::Big;

const HEADER: &[Row] = &[
    row("signature", 0, 4, Kind::Bytes, "must be koly"),
    row("version", 4, 4, Kind::Version, "must be 4"),
    row("header_size", 8, 4, Kind::Length, "must be 512"),
    row("flags", 12, 4, Kind::Flags, ""),
    row("running_data_fork_offset", 16, 8, Kind::Offset, ""),
    row("data_fork_offset", 24, 8, Kind::Offset, "within the file"),
    row("data_fork_length", 32, 8, Kind::Length, "within the file"),
    row("rsrc_fork_offset", 40, 8, Kind::Offset, "within the file"),
    row("rsrc_fork_length", 48, 8, Kind::Length, "within the file"),
    row("segment_number", 56, 4, Kind::Number, ""),
    row("segment_count", 60, 4, Kind::Count, ""),
    row("segment_id", 64, 16, Kind::Bytes, ""),
    row("data_checksum_type", 80, 4, Kind::Choice, ""),
    row("data_checksum_bits", 84, 4, Kind::Length, ""),
    row("data_checksum", 88, 128, Kind::Bytes, ""),
    row("xml_offset", 216, 8, Kind::Offset, "within the file"),
    row(
        "xml_length",
        224,
        8,
        Kind::Length,
        "within the file, up to 16 MiB",
    ),
    row("sector_count", 492, 8, Kind::Size, ""),
];

/// DMG in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "dmg",
    probe: |ends| ends.tail(b"koly"),
    open: |store| FixedImage::open(store, structure),
};

fn structure(source: &Store) -> Structure {
    let at = source.len().saturating_sub(512);
    Structure {
        records: vec![record("trailer", at, HEADER, Big)],
        signatures: vec![
            ("trailer.signature", b"koly"[..].into()),
            ("trailer.version", 4.into()),
        ],
        ..Structure::default()
    }
}
