//! A LUKS 1 volume: its header with one key slot in use, and the
//! cipher of its payload. LUKS On-Disk Format Specification, version 1.2.3.

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{HEADER_LENGTH, MAGIC, SLOT_LENGTH, SLOTS, SLOTS_AT};
use crate::pattern::Pattern;

/// Bytes in a sector, the unit that is encrypted.
pub const SECTOR: u64 = 512;
/// Bytes in the key of AES-128.
const KEY_BYTES: usize = 16;
/// Bytes in a block of AES.
const BLOCK: usize = 16;
/// Stripes that a key is spread over, section 2.4.
const STRIPES: usize = 4000;
/// The sector where the material of the first key slot starts: 4 KiB.
const FIRST_MATERIAL: u32 = 8;
/// Sectors from the material of one key slot to that of the next, a multiple of 4 KiB.
const MATERIAL: u32 = ((KEY_BYTES * STRIPES) as u32).div_ceil(4096) * 8;
/// The sector where the payload starts.
const PAYLOAD: u32 = FIRST_MATERIAL + SLOTS as u32 * MATERIAL;
/// The state of a key slot in use.
const ENABLED: u32 = 0x00ac_71f3;
/// The state of a key slot not in use.
const DISABLED: u32 = 0x0000_dead;

/// A volume of `aes-cbc-plain64` with a key of 128 bits, hashed with SHA-256. Of the
/// ciphers that QEMU supports it has the shortest header: 516 KiB.
///
/// Key and salts are derived from the seed: it is for tests and protects nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The passphrase of the first key slot.
    pub passphrase: String,
    /// Rounds of PBKDF2 for the passphrase and for the digest of the key, at least 1.
    /// Real volumes use about a second's worth; 1 opens at once.
    pub iterations: u32,
    /// The seed of key, salts and stripes.
    pub seed: u64,
}

impl Volume {
    /// The bytes from the start of the volume to its payload.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        let mut bytes = vec![0; PAYLOAD as usize * SECTOR as usize];
        let key = self.key();
        let digest_salt: [u8; 32] = self.noise(1);
        let mut digest = [0; 20];
        pbkdf2::pbkdf2_hmac::<Sha256>(&key, &digest_salt, self.rounds(), &mut digest);
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 6, &1_u16.to_be_bytes());
        put(&mut bytes, 8, b"aes");
        put(&mut bytes, 40, b"cbc-plain64");
        put(&mut bytes, 72, b"sha256");
        put(&mut bytes, 104, &PAYLOAD.to_be_bytes());
        put(&mut bytes, 108, &(KEY_BYTES as u32).to_be_bytes());
        put(&mut bytes, 112, &digest);
        put(&mut bytes, 132, &digest_salt);
        put(&mut bytes, 164, &self.rounds().to_be_bytes());
        put(&mut bytes, 168, self.uuid().as_bytes());
        debug_assert_eq!(SLOTS_AT + SLOTS * SLOT_LENGTH, HEADER_LENGTH);
        for slot in 0..SLOTS as u32 {
            let at = (SLOTS_AT + u64::from(slot) * SLOT_LENGTH) as usize;
            let material = FIRST_MATERIAL + slot * MATERIAL;
            let (mark, rounds) = if slot == 0 {
                (ENABLED, self.rounds())
            } else {
                (DISABLED, 0)
            };
            put(&mut bytes, at, &mark.to_be_bytes());
            put(&mut bytes, at + 4, &rounds.to_be_bytes());
            put(&mut bytes, at + 40, &material.to_be_bytes());
            put(&mut bytes, at + 44, &(STRIPES as u32).to_be_bytes());
        }
        let salt: [u8; 32] = self.noise(2);
        put(&mut bytes, SLOTS_AT as usize + 8, &salt);
        let material = self.key_material(&key, &salt);
        put(&mut bytes, (FIRST_MATERIAL as usize) << 9, &material);
        bytes
    }

    /// What encrypts and decrypts the payload. Inside a qcow2 image its sectors are
    /// counted from the start of the file that holds the data.
    #[must_use]
    pub fn cipher(&self) -> SectorCipher {
        SectorCipher::new(self.key())
    }

    /// The key, spread over stripes and encrypted with the passphrase.
    fn key_material(&self, key: &[u8; KEY_BYTES], salt: &[u8]) -> Vec<u8> {
        let mut from_passphrase = [0; KEY_BYTES];
        pbkdf2::pbkdf2_hmac::<Sha256>(
            self.passphrase.as_bytes(),
            salt,
            self.rounds(),
            &mut from_passphrase,
        );
        let mut material = spread(key, self.seed ^ 3);
        SectorCipher::new(from_passphrase).encrypt(0, &mut material);
        material
    }

    fn key(&self) -> [u8; KEY_BYTES] {
        self.noise(0)
    }

    fn rounds(&self) -> u32 {
        self.iterations.max(1)
    }

    fn noise<const N: usize>(&self, which: u64) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&Pattern::Noise(self.seed.wrapping_add(which)).bytes(N));
        bytes
    }

    fn uuid(&self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", self.seed & 0xffff_ffff)
    }
}

/// The anti-forensic splitter, section 2.4: `key` can be put together from all
/// stripes alone, each of which but the last is noise.
fn spread(key: &[u8; KEY_BYTES], seed: u64) -> Vec<u8> {
    let mut stripes = Pattern::Noise(seed).bytes(KEY_BYTES * STRIPES);
    let last = KEY_BYTES * (STRIPES - 1);
    let mut state = [0; KEY_BYTES];
    for stripe in stripes[..last].chunks_exact(KEY_BYTES) {
        mix(&mut state, stripe);
        // A key no longer than a hash is one block, number 0.
        let hash = Sha256::new()
            .chain_update([0; 4])
            .chain_update(state)
            .finalize();
        state.copy_from_slice(&hash[..KEY_BYTES]);
    }
    mix(&mut state, key);
    stripes[last..].copy_from_slice(&state);
    stripes
}

/// AES-128 in CBC mode for each sector, with its number as the initial vector
/// (`cbc-plain64`).
#[derive(Clone)]
pub struct SectorCipher {
    aes: Aes128,
}

impl SectorCipher {
    /// With this key.
    pub(crate) fn new(key: [u8; KEY_BYTES]) -> Self {
        Self {
            aes: Aes128::new(&key.into()),
        }
    }

    /// Encrypts sectors in place, the first one at byte `at`, a multiple of
    /// [`SECTOR`].
    pub fn encrypt(&self, at: u64, data: &mut [u8]) {
        for (number, sector) in (at / SECTOR..).zip(data.chunks_mut(SECTOR as usize)) {
            let mut chain = initial_vector(number);
            for block in sector.as_chunks_mut::<BLOCK>().0 {
                mix(&mut chain, block);
                let mut state = chain.into();
                self.aes.encrypt_block(&mut state);
                chain = state.into();
                *block = chain;
            }
        }
    }

    /// Decrypts sectors in place, the inverse of [`SectorCipher::encrypt`].
    pub fn decrypt(&self, at: u64, data: &mut [u8]) {
        for (number, sector) in (at / SECTOR..).zip(data.chunks_mut(SECTOR as usize)) {
            let mut chain = initial_vector(number);
            for block in sector.as_chunks_mut::<BLOCK>().0 {
                let stored = *block;
                let mut state = stored.into();
                self.aes.decrypt_block(&mut state);
                *block = state.into();
                mix(block, &chain);
                chain = stored;
            }
        }
    }
}

/// The number of a sector, least significant byte first.
fn initial_vector(sector: u64) -> [u8; BLOCK] {
    u128::from(sector).to_le_bytes()
}

/// Exclusive or of `other` into `bytes`.
fn mix(bytes: &mut [u8; BLOCK], other: &[u8]) {
    for (byte, other) in bytes.iter_mut().zip(other) {
        *byte ^= other;
    }
}

/// Writes `part` at `at` bytes into the header, which is long enough.
fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    bytes[at..at + part.len()].copy_from_slice(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_are_encrypted_as_published() {
        // NIST SP 800-38A, F.2.1: CBC-AES128, its initial vector mixed into the
        // first block, since sector 0 has none.
        let key = 0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128.to_be_bytes();
        let vector = 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f_u128;
        let plain = [
            (0x6bc1_bee2_2e40_9f96_e93d_7e11_7393_172a_u128 ^ vector).to_be_bytes(),
            0xae2d_8a57_1e03_ac9c_9eb7_6fac_45af_8e51_u128.to_be_bytes(),
        ]
        .concat();
        let expected = [
            0x7649_abac_8119_b246_cee9_8e9b_12e9_197d_u128.to_be_bytes(),
            0x5086_cb9b_5072_19ee_95db_113a_9176_78b2_u128.to_be_bytes(),
        ]
        .concat();
        let cipher = SectorCipher::new(key);
        let mut data = plain.clone();
        cipher.encrypt(0, &mut data);
        assert_eq!(data, expected);
        cipher.decrypt(0, &mut data);
        assert_eq!(data, plain);
    }

    #[test]
    fn sectors_differ_by_their_number() {
        let volume = Volume {
            passphrase: "x".into(),
            iterations: 1,
            seed: 1,
        };
        let cipher = volume.cipher();
        let plain = vec![7; 1024];
        let mut data = plain.clone();
        cipher.encrypt(4096, &mut data);
        assert_ne!(data[..512], data[512..]);
        let mut second = vec![7; 512];
        cipher.encrypt(4096 + 512, &mut second);
        assert_eq!(data[512..], second);
        cipher.decrypt(4096, &mut data);
        assert_eq!(data, plain);
    }
}
