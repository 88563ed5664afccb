//! The trailer of Apple disk images.

use crate::io::ReadAt as _;
use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::Structure;
use crate::value::Endian::Big;

const HEADER: &[Row] = rows![
    "signature", 0, 4, Bytes, "must be koly";
    "version", 4, 4, Version, "must be 4";
    "header_size", 8, 4, Length, "must be 512";
    "flags", 12, 4, Flags, "";
    "running_data_fork_offset", 16, 8, Offset, "";
    "data_fork_offset", 24, 8, Offset, "within the file";
    "data_fork_length", 32, 8, Length, "within the file";
    "rsrc_fork_offset", 40, 8, Offset, "within the file";
    "rsrc_fork_length", 48, 8, Length, "within the file";
    "segment_number", 56, 4, Number, "";
    "segment_count", 60, 4, Count, "";
    "segment_id", 64, 16, Bytes, "";
    "data_checksum_type", 80, 4, Choice, "";
    "data_checksum_bits", 84, 4, Length, "";
    "data_checksum", 88, 128, Bytes, "";
    "xml_offset", 216, 8, Offset, "within the file";
    "xml_length", 224, 8, Length, "within the file, up to 16 MiB";
    "sector_count", 492, 8, Size, "";
];

// DMG in the table of formats.
crate::tables::driver!("dmg", |ends| ends.tail(b"koly"));

fn structure(source: &Store) -> Structure {
    let at = source.len().saturating_sub(512);
    Structure::new(Big)
        .record("trailer", at, HEADER)
        .signature("trailer.signature", &b"koly"[..])
        .signature("trailer.version", 4)
}
