//! The header and block table of Parallels images.

use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::{Structure, Table, number};
use crate::value::Endian::Little;

const HEADER: &[Row] = rows![
    "magic", 0, 16, Bytes, "WithoutFreeSpace or WithouFreSpacExt";
    "version", 16, 4, Version, "must be 2";
    "heads", 20, 4, Count, "";
    "cylinders", 24, 4, Count, "";
    "tracks", 28, 4, Count, "sectors in a cluster, not 0";
    "bat_entries", 32, 4, Count, "enough for the sectors";
    "nb_sectors", 36, 8, Size, "32 bits with the older magic";
    "inuse", 44, 4, Magic, "0x746f6e59 while open";
    "data_off", 48, 4, Offset, "in sectors, after the table";
    "flags", 52, 4, Flags, "";
    "ext_off", 56, 8, Offset, "in sectors";
];

// Parallels in the table of formats.
crate::tables::driver!("parallels", |ends| ends.head(0, b"WithoutFreeSpace")
    || ends.head(0, b"WithouFreSpacExt"));

fn structure(source: &Store) -> Structure {
    let entries = number(source, 32, 4, Little);
    Structure::new(Little)
        .record("header", 0, HEADER)
        .table(Table::of_numbers(
            "bat",
            (64, entries, 4),
            crate::field::Kind::Offset,
            "",
        ))
        .signature("header.version", 2)
}
