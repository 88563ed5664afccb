//! The header and catalog of Bochs images.

use crate::field::Kind;
use crate::fixed::{Array, FixedImage, Structure, number, record};
use crate::model::Driver;
use crate::row::{Row, row};
use crate::store::Store;
use crate::value::Endian::Little;

const HEADER: &[Row] = &[
    row("magic", 0, 32, Kind::Text, "must be Bochs Virtual HD Image"),
    row("type", 32, 16, Kind::Text, "must be Redolog"),
    row("subtype", 48, 16, Kind::Text, "must be Growing"),
    row("version", 64, 4, Kind::Version, "0x00010000 or 0x00020000"),
    row("header", 68, 4, Kind::Length, "bytes in the header, 512"),
    row("catalog", 72, 4, Kind::Count, "entries in the catalog"),
    row("bitmap", 76, 4, Kind::Length, "bytes in a bitmap"),
    row(
        "extent",
        80,
        4,
        Kind::Size,
        "bytes in an extent, a power of two, 512 to 8 MiB",
    ),
    row("timestamp", 84, 4, Kind::Number, "in version 2"),
    row(
        "disk",
        88,
        8,
        Kind::Size,
        "in version 2; at byte 84 in version 1",
    ),
];

/// Bochs in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "bochs",
    probe: |ends| ends.head(0, b"Bochs Virtual HD Image"),
    open: |store| FixedImage::open(store, structure),
};

fn structure(source: &Store) -> Structure {
    let at = |offset| number(source, offset, 4, Little);
    let catalog = Array {
        name: "catalog",
        at: at(68),
        entries: at(72),
        bytes: 4,
        endian: Little,
    };
    Structure {
        records: vec![record("header", 0, HEADER, Little)],
        arrays: vec![catalog.within(source)],
        ..Structure::default()
    }
}
