//! Checking the rules of version 1.

use super::layout::{DISABLED, HEADER_LENGTH, Header, Slot};
use crate::checker::Checker;
use crate::io::ReadAt as _;
use crate::luks::cipher::{SECTOR, Scheme};
use crate::luks::hash::Hash;
use crate::luks::layout;
use crate::luks::rules;
use crate::luks::split;
use crate::luks::text::{is_uuid, until_zero};
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Big;

/// Sectors of the header.
const HEADER_SECTORS: u64 = HEADER_LENGTH.div_ceil(SECTOR);

/// Checks the rules of a volume.
pub(in crate::luks) fn check(source: &Store, checker: &mut Checker) {
    let header = Header::read(source, 0);
    signature(source, checker);
    names(source, &header, checker);
    payload(source, &header, checker);
    for (index, slot) in header.slots.iter().enumerate() {
        check_slot(index, slot, checker);
        material(source, &header, (index, slot), checker);
    }
    let used = header.slots.iter().any(Slot::is_enabled);
    checker.require(used, ("key_slot[0].active", 208, rules::SOME_SLOT), || {
        "no key slot is in use: nothing opens the volume".to_owned()
    });
}

fn signature(source: &Store, checker: &mut Checker) {
    let magic = source.read_vec(0, 6);
    let right = magic == layout::MAGIC;
    checker.require(right, ("header.magic", 0, rules::MAGIC), || {
        format!("must be LUKS, 0xba, 0xbe, is {}", magic.escape_ascii())
    });
    let version = number(source, 6, 2, Big);
    checker.require(version == 1, ("header.version", 6, rules::VERSION), || {
        format!("must be 1 or 2, is {version}")
    });
}

fn names(source: &Store, header: &Header, checker: &mut Checker) {
    for (path, at, len, rule) in [
        ("header.cipher_name", 8, 32, rules::TEXT_ENDS),
        ("header.cipher_mode", 40, 32, rules::TEXT_ENDS),
        ("header.hash_spec", 72, 32, rules::TEXT_ENDS),
        ("header.uuid", 168, 40, rules::UUID),
    ] {
        let ends = source.read_vec(at, len).contains(&0);
        checker.require(ends, (path, at, rule), || {
            "must end in a zero byte".to_owned()
        });
    }
    let scheme = Scheme::parse(&header.cipher, &header.mode);
    let at = ("header.cipher_mode", 40, rules::CIPHER);
    checker.require(scheme.is_some(), at, || {
        let text = |name: &[u8]| name.escape_ascii().to_string();
        let (cipher, mode) = (text(&header.cipher), text(&header.mode));
        format!("the cipher '{cipher}-{mode}' is not a known one")
    });
    let bytes = header.key_bytes;
    let fits = match scheme {
        Some(scheme) => scheme.takes_key_of(bytes),
        None => (1..=512).contains(&bytes),
    };
    checker.require(fits, ("header.key_bytes", 108, rules::KEY_BYTES), || {
        format!("a key of {bytes} bytes does not fit the cipher")
    });
    let known = Hash::from_name(&header.hash).is_some();
    checker.require(known, ("header.hash_spec", 72, rules::HASH), || {
        let name = header.hash.escape_ascii();
        format!("the hash '{name}' is not a known one")
    });
    let uuid = until_zero(source.read_vec(168, 40));
    checker.require(is_uuid(&uuid), ("header.uuid", 168, rules::UUID), || {
        format!("'{}' is not a UUID", uuid.escape_ascii())
    });
    let iterations = header.digest_iterations;
    let at = ("header.mk_digest_iterations", 164, rules::DIGEST_ITERATIONS);
    checker.require(iterations > 0, at, || "must not be 0".to_owned());
}

fn payload(source: &Store, header: &Header, checker: &mut Checker) {
    let sector = header.payload;
    // Without an offset the payload is elsewhere.
    let behind = sector == 0 || sector >= HEADER_SECTORS;
    let at = ("header.payload_offset", 104, rules::PAYLOAD_BEHIND_HEADER);
    checker.require(behind, at, || {
        format!("the payload at sector {sector} is within the header")
    });
    let inside = sector * SECTOR <= source.len();
    let at = ("header.payload_offset", 104, rules::PAYLOAD_INSIDE);
    checker.require(inside, at, || {
        let len = source.len();
        format!("the payload at sector {sector} is past the end of the file of {len} bytes")
    });
}

fn check_slot(index: usize, slot: &Slot, checker: &mut Checker) {
    let path = |field: &str| format!("key_slot[{index}].{field}");
    let known = slot.is_enabled() || slot.state == u64::from(DISABLED);
    checker.require(known, (&path("active"), slot.at, rules::SLOT_STATE), || {
        format!("must be 0xac71f3 or 0xdead, is {:#x}", slot.state)
    });
    let works = slot.iterations > 0 || !slot.is_enabled();
    let at = slot.at + 4;
    checker.require(
        works,
        (&path("iterations"), at, rules::SLOT_ITERATIONS),
        || "must not be 0 in a slot in use".to_owned(),
    );
    let spread = slot.stripes == split::STRIPES as u64;
    let at = slot.at + 44;
    checker.require(spread, (&path("stripes"), at, rules::STRIPES), || {
        format!("must be 4000, is {}", slot.stripes)
    });
}

fn material(source: &Store, header: &Header, (index, slot): (usize, &Slot), checker: &mut Checker) {
    let path = format!("key_slot[{index}].key_material_offset");
    let at = slot.at + 40;
    let first = slot.material;
    let behind = first >= HEADER_SECTORS;
    checker.require(behind, (&path, at, rules::MATERIAL_BEHIND_HEADER), || {
        format!("the material at sector {first} is within the header")
    });
    let end = first + header.material_sectors(slot);
    let before = header.payload == 0 || end <= header.payload;
    checker.require(before, (&path, at, rules::MATERIAL_BEFORE_PAYLOAD), || {
        format!(
            "the material ends at sector {end}, the payload starts at {}",
            header.payload
        )
    });
    // The last sector may be cut short.
    let last_byte = first * SECTOR + header.key_bytes * slot.stripes;
    let inside = last_byte <= source.len() || !slot.is_enabled();
    checker.require(inside, (&path, at, rules::MATERIAL_INSIDE), || {
        format!("the material ends at byte {last_byte}, past the end of the file")
    });
    for (other, earlier) in header.slots[..index].iter().enumerate() {
        let apart =
            end <= earlier.material || earlier.material + header.material_sectors(earlier) <= first;
        checker.require(apart, (&path, at, rules::MATERIAL_ONCE), || {
            format!("the material overlaps that of key_slot[{other}]")
        });
    }
}
