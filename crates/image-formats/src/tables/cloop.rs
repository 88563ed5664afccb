//! The header and offset table of cloop images.

use super::{number, record};
use crate::field::Endian::Big;
use crate::field::Kind;
use crate::fixed::{Array, Structure};
use crate::io::ReadAt;
use crate::row::{Row, row};

const HEADER: &[Row] = &[
    row(
        "script",
        0,
        128,
        Kind::Text,
        "starts with the marks of the format",
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

pub(super) fn structure(source: &dyn ReadAt) -> Structure {
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
        arrays: vec![offsets.within(source.len())],
        marks: Vec::new(),
        ..Structure::default()
    }
}
