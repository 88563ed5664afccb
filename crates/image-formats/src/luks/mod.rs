//! The LUKS 1 partition header, of a LUKS volume or inside a qcow2 image.

mod volume;

pub use volume::{SECTOR, SectorCipher, Volume};

use crate::field::Kind;
use crate::fixed::{FixedImage, Structure, record};
use crate::model::Driver;
use crate::row::{Row, row};
use crate::store::Store;
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

/// LUKS, version 1, in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "luks",
    probe: |ends| ends.head(0, MAGIC) && ends.head(6, &[0, 1]),
    open: |store| FixedImage::open(store, structure),
};

fn structure(_: &Store) -> Structure {
    let slot = |index| {
        let at = SLOTS_AT + index * SLOT_LENGTH;
        record(&format!("key_slot[{index}]"), at, SLOT_ROWS, Endian::Big)
    };
    let header = record("header", 0, ROWS, Endian::Big);
    Structure {
        records: std::iter::once(header)
            .chain((0..SLOTS).map(slot))
            .collect(),
        signatures: vec![
            ("header.magic", MAGIC[..].into()),
            ("header.version", 1.into()),
        ],
        ..Structure::default()
    }
}

/// The fields before the key slots.
pub(crate) const ROWS: &[Row] = &[
    row("magic", 0, 6, Kind::Bytes, "must be LUKS, 0xba, 0xbe"),
    row("version", 6, 2, Kind::Version, "must be 1"),
    row("cipher_name", 8, 32, Kind::Text, "ends in a zero byte"),
    row("cipher_mode", 40, 32, Kind::Text, "ends in a zero byte"),
    row("hash_spec", 72, 32, Kind::Text, "ends in a zero byte"),
    row(
        "payload_offset",
        104,
        4,
        Kind::Count,
        "in sectors of 512 bytes",
    ),
    row("key_bytes", 108, 4, Kind::Length, "as the cipher demands"),
    row("mk_digest", 112, 20, Kind::Bytes, ""),
    row("mk_digest_salt", 132, 32, Kind::Bytes, ""),
    row("mk_digest_iterations", 164, 4, Kind::Count, "not 0"),
    row("uuid", 168, 40, Kind::Text, "ends in a zero byte"),
];

/// The fields of a key slot.
pub(crate) const SLOT_ROWS: &[Row] = &[
    row(
        "active",
        0,
        4,
        Kind::Choice,
        "0x00ac71f3 in use, 0x0000dead not",
    ),
    row("iterations", 4, 4, Kind::Count, "not 0 when in use"),
    row("salt", 8, 32, Kind::Bytes, ""),
    row(
        "key_material_offset",
        40,
        4,
        Kind::Count,
        "in sectors of 512 bytes, within the header area",
    ),
    row("stripes", 44, 4, Kind::Count, "must be 4000"),
];
