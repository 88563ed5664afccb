//! The header and catalog of Bochs images.

use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::{Structure, Table, number};
use crate::value::Endian::Little;

const HEADER: &[Row] = rows![
    "magic", 0, 32, Text, "must be Bochs Virtual HD Image";
    "type", 32, 16, Text, "must be Redolog";
    "subtype", 48, 16, Text, "must be Growing";
    "version", 64, 4, Version, "0x00010000 or 0x00020000";
    "header", 68, 4, Length, "bytes in the header, 512";
    "catalog", 72, 4, Count, "entries in the catalog";
    "bitmap", 76, 4, Length, "bytes in a bitmap";
    "extent", 80, 4, Size, "bytes in an extent, a power of two, 512 to 8 MiB";
    "timestamp", 84, 4, Number, "in version 2";
    "disk", 88, 8, Size, "in version 2; at byte 84 in version 1";
];

// Bochs in the table of formats.
crate::tables::driver!("bochs", |ends| ends.head(0, b"Bochs Virtual HD Image"));

fn structure(source: &Store) -> Structure {
    let at = |offset| number(source, offset, 4, Little);
    Structure::new(Little)
        .record("header", 0, HEADER)
        .table(Table::of_numbers(
            "catalog",
            (at(68), at(72), 4),
            crate::field::Kind::Offset,
            "",
        ))
}
