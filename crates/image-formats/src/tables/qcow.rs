//! The header and L1 table of qcow, version 1.

use crate::field::Kind;
use crate::fixed::{Array, FixedImage, Structure, number, record};
use crate::model::Driver;
use crate::row::{Row, row};
use crate::store::Store;
use crate::value::Endian::Big;

const HEADER: &[Row] = &[
    row("magic", 0, 4, Kind::Magic, "must be 0x514649fb"),
    row("version", 4, 4, Kind::Version, "must be 1"),
    row(
        "backing_file_offset",
        8,
        8,
        Kind::Offset,
        "0 without backing file",
    ),
    row(
        "backing_file_size",
        16,
        4,
        Kind::Length,
        "at most 1023 bytes",
    ),
    row("mtime", 20, 4, Kind::Number, ""),
    row("size", 24, 8, Kind::Size, "more than 1"),
    row("cluster_bits", 32, 1, Kind::Log2, "9 to 16"),
    row("l2_bits", 33, 1, Kind::Log2, "6 to 13"),
    row("padding", 34, 2, Kind::Reserved, ""),
    row("crypt_method", 36, 4, Kind::Choice, "0 none, 1 AES"),
    row("l1_table_offset", 40, 8, Kind::Offset, "within the file"),
];

/// qcow, version 1, in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "qcow",
    probe: |ends| ends.head(0, b"QFI\xfb\0\0\0\x01"),
    open: |store| FixedImage::open(store, structure),
};

fn structure(source: &Store) -> Structure {
    let at = |offset, bytes| number(source, offset, bytes, Big);
    // Size over what one L1 entry covers; invalid widths result in no table.
    let shift = (at(32, 1) + at(33, 1)).min(63) as u32;
    let l1 = Array {
        name: "l1",
        at: at(40, 8),
        entries: at(24, 8).div_ceil(1 << shift),
        bytes: 8,
        endian: Big,
    };
    Structure {
        records: vec![record("header", 0, HEADER, Big)],
        arrays: vec![l1.within(source)],
        signatures: vec![
            ("header.magic", 0x5146_49fb.into()),
            ("header.version", 1.into()),
        ],
        ..Structure::default()
    }
}
