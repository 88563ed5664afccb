//! The headers of version 2.

use std::fmt::Write as _;

use data_encoding::BASE64;

use super::keys::{put, uuid};
use super::{Built, Kdf, Keys, Slot, Spec};
use crate::luks::layout::MAGIC;
use crate::luks::split::STRIPES;
use crate::luks::v2::{BINARY, CHECKSUM_AT, SECOND_MAGIC, checksum};
use crate::pattern::Pattern;
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;

/// The unit of areas in bytes.
const UNIT: u64 = 4096;

/// Both headers that `spec` describes, with the areas of the keyslots.
///
/// # Errors
///
/// There are more keyslots than the JSON area has room for.
pub(super) fn header(spec: &Spec, keys: &Keys) -> Result<Built, SpecError> {
    let size = spec.header_size;
    let stripes = u64::from(spec.key_bytes) * STRIPES as u64;
    let units = stripes.div_ceil(UNIT);
    let mut slots: Vec<&Slot> = spec.slots.iter().collect();
    slots.sort_by_key(|slot| slot.index);
    let lengths = vec![units; slots.len()];
    let (firsts, end) = spec.placement.arrange(&lengths, size * 2 / UNIT);
    let areas_end = end * UNIT;
    let payload_at = areas_end.next_multiple_of(spec.payload_alignment.max(1).into());
    let len = if spec.detached { areas_end } else { payload_at };
    let mut bytes = vec![0; len as usize];
    let mut keyslots = Vec::new();
    for (slot, first) in slots.iter().zip(firsts) {
        let (salt, material) = keys.material(slot);
        put(&mut bytes, first * UNIT, &material);
        keyslots.push(keyslot(spec, slot, (first * UNIT, units * UNIT), &salt));
    }
    let payload = if spec.detached { 0 } else { payload_at };
    let json = json(spec, keys, (&slots, &keyslots), (payload, areas_end));
    let room = size - BINARY;
    ensure!(
        (json.len() as u64) < room,
        "{} bytes of JSON in an area of {room}: a larger header size",
        json.len()
    );
    put(&mut bytes, BINARY, json.as_bytes());
    put(&mut bytes, size + BINARY, json.as_bytes());
    binary(spec, 0, &mut bytes);
    binary(spec, size, &mut bytes);
    let mut store = Store::new();
    store.write(0, &bytes);
    for at in [0, size] {
        let sum = checksum(&store, at).unwrap_or_default();
        put(&mut bytes, at + CHECKSUM_AT, &sum);
    }
    Ok(Built { bytes, payload_at })
}

/// A binary header without its checksum.
fn binary(spec: &Spec, at: u64, bytes: &mut [u8]) {
    let magic = if at == 0 { MAGIC } else { SECOND_MAGIC };
    let salt = Pattern::Noise(spec.seed.wrapping_add(100 + at)).bytes(64);
    put(bytes, at, magic);
    put(bytes, at + 6, &2_u16.to_be_bytes());
    put(bytes, at + 8, &spec.header_size.to_be_bytes());
    put(bytes, at + 16, &spec.sequence.to_be_bytes());
    put(bytes, at + 24, spec.label.as_bytes());
    put(bytes, at + 72, b"sha256");
    put(bytes, at + 104, &salt);
    put(bytes, at + 168, uuid(spec.seed).as_bytes());
    put(bytes, at + 208, spec.subsystem.as_bytes());
    put(bytes, at + 256, &at.to_be_bytes());
}

fn keyslot(spec: &Spec, slot: &Slot, (offset, size): (u64, u64), salt: &[u8]) -> String {
    let (key, hash) = (spec.key_bytes, spec.hash.name());
    let encryption = encryption(spec);
    let salt = BASE64.encode(salt);
    let cost = slot.iterations;
    let kdf = match slot.kdf {
        Kdf::Pbkdf2 => format!(r#""type":"pbkdf2","hash":"{hash}","iterations":{cost}"#),
        Kdf::Argon2i {
            memory_kib,
            threads,
        } => format!(r#""type":"argon2i","time":{cost},"memory":{memory_kib},"cpus":{threads}"#),
        Kdf::Argon2id {
            memory_kib,
            threads,
        } => format!(r#""type":"argon2id","time":{cost},"memory":{memory_kib},"cpus":{threads}"#),
    };
    format!(
        r#""{index}":{{"type":"luks2","key_size":{key},"af":{{"type":"luks1","stripes":{STRIPES},"hash":"{hash}"}},"area":{{"type":"raw","offset":"{offset}","size":"{size}","encryption":"{encryption}","key_size":{key}}},"kdf":{{{kdf},"salt":"{salt}"}}}}"#,
        index = slot.index,
    )
}

fn encryption(spec: &Spec) -> String {
    format!("{}-{}", spec.cipher, spec.mode)
}

/// The whole JSON area.
fn json(
    spec: &Spec,
    keys: &Keys,
    (slots, keyslots): (&[&Slot], &[String]),
    (payload, areas_end): (u64, u64),
) -> String {
    let (salt, digest) = keys.digest(spec.digest_iterations, 32);
    let (salt, digest) = (BASE64.encode(&salt), BASE64.encode(&digest));
    let names = slots.iter().map(|slot| format!(r#""{}""#, slot.index));
    let names = names.collect::<Vec<_>>().join(",");
    // The payload ends with the file, where it does not have one of its own.
    let mut text = format!(r#"{{"keyslots":{{{}}},"tokens":{{}}"#, keyslots.join(","));
    let _ = write!(
        text,
        r#","segments":{{"0":{{"type":"crypt","offset":"{payload}","size":"dynamic","iv_tweak":"0","encryption":"{}","sector_size":{}}}}}"#,
        encryption(spec),
        spec.sector_size,
    );
    let _ = write!(
        text,
        r#","digests":{{"0":{{"type":"pbkdf2","keyslots":[{names}],"segments":["0"],"hash":"{}","iterations":{},"salt":"{salt}","digest":"{digest}"}}}}"#,
        spec.hash.name(),
        spec.digest_iterations,
    );
    let headers = spec.header_size * 2;
    let _ = write!(
        text,
        r#","config":{{"json_size":"{}","keyslots_size":"{}"}}}}"#,
        spec.header_size - BINARY,
        areas_end - headers,
    );
    text
}
