//! What volumes can have or not.

use super::{Kdf, Spec};
use crate::block::Content;
use crate::built::Feature;
use crate::luks::hash::Hash;

/// Declares [`FEATURES`] and the features of a description from one row for each: name, what
/// it is, and whether a description has it.
macro_rules! features {
    ($($name:literal, $what:literal, $has:expr;)*) => {
        /// What volumes can have or not.
        pub const FEATURES: &[Feature] = &[$(Feature { name: $name, what: $what }),*];

        impl Spec {
            /// The features of [`FEATURES`] that the volume has.
            pub(crate) fn features(&self) -> Vec<&'static str> {
                let mut found = Vec::new();
                $(
                    let has: fn(&Spec) -> bool = $has;
                    if has(self) {
                        found.push($name);
                    }
                )*
                found
            }
        }
    };
}

features! {
    "luks1", "version 1", |spec| spec.version == 1;
    "luks2", "version 2", |spec| spec.version == 2;
    "data", "blocks with data", |spec| {
        spec.blocks.iter().any(|block| matches!(block.content, Content::Data(_)))
    };
    "zero", "blocks with zeros", |spec| {
        spec.blocks.iter().any(|block| block.content == Content::Zero)
    };
    "aes", "the cipher AES", |spec| spec.cipher == "aes";
    "serpent", "the cipher Serpent", |spec| spec.cipher == "serpent";
    "twofish", "the cipher Twofish", |spec| spec.cipher == "twofish";
    "xts", "XTS mode", |spec| spec.mode.starts_with("xts");
    "cbc", "CBC mode", |spec| spec.mode.starts_with("cbc");
    "ecb", "ECB mode", |spec| spec.mode.starts_with("ecb");
    "ctr", "counter mode", |spec| spec.mode.starts_with("ctr");
    "plain", "initial vectors of 32 bits", |spec| spec.mode.ends_with("-plain");
    "essiv", "encrypted initial vectors", |spec| spec.mode.contains("-essiv:");
    "key-192", "a cipher key of 192 bits", |spec| spec.cipher_key_bytes() == 24;
    "key-256", "a cipher key of 256 bits", |spec| spec.cipher_key_bytes() == 32;
    "sha1", "the hash SHA-1", |spec| spec.hash == Hash::Sha1;
    "sha224", "the hash SHA-224", |spec| spec.hash == Hash::Sha224;
    "sha384", "the hash SHA-384", |spec| spec.hash == Hash::Sha384;
    "sha512", "the hash SHA-512", |spec| spec.hash == Hash::Sha512;
    "ripemd160", "the hash RIPEMD-160", |spec| spec.hash == Hash::Ripemd160;
    "several-slots", "several key slots in use", |spec| spec.slots.len() > 1;
    "later-slot", "a first key slot that is not in use", |spec| {
        spec.slots.iter().all(|slot| slot.index > 0)
    };
    "other-order", "key material in another order", |spec| !spec.placement.order.is_empty();
    "detached", "a header without payload", |spec| spec.detached;
    "argon2i", "keys derived by Argon2i", |spec| {
        spec.slots.iter().any(|slot| matches!(slot.kdf, Kdf::Argon2i { .. }))
    };
    "argon2id", "keys derived by Argon2id", |spec| {
        spec.slots.iter().any(|slot| matches!(slot.kdf, Kdf::Argon2id { .. }))
    };
    "large-sectors", "sectors of more than 512 bytes", |spec| spec.sector_size > 512;
    "large-header", "a JSON area of more than 12 KiB", |spec| {
        spec.version == 2 && spec.header_size > 0x4000
    };
    "label", "a label or a subsystem", |spec| {
        !spec.label.is_empty() || !spec.subsystem.is_empty()
    };
}

impl Spec {
    /// Bytes in the key of the cipher, of which XTS has two.
    fn cipher_key_bytes(&self) -> u32 {
        let keys = if self.mode.starts_with("xts") { 2 } else { 1 };
        self.key_bytes / keys
    }
}
