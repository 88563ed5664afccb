//! The partition header, and where key material and payload are.

use crate::field::Kind;
use crate::io::ReadAt as _;
use crate::luks::cipher::SECTOR;
use crate::luks::layout::sections;
use crate::luks::text::until_zero;
use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::{Structure, number};
use crate::value::Endian::Big;

/// Bytes in the partition header.
pub(crate) const HEADER_LENGTH: u64 = 592;
/// Where the key slots start.
pub(crate) const SLOTS_AT: u64 = 208;
/// Key slots in a header.
pub(crate) const SLOTS: u64 = 8;
/// Bytes in a key slot.
pub(crate) const SLOT_LENGTH: u64 = 48;
/// The state of a key slot in use.
pub(in crate::luks) const ENABLED: u32 = 0x00ac_71f3;
/// The state of a key slot not in use.
pub(in crate::luks) const DISABLED: u32 = 0x0000_dead;

/// The fields before the key slots.
pub(crate) const ROWS: &[Row] = rows![
    "magic", 0, 6, Bytes, "must be LUKS, 0xba, 0xbe";
    "version", 6, 2, Version, "must be 1";
    "cipher_name", 8, 32, Text, "ends in a zero byte";
    "cipher_mode", 40, 32, Text, "ends in a zero byte";
    "hash_spec", 72, 32, Text, "ends in a zero byte";
    "payload_offset", 104, 4, Count, "in sectors of 512 bytes, behind all key material; 0 where the header is detached";
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
    "key_material_offset", 40, 4, Count, "in sectors of 512 bytes, between header and payload";
    "stripes", 44, 4, Count, "must be 4000";
];

/// A partition header.
#[derive(Clone, Debug)]
pub(in crate::luks) struct Header {
    /// Its byte offset in the file.
    pub(in crate::luks) at: u64,
    pub(in crate::luks) cipher: Vec<u8>,
    pub(in crate::luks) mode: Vec<u8>,
    pub(in crate::luks) hash: Vec<u8>,
    /// Where the payload starts, in sectors.
    pub(in crate::luks) payload: u64,
    pub(in crate::luks) key_bytes: u64,
    pub(in crate::luks) digest: Vec<u8>,
    pub(in crate::luks) digest_salt: Vec<u8>,
    pub(in crate::luks) digest_iterations: u64,
    pub(in crate::luks) slots: Vec<Slot>,
}

/// A key slot.
#[derive(Clone, Debug)]
pub(in crate::luks) struct Slot {
    /// Its byte offset in the file.
    pub(in crate::luks) at: u64,
    pub(in crate::luks) state: u64,
    pub(in crate::luks) iterations: u64,
    pub(in crate::luks) salt: Vec<u8>,
    /// Where its key material starts, in sectors from the header on.
    pub(in crate::luks) material: u64,
    pub(in crate::luks) stripes: u64,
}

impl Header {
    /// Reads the header at byte `at`.
    pub(in crate::luks) fn read(source: &Store, at: u64) -> Self {
        let from = |offset: u64| at.saturating_add(offset);
        let word = |offset: u64| number(source, from(offset), 4, Big);
        let text = |offset: u64| until_zero(source.read_vec(from(offset), 32));
        let slots = (0..SLOTS).map(|index| {
            let offset = SLOTS_AT + index * SLOT_LENGTH;
            Slot {
                at: from(offset),
                state: word(offset),
                iterations: word(offset + 4),
                salt: source.read_vec(from(offset + 8), 32),
                material: word(offset + 40),
                stripes: word(offset + 44),
            }
        });
        Self {
            at,
            cipher: text(8),
            mode: text(40),
            hash: text(72),
            payload: word(104),
            key_bytes: word(108),
            digest: source.read_vec(from(112), 20),
            digest_salt: source.read_vec(from(132), 32),
            digest_iterations: word(164),
            slots: slots.collect(),
        }
    }

    /// Sectors of key material that `slot` has.
    pub(in crate::luks) fn material_sectors(&self, slot: &Slot) -> u64 {
        (self.key_bytes * slot.stripes).div_ceil(SECTOR)
    }
}

impl Slot {
    /// Whether it is in use.
    pub(in crate::luks) fn is_enabled(&self) -> bool {
        self.state == u64::from(ENABLED)
    }
}

/// The structures of a volume.
pub(in crate::luks) fn structure(source: &Store) -> Structure {
    let header = Header::read(source, 0);
    let mut found = Structure::new(Big)
        .section(sections::PARTITION_HEADER)
        .record("header", 0, ROWS)
        .section(sections::KEY_SLOTS);
    for (index, slot) in header.slots.iter().enumerate() {
        found = found.record(&format!("key_slot[{index}]"), slot.at, SLOT_ROWS);
    }
    found = found.section(sections::SPLITTER);
    for (index, slot) in header.slots.iter().enumerate() {
        let at = slot.material * SECTOR;
        let len = header.key_bytes * slot.stripes;
        let len = len.min(source.len().saturating_sub(at));
        let len = if slot.is_enabled() { len } else { 0 };
        let name = format!("key_slot[{index}].material");
        found = found.run(
            &name,
            (at, len),
            Kind::Bytes,
            "encrypted stripes of the key",
        );
    }
    let payload = crate::luks::layout::payload_run(source, header.payload * SECTOR);
    found
        .section(sections::PAYLOAD)
        .run("payload", payload, Kind::Bytes, "encrypted data")
}
