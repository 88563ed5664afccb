//! The header and offset table of cloop images.

use crate::field::Kind;
use crate::fixed::{Array, FixedImage, Structure, number, record};
use crate::model::Driver;
use crate::row::{Row, row};
use crate::store::Store;
use crate::value::Endian::Big;

const HEADER: &[Row] = &[
    row(
        "script",
        0,
        128,
        Kind::Text,
        "starts with the signature of the format",
    ),
    row(
        "block_size",
        128,
        4,
        Kind::Size,
        "a multiple of 512, not 0, up to 64 MiB",
    ),
    row("n_blocks", 132, 4, Kind::Count, "one less than the offsets"),
];

/// cloop in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "cloop",
    probe: |ends| ends.head(0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop"),
    open: |store| FixedImage::open(store, structure),
};

fn structure(source: &Store) -> Structure {
    let entries = number(source, 132, 4, Big) + 1;
    let offsets = Array {
        name: "offset",
        at: 136,
        entries,
        bytes: 8,
        endian: Big,
    };
    Structure {
        records: vec![record("header", 0, HEADER, Big)],
        arrays: vec![offsets.within(source)],
        ..Structure::default()
    }
}
