//! The sparse header and grain directories of VMDK.

use crate::field::Kind;
use crate::fixed::{Array, FixedImage, Structure, number, record};
use crate::model::Driver;
use crate::row::{Row, row};
use crate::store::Store;
use crate::value::Endian::Little;

const HEADER: &[Row] = &[
    row("magic", 0, 4, Kind::Bytes, "must be KDMV"),
    row("version", 4, 4, Kind::Version, "1 to 3"),
    row("flags", 8, 4, Kind::Flags, ""),
    row(
        "capacity",
        12,
        8,
        Kind::Size,
        "in sectors, a multiple of the granularity",
    ),
    row(
        "granularity",
        20,
        8,
        Kind::Count,
        "sectors in a grain, a power of two, at least 8",
    ),
    row("desc_offset", 28, 8, Kind::Offset, "in sectors"),
    row("desc_size", 36, 8, Kind::Length, "in sectors"),
    row("num_gtes_per_gt", 44, 4, Kind::Count, "512"),
    row("rgd_offset", 48, 8, Kind::Offset, "in sectors"),
    row(
        "gd_offset",
        56,
        8,
        Kind::Offset,
        "in sectors; all ones with a footer",
    ),
    row("grain_offset", 64, 8, Kind::Offset, "in sectors"),
    row("unclean_shutdown", 72, 1, Kind::Flag, ""),
    row(
        "check_bytes",
        73,
        4,
        Kind::Bytes,
        "must be LF, space, CR, LF",
    ),
    row(
        "compress_algorithm",
        77,
        2,
        Kind::Choice,
        "0 none, 1 deflate",
    ),
];

/// VMDK in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "vmdk",
    probe: |ends| ends.head(0, b"KDMV"),
    open: |store| FixedImage::open(store, structure),
};

fn structure(source: &Store) -> Structure {
    let at = |offset, bytes| number(source, offset, bytes, Little);
    let per_table = at(20, 8).saturating_mul(at(44, 4));
    let entries = at(12, 8)
        .checked_div(per_table)
        .map_or(0, |tables| tables + 1);
    let directory = |name, offset: u64| {
        let at = offset.saturating_mul(512);
        Array {
            name,
            at,
            entries,
            bytes: 4,
            endian: Little,
        }
        .within(source)
    };
    Structure {
        records: vec![record("header", 0, HEADER, Little)],
        arrays: vec![
            directory("grain_directory", at(56, 8)),
            directory("redundant_grain_directory", at(48, 8)),
        ],
        signatures: vec![
            ("header.magic", b"KDMV"[..].into()),
            ("header.check_bytes", b"\n \r\n"[..].into()),
        ],
        ..Structure::default()
    }
}
