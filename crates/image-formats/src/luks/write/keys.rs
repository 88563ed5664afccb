//! The key of a volume that is built, and what is stored of it.

use argon2::{Algorithm, Argon2, Params, Version};

use super::{Kdf, Slot, Spec};
use crate::luks::cipher::{Scheme, SectorCipher};
use crate::luks::hash::Hash;
use crate::luks::split::{self, STRIPES};
use crate::pattern::Pattern;
use crate::spec_error::SpecError;

/// The key of a volume.
pub(in crate::luks) struct Keys {
    scheme: Scheme,
    hash: Hash,
    seed: u64,
    key: Vec<u8>,
}

impl Keys {
    /// That of the volume that `spec` describes, of the cipher `scheme`.
    pub(in crate::luks) fn new(spec: &Spec, scheme: Scheme) -> Self {
        Self {
            scheme,
            hash: spec.hash,
            seed: spec.seed,
            key: Pattern::Noise(spec.seed).bytes(spec.key_bytes as usize),
        }
    }

    /// Its first 16 bytes, padded with zeros.
    pub(in crate::luks) fn first_16(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes
            .iter_mut()
            .zip(&self.key)
            .for_each(|(to, from)| *to = *from);
        bytes
    }

    /// What encrypts the payload.
    pub(super) fn payload_cipher(&self) -> Result<SectorCipher, SpecError> {
        let fits = || SpecError("the key does not fit the cipher".to_owned());
        self.scheme.keyed(&self.key).ok_or_else(fits)
    }

    /// Salt and digest of the key, of `len` bytes.
    pub(super) fn digest(&self, iterations: u32, len: usize) -> (Vec<u8>, Vec<u8>) {
        let salt = Pattern::Noise(self.seed.wrapping_add(1)).bytes(32);
        let digest = self.hash.pbkdf2(&self.key, &salt, iterations.max(1), len);
        (salt, digest)
    }

    /// Salt and key material of a slot.
    pub(super) fn material(&self, slot: &Slot) -> (Vec<u8>, Vec<u8>) {
        let seed = self.seed.wrapping_add(u64::from(slot.index) << 32);
        let salt = Pattern::Noise(seed.wrapping_add(2)).bytes(32);
        let noise = Pattern::Noise(seed ^ 3).bytes(self.key.len() * STRIPES);
        let mut material = split::split(&self.key, self.hash, noise);
        let from_passphrase = self.derive(slot, &salt);
        if let Some(cipher) = self.scheme.keyed(&from_passphrase) {
            cipher.encrypt(0, &mut material);
        }
        (salt, material)
    }

    /// The key of a slot.
    fn derive(&self, slot: &Slot, salt: &[u8]) -> Vec<u8> {
        let (secret, len) = (slot.passphrase.as_bytes(), self.key.len());
        let (algorithm, memory_kib, threads) = match slot.kdf {
            Kdf::Pbkdf2 => {
                return self.hash.pbkdf2(secret, salt, slot.iterations.max(1), len);
            }
            Kdf::Argon2i {
                memory_kib,
                threads,
            } => (Algorithm::Argon2i, memory_kib, threads),
            Kdf::Argon2id {
                memory_kib,
                threads,
            } => (Algorithm::Argon2id, memory_kib, threads),
        };
        let mut key = vec![0; len];
        // The description was validated: its numbers are within the ranges of Argon2.
        if let Ok(params) = Params::new(memory_kib, slot.iterations, threads, Some(len)) {
            let argon2 = Argon2::new(algorithm, Version::V0x13, params);
            let _ = argon2.hash_password_into(secret, salt, &mut key);
        }
        key
    }
}

/// A UUID of version 4 by its form.
pub(super) fn uuid(seed: u64) -> String {
    format!("00000000-0000-4000-8000-{:012x}", seed & 0xffff_ffff)
}

/// Writes `part` at `at` bytes into `bytes`, which are long enough.
pub(super) fn put(bytes: &mut [u8], at: u64, part: &[u8]) {
    let at = at as usize;
    bytes[at..at + part.len()].copy_from_slice(part);
}
