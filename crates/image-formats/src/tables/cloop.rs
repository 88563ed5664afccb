//! The header and offset table of cloop images.

use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::{Structure, Table, number};
use crate::value::Endian::Big;

const HEADER: &[Row] = rows![
    "script", 0, 128, Text, "starts with the signature of the format";
    "block_size", 128, 4, Size, "a multiple of 512, not 0, up to 64 MiB";
    "n_blocks", 132, 4, Count, "one less than the offsets";
];

// cloop in the table of formats.
crate::tables::driver!("cloop", |ends| ends
    .head(0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop"));

fn structure(source: &Store) -> Structure {
    let entries = number(source, 132, 4, Big) + 1;
    Structure::new(Big)
        .record("header", 0, HEADER)
        .table(Table::of_numbers(
            "offset",
            (136, entries, 8),
            crate::field::Kind::Offset,
            "",
        ))
}
