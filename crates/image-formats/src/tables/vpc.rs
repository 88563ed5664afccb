//! The footer, dynamic header and block table of VPC (VHD).

use crate::io::ReadAt as _;
use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::{Structure, Table, number};
use crate::value::Endian::Big;

const FOOTER: &[Row] = rows![
    "creator", 0, 8, Bytes, "must be conectix";
    "features", 8, 4, Flags, "";
    "version", 12, 4, Version, "must be 0x00010000";
    "data_offset", 16, 8, Offset, "of the dynamic header; all ones for fixed disks";
    "timestamp", 24, 4, Number, "";
    "creator_app", 28, 4, Bytes, "";
    "major", 32, 2, Number, "";
    "minor", 34, 2, Number, "";
    "creator_os", 36, 4, Bytes, "";
    "orig_size", 40, 8, Size, "";
    "current_size", 48, 8, Size, "";
    "cyls", 56, 2, Count, "";
    "heads", 58, 1, Count, "";
    "secs_per_cyl", 59, 1, Count, "";
    "type", 60, 4, Choice, "2 fixed, 3 dynamic, 4 differencing";
    "checksum", 64, 4, Checksum, "complement of the sum of all bytes but these";
    "uuid", 68, 16, Bytes, "";
    "in_saved_state", 84, 1, Flag, "";
];

const DYNAMIC: &[Row] = rows![
    "magic", 0, 8, Bytes, "must be cxsparse";
    "data_offset", 8, 8, Offset, "all ones";
    "table_offset", 16, 8, Offset, "of the block allocation table";
    "version", 24, 4, Version, "must be 0x00010000";
    "max_table_entries", 28, 4, Count, "enough for the size";
    "block_size", 32, 4, Size, "a power of two, a multiple of 512";
    "checksum", 36, 4, Checksum, "complement of the sum of all bytes but these";
    "parent_uuid", 40, 16, Bytes, "";
    "parent_timestamp", 56, 4, Number, "";
    "reserved", 60, 4, Reserved, "must be 0";
    "parent_name", 64, 512, Bytes, "UTF-16";
];

// VPC in the table of formats.
crate::tables::driver!("vpc", |ends| ends.head(0, b"conectix")
    || ends.tail(b"conectix"));

fn structure(source: &Store) -> Structure {
    let at = |offset, bytes| number(source, offset, bytes, Big);
    let footer_at = source.len().saturating_sub(512);
    let has_header = source.read_vec(0, 8) == b"conectix";
    let mut structure = Structure::new(Big);
    if has_header {
        structure = structure.record("header", 0, FOOTER);
    }
    structure = structure
        .record("footer", footer_at, FOOTER)
        .signature("footer.creator", &b"conectix"[..])
        .checksum(
            "footer.checksum",
            crate::tables::CHECKSUM,
            (footer_at, 512),
            complement_sum,
        );
    if has_header {
        structure = structure.checksum(
            "header.checksum",
            crate::tables::CHECKSUM,
            (0, 512),
            complement_sum,
        );
        let dynamic = at(16, 8);
        if dynamic < source.len() {
            let table = at(dynamic.saturating_add(16), 8);
            let entries = at(dynamic.saturating_add(28), 4);
            structure = structure
                .record("dynamic", dynamic, DYNAMIC)
                .checksum(
                    "dynamic.checksum",
                    crate::tables::CHECKSUM,
                    (dynamic, 1024),
                    complement_sum,
                )
                .table(Table::of_numbers(
                    "bat",
                    (table, entries, 4),
                    crate::field::Kind::Offset,
                    "",
                ));
        }
    }
    structure
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
