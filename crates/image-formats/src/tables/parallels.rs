//! The header and block table of Parallels images.

use crate::field::Kind;
use crate::fixed::{Array, FixedImage, Structure, number, record};
use crate::model::Driver;
use crate::row::{Row, row};
use crate::store::Store;
use crate::value::Endian::Little;

const HEADER: &[Row] = &[
    row(
        "magic",
        0,
        16,
        Kind::Bytes,
        "WithoutFreeSpace or WithouFreSpacExt",
    ),
    row("version", 16, 4, Kind::Version, "must be 2"),
    row("heads", 20, 4, Kind::Count, ""),
    row("cylinders", 24, 4, Kind::Count, ""),
    row("tracks", 28, 4, Kind::Count, "sectors in a cluster, not 0"),
    row("bat_entries", 32, 4, Kind::Count, "enough for the sectors"),
    row(
        "nb_sectors",
        36,
        8,
        Kind::Size,
        "32 bits with the older magic",
    ),
    row("inuse", 44, 4, Kind::Magic, "0x746f6e59 while open"),
    row(
        "data_off",
        48,
        4,
        Kind::Offset,
        "in sectors, after the table",
    ),
    row("flags", 52, 4, Kind::Flags, ""),
    row("ext_off", 56, 8, Kind::Offset, "in sectors"),
];

/// Parallels in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "parallels",
    probe: |ends| ends.head(0, b"WithoutFreeSpace") || ends.head(0, b"WithouFreSpacExt"),
    open: |store| FixedImage::open(store, structure),
};

fn structure(source: &Store) -> Structure {
    let entries = number(source, 32, 4, Little);
    let bat = Array {
        name: "bat",
        at: 64,
        entries,
        bytes: 4,
        endian: Little,
    };
    Structure {
        records: vec![record("header", 0, HEADER, Little)],
        arrays: vec![bat.within(source)],
        signatures: vec![("header.version", 2.into())],
        ..Structure::default()
    }
}
