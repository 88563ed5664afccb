//! The LUKS 1 partition header, of a LUKS volume or inside a qcow2 image.

mod volume;

pub use volume::{SECTOR, SectorCipher, Volume};

use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::Structure;
use crate::value::Endian;

/// Bytes in the partition header.
pub(crate) const HEADER_LENGTH: u64 = 592;
/// Where the key slots start.
pub(crate) const SLOTS_AT: u64 = 208;
/// Key slots in a header.
pub(crate) const SLOTS: u64 = 8;
/// Bytes in a key slot.
pub(crate) const SLOT_LENGTH: u64 = 48;
/// `"LUKS\xba\xbe"`.
pub(crate) const MAGIC: &[u8; 6] = b"LUKS\xba\xbe";

// LUKS, version 1, in the table of formats.
crate::tables::driver!("luks", |ends| ends.head(0, MAGIC) && ends.head(6, &[0, 1]));

fn structure(_: &Store) -> Structure {
    let header = Structure::new(Endian::Big)
        .record("header", 0, ROWS)
        .signature("header.magic", &MAGIC[..])
        .signature("header.version", 1);
    (0..SLOTS).fold(header, |found, index| {
        let at = SLOTS_AT + index * SLOT_LENGTH;
        found.record(&format!("key_slot[{index}]"), at, SLOT_ROWS)
    })
}

/// The fields before the key slots.
pub(crate) const ROWS: &[Row] = rows![
    "magic", 0, 6, Bytes, "must be LUKS, 0xba, 0xbe";
    "version", 6, 2, Version, "must be 1";
    "cipher_name", 8, 32, Text, "ends in a zero byte";
    "cipher_mode", 40, 32, Text, "ends in a zero byte";
    "hash_spec", 72, 32, Text, "ends in a zero byte";
    "payload_offset", 104, 4, Count, "in sectors of 512 bytes";
    "key_bytes", 108, 4, Length, "as the cipher demands";
    "mk_digest", 112, 20, Bytes, "";
    "mk_digest_salt", 132, 32, Bytes, "";
    "mk_digest_iterations", 164, 4, Count, "not 0";
    "uuid", 168, 40, Text, "ends in a zero byte";
];

/// The fields of a key slot.
pub(crate) const SLOT_ROWS: &[Row] = rows![
    "active", 0, 4, Choice, "0x00ac71f3 in use, 0x0000dead not";
    "iterations", 4, 4, Count, "not 0 when in use";
    "salt", 8, 32, Bytes, "";
    "key_material_offset", 40, 4, Count, "in sectors of 512 bytes, within the header area";
    "stripes", 44, 4, Count, "must be 4000";
];
