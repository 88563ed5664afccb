//! The header and L1 table of QED.

use crate::field::Kind;
use crate::fixed::{Array, FixedImage, Structure, number, record};
use crate::model::Driver;
use crate::row::{Row, row};
use crate::store::Store;
use crate::value::Endian::Little;

const HEADER: &[Row] = &[
    row("magic", 0, 4, Kind::Bytes, "must be HEADER, 0"),
    row(
        "cluster_size",
        4,
        4,
        Kind::Size,
        "a power of two, 4 KiB to 64 MiB",
    ),
    row(
        "table_size",
        8,
        4,
        Kind::Count,
        "clusters in a table, a power of two, 1 to 16",
    ),
    row("header_size", 12, 4, Kind::Count, "clusters in the header"),
    row("features", 16, 8, Kind::Flags, "bits 0 to 2 only"),
    row("compat_features", 24, 8, Kind::Flags, ""),
    row("autoclear_features", 32, 8, Kind::Flags, ""),
    row(
        "l1_table_offset",
        40,
        8,
        Kind::Offset,
        "cluster aligned, within the file",
    ),
    row("image_size", 48, 8, Kind::Size, "a multiple of 512"),
    row(
        "backing_filename_offset",
        56,
        4,
        Kind::Offset,
        "within the header",
    ),
    row(
        "backing_filename_size",
        60,
        4,
        Kind::Length,
        "within the header",
    ),
];

/// QED in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "qed",
    probe: |ends| ends.head(0, b"QED\0"),
    open: |store| FixedImage::open(store, structure),
};

fn structure(source: &Store) -> Structure {
    let at = |offset, bytes| number(source, offset, bytes, Little);
    let entries = at(4, 4).saturating_mul(at(8, 4)) / 8;
    let l1 = Array {
        name: "l1",
        at: at(40, 8),
        entries,
        bytes: 8,
        endian: Little,
    };
    Structure {
        records: vec![record("header", 0, HEADER, Little)],
        arrays: vec![l1.within(source)],
        signatures: vec![("header.magic", b"QED\0"[..].into())],
        ..Structure::default()
    }
}
