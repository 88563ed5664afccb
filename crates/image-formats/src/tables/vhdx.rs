//! The headers and region tables of VHDX.

use crate::field::Kind;
use crate::fixed::{Checksum, FixedImage, Structure, number, record};
use crate::model::Driver;
use crate::row::{Row, row};
use crate::store::Store;
use crate::value::Endian::Little;

const IDENTIFIER: &[Row] = &[
    row("signature", 0, 8, Kind::Bytes, "must be vhdxfile"),
    row("creator", 8, 512, Kind::Bytes, "UTF-16"),
];

const HEADER: &[Row] = &[
    row("signature", 0, 4, Kind::Bytes, "must be head"),
    row(
        "checksum",
        4,
        4,
        Kind::Checksum,
        "CRC-32C of 4 KiB with this field 0",
    ),
    row(
        "sequence_number",
        8,
        8,
        Kind::Number,
        "the larger one is current",
    ),
    row("file_write_guid", 16, 16, Kind::Bytes, ""),
    row("data_write_guid", 32, 16, Kind::Bytes, ""),
    row(
        "log_guid",
        48,
        16,
        Kind::Bytes,
        "all zeros without a log to replay",
    ),
    row("log_version", 64, 2, Kind::Version, "must be 0"),
    row("version", 66, 2, Kind::Version, "must be 1"),
    row("log_length", 68, 4, Kind::Length, "a multiple of 1 MiB"),
    row("log_offset", 72, 8, Kind::Offset, "a multiple of 1 MiB"),
];

const REGION_TABLE: &[Row] = &[
    row("signature", 0, 4, Kind::Bytes, "must be regi"),
    row(
        "checksum",
        4,
        4,
        Kind::Checksum,
        "CRC-32C of 64 KiB with this field 0",
    ),
    row("entry_count", 8, 4, Kind::Count, "at most 2047"),
    row("reserved", 12, 4, Kind::Reserved, "must be 0"),
];

const REGION: &[Row] = &[
    row("guid", 0, 16, Kind::Bytes, "BAT or metadata"),
    row("file_offset", 16, 8, Kind::Offset, "a multiple of 1 MiB"),
    row("length", 24, 4, Kind::Length, "a multiple of 1 MiB"),
    row("required", 28, 4, Kind::Flags, "bit 0 only"),
];

/// VHDX in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "vhdx",
    probe: |ends| ends.head(0, b"vhdxfile"),
    open: |store| FixedImage::open(store, structure),
};

fn structure(source: &Store) -> Structure {
    const REGIONS: [(&str, u64); 2] = [
        ("region_table[0]", 192 << 10),
        ("region_table[1]", 256 << 10),
    ];
    let mut records = vec![
        record("identifier", 0, IDENTIFIER, Little),
        record("header[0]", 64 << 10, HEADER, Little),
        record("header[1]", 128 << 10, HEADER, Little),
    ];
    for (name, at) in REGIONS {
        records.push(record(name, at, REGION_TABLE, Little));
        let entries = number(source, at + 8, 4, Little).min(64);
        for index in 0..entries {
            records.push(record(
                &format!("{name}.entry[{index}]"),
                at + 16 + index * 32,
                REGION,
                Little,
            ));
        }
    }
    Structure {
        records,
        checksums: checksums(source),
        signatures: vec![
            ("identifier.signature", b"vhdxfile"[..].into()),
            ("region_table[0].signature", b"regi"[..].into()),
        ],
        ..Structure::default()
    }
}

/// Headers and region tables; those without their signature are left out.
fn checksums(source: &Store) -> Vec<Checksum> {
    const ALL: [(&str, u64, usize, &[u8; 4]); 4] = [
        ("header[0].checksum", 64 << 10, 4 << 10, b"head"),
        ("header[1].checksum", 128 << 10, 4 << 10, b"head"),
        ("region_table[0].checksum", 192 << 10, 64 << 10, b"regi"),
        ("region_table[1].checksum", 256 << 10, 64 << 10, b"regi"),
    ];
    let there = ALL
        .into_iter()
        .filter(|(_, at, _, signature)| source.read_vec(*at, 4) == *signature);
    there
        .map(|(path, at, len, _)| Checksum {
            path,
            at,
            len,
            sum: crc32c::crc32c,
        })
        .collect()
}
