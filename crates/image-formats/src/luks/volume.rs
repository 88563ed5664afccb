//! A volume of version 1 with one key slot in use: its header, and the cipher of its payload.

use serde::{Deserialize, Serialize};

use super::cipher::{Scheme, SectorCipher};
use super::write::{Kdf, Keys, Slot, Spec, header_1};

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
        let spec = self.spec();
        header_1(&spec, &Keys::new(&spec, Scheme::SHORTEST)).bytes
    }

    /// What encrypts and decrypts the payload. Inside a qcow2 image its sectors are
    /// counted from the start of the file that holds the data.
    #[must_use]
    pub fn cipher(&self) -> SectorCipher {
        Scheme::shortest(Keys::new(&self.spec(), Scheme::SHORTEST).first_16())
    }

    fn spec(&self) -> Spec {
        Spec {
            digest_iterations: self.iterations.max(1),
            slots: vec![Slot {
                index: 0,
                passphrase: self.passphrase.clone(),
                iterations: self.iterations.max(1),
                kdf: Kdf::Pbkdf2,
            }],
            seed: self.seed,
            ..Spec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::luks::unlock;
    use crate::store::Store;

    #[test]
    fn the_header_opens_with_its_passphrase_to_its_cipher() {
        let volume = Volume {
            passphrase: "x".into(),
            iterations: 2,
            seed: 1,
        };
        let mut store = Store::new();
        store.write(1024, &volume.header());
        let cipher = unlock(&store, 1024, b"x").unwrap();
        let plain = vec![7; 1024];
        let mut data = plain.clone();
        volume.cipher().encrypt(4096, &mut data);
        assert_ne!(data[..512], data[512..]);
        cipher.decrypt(4096, &mut data);
        assert_eq!(data, plain);
        let wrong = unlock(&store, 1024, b"y").err();
        assert_eq!(wrong, Some(crate::DiskError::Locked));
    }
}
