//! The headers and region tables of VHDX.

use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::{Structure, number};
use crate::value::Endian::Little;

const IDENTIFIER: &[Row] = rows![
    "signature", 0, 8, Bytes, "must be vhdxfile";
    "creator", 8, 512, Bytes, "UTF-16";
];

const HEADER: &[Row] = rows![
    "signature", 0, 4, Bytes, "must be head";
    "checksum", 4, 4, Checksum, "CRC-32C of 4 KiB with this field 0";
    "sequence_number", 8, 8, Number, "the larger one is current";
    "file_write_guid", 16, 16, Bytes, "";
    "data_write_guid", 32, 16, Bytes, "";
    "log_guid", 48, 16, Bytes, "all zeros without a log to replay";
    "log_version", 64, 2, Version, "must be 0";
    "version", 66, 2, Version, "must be 1";
    "log_length", 68, 4, Length, "a multiple of 1 MiB";
    "log_offset", 72, 8, Offset, "a multiple of 1 MiB";
];

const REGION_TABLE: &[Row] = rows![
    "signature", 0, 4, Bytes, "must be regi";
    "checksum", 4, 4, Checksum, "CRC-32C of 64 KiB with this field 0";
    "entry_count", 8, 4, Count, "at most 2047";
    "reserved", 12, 4, Reserved, "must be 0";
];

const REGION: &[Row] = rows![
    "guid", 0, 16, Bytes, "BAT or metadata";
    "file_offset", 16, 8, Offset, "a multiple of 1 MiB";
    "length", 24, 4, Length, "a multiple of 1 MiB";
    "required", 28, 4, Flags, "bit 0 only";
];

// VHDX in the table of formats.
crate::tables::driver!("vhdx", |ends| ends.head(0, b"vhdxfile"));

fn structure(source: &Store) -> Structure {
    const REGIONS: [(&str, u64); 2] = [
        ("region_table[0]", 192 << 10),
        ("region_table[1]", 256 << 10),
    ];
    const CHECKSUMS: [(&str, u64, usize, &[u8; 4]); 4] = [
        ("header[0].checksum", 64 << 10, 4 << 10, b"head"),
        ("header[1].checksum", 128 << 10, 4 << 10, b"head"),
        ("region_table[0].checksum", 192 << 10, 64 << 10, b"regi"),
        ("region_table[1].checksum", 256 << 10, 64 << 10, b"regi"),
    ];
    let mut structure = Structure::new(Little)
        .record("identifier", 0, IDENTIFIER)
        .record("header[0]", 64 << 10, HEADER)
        .record("header[1]", 128 << 10, HEADER)
        .signature("identifier.signature", &b"vhdxfile"[..])
        .signature("region_table[0].signature", &b"regi"[..]);
    for (name, at) in REGIONS {
        structure = structure.record(name, at, REGION_TABLE);
        let entries = number(source, at + 8, 4, Little).min(64);
        for index in 0..entries {
            let entry = format!("{name}.entry[{index}]");
            structure = structure.record(&entry, at + 16 + index * 32, REGION);
        }
    }
    for (path, at, len, signature) in CHECKSUMS {
        // Headers and region tables without their signature are left out.
        if source.read_vec(at, 4) == signature {
            structure =
                structure.checksum(path, crate::tables::CHECKSUM, (at, len), crc32c::crc32c);
        }
    }
    structure
}
