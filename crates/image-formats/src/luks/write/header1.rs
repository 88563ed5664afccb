//! The header of version 1.

use super::keys::{put, uuid};
use super::{Built, Keys, Spec};
use crate::luks::cipher::SECTOR;
use crate::luks::layout::MAGIC;
use crate::luks::split::STRIPES;
use crate::luks::v1::{DISABLED, ENABLED, SLOT_LENGTH, SLOTS, SLOTS_AT};

/// The unit of key material in bytes.
const UNIT: u64 = 4096;

/// The header that `spec` describes, with its key material.
pub(in crate::luks) fn header(spec: &Spec, keys: &Keys) -> Built {
    let stripes = u64::from(spec.key_bytes) * STRIPES as u64;
    let units = stripes.div_ceil(UNIT);
    let (firsts, end) = spec.placement.arrange(&[units; SLOTS as usize], 1);
    let payload_at = (end * UNIT).next_multiple_of(spec.payload_alignment.max(1).into());
    let payload = match spec.detached {
        true => 0,
        false => (payload_at / SECTOR) as u32,
    };
    let len = if spec.detached {
        end * UNIT
    } else {
        payload_at
    };
    let mut bytes = vec![0; len as usize];
    let (salt, digest) = keys.digest(spec.digest_iterations, 20);
    put(&mut bytes, 0, MAGIC);
    put(&mut bytes, 6, &1_u16.to_be_bytes());
    put(&mut bytes, 8, spec.cipher.as_bytes());
    put(&mut bytes, 40, spec.mode.as_bytes());
    put(&mut bytes, 72, spec.hash.name().as_bytes());
    put(&mut bytes, 104, &payload.to_be_bytes());
    put(&mut bytes, 108, &spec.key_bytes.to_be_bytes());
    put(&mut bytes, 112, &digest);
    put(&mut bytes, 132, &salt);
    let iterations = spec.digest_iterations.max(1);
    put(&mut bytes, 164, &iterations.to_be_bytes());
    put(&mut bytes, 168, uuid(spec.seed).as_bytes());
    for (slot, first) in (0..SLOTS).zip(firsts) {
        let at = SLOTS_AT + slot * SLOT_LENGTH;
        let material_at = first * UNIT;
        let mut all = spec.slots.iter();
        let used = all.find(|used| u64::from(used.index) == slot);
        let (state, iterations) = match used {
            Some(used) => (ENABLED, used.iterations.max(1)),
            None => (DISABLED, 0),
        };
        put(&mut bytes, at, &state.to_be_bytes());
        put(&mut bytes, at + 4, &iterations.to_be_bytes());
        let sector = (material_at / SECTOR) as u32;
        put(&mut bytes, at + 40, &sector.to_be_bytes());
        put(&mut bytes, at + 44, &(STRIPES as u32).to_be_bytes());
        if let Some(used) = used {
            let (salt, material) = keys.material(used);
            put(&mut bytes, at + 8, &salt);
            put(&mut bytes, material_at, &material);
        }
    }
    Built { bytes, payload_at }
}
