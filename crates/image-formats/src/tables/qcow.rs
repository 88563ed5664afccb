//! The header and L1 table of qcow, version 1.

use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::{Structure, Table, number};
use crate::value::Endian::Big;

const HEADER: &[Row] = rows![
    "magic", 0, 4, Magic, "must be 0x514649fb";
    "version", 4, 4, Version, "must be 1";
    "backing_file_offset", 8, 8, Offset, "0 without backing file";
    "backing_file_size", 16, 4, Length, "at most 1023 bytes";
    "mtime", 20, 4, Number, "";
    "size", 24, 8, Size, "more than 1";
    "cluster_bits", 32, 1, Log2, "9 to 16";
    "l2_bits", 33, 1, Log2, "6 to 13";
    "padding", 34, 2, Reserved, "";
    "crypt_method", 36, 4, Choice, "0 none, 1 AES";
    "l1_table_offset", 40, 8, Offset, "within the file";
];

// qcow, version 1, in the table of formats.
crate::tables::driver!("qcow", |ends| ends.head(0, b"QFI\xfb\0\0\0\x01"));

fn structure(source: &Store) -> Structure {
    let at = |offset, bytes| number(source, offset, bytes, Big);
    // Size over what one L1 entry covers; invalid widths result in no table.
    let shift = (at(32, 1) + at(33, 1)).min(63) as u32;
    Structure::new(Big)
        .record("header", 0, HEADER)
        .table(Table::of_numbers(
            "l1",
            (at(40, 8), at(24, 8).div_ceil(1 << shift), 8),
            crate::field::Kind::Offset,
            "",
        ))
        .signature("header.magic", 0x5146_49fb)
        .signature("header.version", 1)
}
