//! The hash functions that headers name.

use pbkdf2::pbkdf2_hmac;
use ripemd::Ripemd160;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hash {
    /// SHA-1.
    Sha1,
    /// SHA-2 of 224 bits.
    Sha224,
    /// SHA-2 of 256 bits.
    Sha256,
    /// SHA-2 of 384 bits.
    Sha384,
    /// SHA-2 of 512 bits.
    Sha512,
    /// RIPEMD of 160 bits.
    Ripemd160,
}

/// An expression for the type of each hash function.
macro_rules! with {
    ($hash:expr, $type:ident => $body:expr) => {
        match $hash {
            Hash::Sha1 => {
                type $type = Sha1;
                $body
            }
            Hash::Sha224 => {
                type $type = Sha224;
                $body
            }
            Hash::Sha256 => {
                type $type = Sha256;
                $body
            }
            Hash::Sha384 => {
                type $type = Sha384;
                $body
            }
            Hash::Sha512 => {
                type $type = Sha512;
                $body
            }
            Hash::Ripemd160 => {
                type $type = Ripemd160;
                $body
            }
        }
    };
}

impl Hash {
    /// All that are known here.
    pub const ALL: [Self; 6] = [
        Self::Sha1,
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Ripemd160,
    ];

    /// Its name in headers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Ripemd160 => "ripemd160",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|hash| hash.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// The hash of the parts, concatenated.
    pub(super) fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        with!(self, Function => {
            let mut hash = Function::new();
            for part in parts {
                hash.update(part);
            }
            hash.finalize().to_vec()
        })
    }

    /// `len` bytes derived from a passphrase or key by PBKDF2.
    pub(super) fn pbkdf2(self, secret: &[u8], salt: &[u8], rounds: u32, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        with!(self, Function => pbkdf2_hmac::<Function>(secret, salt, rounds, &mut out));
        out
    }
}
