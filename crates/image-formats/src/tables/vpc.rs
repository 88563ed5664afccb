//! The footer, dynamic header and block table of VPC (VHD).

use crate::field::Kind;
use crate::fixed::{Array, Checksum, FixedImage, Structure, number, record};
use crate::io::ReadAt as _;
use crate::model::Driver;
use crate::row::{Row, row};
use crate::store::Store;
use crate::value::Endian::Big;

const FOOTER: &[Row] = &[
    row("creator", 0, 8, Kind::Bytes, "must be conectix"),
    row("features", 8, 4, Kind::Flags, ""),
    row("version", 12, 4, Kind::Version, "must be 0x00010000"),
    row(
        "data_offset",
        16,
        8,
        Kind::Offset,
        "of the dynamic header; all ones for fixed disks",
    ),
    row("timestamp", 24, 4, Kind::Number, ""),
    row("creator_app", 28, 4, Kind::Bytes, ""),
    row("major", 32, 2, Kind::Number, ""),
    row("minor", 34, 2, Kind::Number, ""),
    row("creator_os", 36, 4, Kind::Bytes, ""),
    row("orig_size", 40, 8, Kind::Size, ""),
    row("current_size", 48, 8, Kind::Size, ""),
    row("cyls", 56, 2, Kind::Count, ""),
    row("heads", 58, 1, Kind::Count, ""),
    row("secs_per_cyl", 59, 1, Kind::Count, ""),
    row(
        "type",
        60,
        4,
        Kind::Choice,
        "2 fixed, 3 dynamic, 4 differencing",
    ),
    row(
        "checksum",
        64,
        4,
        Kind::Checksum,
        "complement of the sum of all bytes but these",
    ),
    row("uuid", 68, 16, Kind::Bytes, ""),
    row("in_saved_state", 84, 1, Kind::Flag, ""),
];

const DYNAMIC: &[Row] = &[
    row("magic", 0, 8, Kind::Bytes, "must be cxsparse"),
    row("data_offset", 8, 8, Kind::Offset, "all ones"),
    row(
        "table_offset",
        16,
        8,
        Kind::Offset,
        "of the block allocation table",
    ),
    row("version", 24, 4, Kind::Version, "must be 0x00010000"),
    row(
        "max_table_entries",
        28,
        4,
        Kind::Count,
        "enough for the size",
    ),
    row(
        "block_size",
        32,
        4,
        Kind::Size,
        "a power of two, a multiple of 512",
    ),
    row(
        "checksum",
        36,
        4,
        Kind::Checksum,
        "complement of the sum of all bytes but these",
    ),
    row("parent_uuid", 40, 16, Kind::Bytes, ""),
    row("parent_timestamp", 56, 4, Kind::Number, ""),
    row("reserved", 60, 4, Kind::Reserved, "must be 0"),
    row("parent_name", 64, 512, Kind::Bytes, "UTF-16"),
];

/// VPC in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "vpc",
    probe: |ends| ends.head(0, b"conectix") || ends.tail(b"conectix"),
    open: |store| FixedImage::open(store, structure),
};

fn structure(source: &Store) -> Structure {
    let at = |offset, bytes| number(source, offset, bytes, Big);
    let footer_at = source.len().saturating_sub(512);
    let mut structure = Structure {
        records: vec![record("footer", footer_at, FOOTER, Big)],
        signatures: vec![("footer.creator", b"conectix"[..].into())],
        checksums: vec![checksum("footer.checksum", footer_at, 512)],
        ..Structure::default()
    };
    if source.read_vec(0, 8) == b"conectix" {
        structure
            .records
            .insert(0, record("header", 0, FOOTER, Big));
        structure
            .checksums
            .push(checksum("header.checksum", 0, 512));
        let dynamic = at(16, 8);
        if dynamic < source.len() {
            structure
                .records
                .push(record("dynamic", dynamic, DYNAMIC, Big));
            structure
                .checksums
                .push(checksum("dynamic.checksum", dynamic, 1024));
            let (table, entries) = (
                at(dynamic.saturating_add(16), 8),
                at(dynamic.saturating_add(28), 4),
            );
            let bat = Array {
                name: "bat",
                at: table,
                entries,
                bytes: 4,
                endian: Big,
            };
            structure.arrays.push(bat.within(source));
        }
    }
    structure
}

fn checksum(path: &'static str, at: u64, len: usize) -> Checksum {
    Checksum {
        path,
        at,
        len,
        sum: complement_sum,
    }
}

/// The complement of the sum of all bytes.
fn complement_sum(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(0_u32, |sum, byte| sum.wrapping_add((*byte).into()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn sums_are_complemented() {
        assert_eq!(super::complement_sum(&[1, 2, 255]), !258);
    }
}
