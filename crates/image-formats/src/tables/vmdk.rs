//! The sparse header and grain directories of VMDK.

use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::{Structure, Table, number};
use crate::value::Endian::Little;

const HEADER: &[Row] = rows![
    "magic", 0, 4, Bytes, "must be KDMV";
    "version", 4, 4, Version, "1 to 3";
    "flags", 8, 4, Flags, "";
    "capacity", 12, 8, Size, "in sectors, a multiple of the granularity";
    "granularity", 20, 8, Count, "sectors in a grain, a power of two, at least 8";
    "desc_offset", 28, 8, Offset, "in sectors";
    "desc_size", 36, 8, Length, "in sectors";
    "num_gtes_per_gt", 44, 4, Count, "512";
    "rgd_offset", 48, 8, Offset, "in sectors";
    "gd_offset", 56, 8, Offset, "in sectors; all ones with a footer";
    "grain_offset", 64, 8, Offset, "in sectors";
    "unclean_shutdown", 72, 1, Flag, "";
    "check_bytes", 73, 4, Bytes, "must be LF, space, CR, LF";
    "compress_algorithm", 77, 2, Choice, "0 none, 1 deflate";
];

// VMDK in the table of formats.
crate::tables::driver!("vmdk", |ends| ends.head(0, b"KDMV"));

fn structure(source: &Store) -> Structure {
    let at = |offset, bytes| number(source, offset, bytes, Little);
    let sectors = |offset| at(offset, 8).saturating_mul(512);
    let per_table = at(20, 8).saturating_mul(at(44, 4));
    let entries = at(12, 8)
        .checked_div(per_table)
        .map_or(0, |tables| tables + 1);
    Structure::new(Little)
        .record("header", 0, HEADER)
        .table(Table::of_numbers(
            "grain_directory",
            (sectors(56), entries, 4),
            crate::field::Kind::Offset,
            "",
        ))
        .table(Table::of_numbers(
            "redundant_grain_directory",
            (sectors(48), entries, 4),
            crate::field::Kind::Offset,
            "",
        ))
        .signature("header.magic", &b"KDMV"[..])
        .signature("header.check_bytes", &b"\n \r\n"[..])
}
