//! The header and L1 table of QED.

use crate::fixed::{self, Structure, number};
use crate::row::{Row, rows};
use crate::store::Store;
use crate::value::Endian::Little;

const HEADER: &[Row] = rows![
    "magic", 0, 4, Bytes, "must be HEADER, 0";
    "cluster_size", 4, 4, Size, "a power of two, 4 KiB to 64 MiB";
    "table_size", 8, 4, Count, "clusters in a table, a power of two, 1 to 16";
    "header_size", 12, 4, Count, "clusters in the header";
    "features", 16, 8, Flags, "bits 0 to 2 only";
    "compat_features", 24, 8, Flags, "";
    "autoclear_features", 32, 8, Flags, "";
    "l1_table_offset", 40, 8, Offset, "cluster aligned, within the file";
    "image_size", 48, 8, Size, "a multiple of 512";
    "backing_filename_offset", 56, 4, Offset, "within the header";
    "backing_filename_size", 60, 4, Length, "within the header";
];

// QED in the table of formats.
fixed::driver!("qed", |ends| ends.head(0, b"QED\0"));

fn structure(source: &Store) -> Structure {
    let at = |offset, bytes| number(source, offset, bytes, Little);
    let entries = at(4, 4).saturating_mul(at(8, 4)) / 8;
    Structure::new(Little)
        .record("header", 0, HEADER)
        .array("l1", at(40, 8), entries, 8)
        .signature("header.magic", &b"QED\0"[..])
}
