//! The anti-forensic splitter: a key is spread over stripes, all of which are needed to put it
//! together again.

use super::hash::Hash;

/// Stripes that a key is spread over; no other number is used.
pub(super) const STRIPES: usize = 4000;

/// The stripes of `key`. `noise` has as many bytes, of which the last stripe is replaced.
pub(super) fn split(key: &[u8], hash: Hash, mut noise: Vec<u8>) -> Vec<u8> {
    let last = noise.len().saturating_sub(key.len());
    let mut state = fold(&noise[..last], key.len(), hash);
    mix(&mut state, key);
    noise[last..].copy_from_slice(&state);
    noise
}

/// The key of `len` bytes, at least 1, that was spread over `stripes`.
pub(super) fn merge(stripes: &[u8], len: usize, hash: Hash) -> Vec<u8> {
    let last = stripes.len().saturating_sub(len);
    let mut key = fold(&stripes[..last], len, hash);
    mix(&mut key, &stripes[last..]);
    key
}

/// All stripes in one, each mixed into the hash of those before.
fn fold(stripes: &[u8], len: usize, hash: Hash) -> Vec<u8> {
    let mut state = vec![0; len];
    for stripe in stripes.chunks_exact(len.max(1)) {
        mix(&mut state, stripe);
        state = diffuse(&state, hash);
    }
    state
}

/// Each block of the length of a hash replaced by the hash of its number and itself.
fn diffuse(state: &[u8], hash: Hash) -> Vec<u8> {
    let block = hash.digest(&[]).len();
    let mut out = Vec::with_capacity(state.len());
    for (number, part) in (0_u32..).zip(state.chunks(block)) {
        let digest = hash.digest(&[&number.to_be_bytes(), part]);
        out.extend_from_slice(&digest[..part.len()]);
    }
    out
}

/// Exclusive or of `other` into `bytes`.
pub(super) fn mix(bytes: &mut [u8], other: &[u8]) {
    for (byte, other) in bytes.iter_mut().zip(other) {
        *byte ^= other;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_is_put_together_again(
            key in prop::collection::vec(any::<u8>(), 1..70), stripes in 2..6usize, seed: u64,
        ) {
            let noise = crate::pattern::Pattern::Noise(seed).bytes(key.len() * stripes);
            for hash in Hash::ALL {
                let spread = split(&key, hash, noise.clone());
                prop_assert_eq!(merge(&spread, key.len(), hash), key.clone());
            }
        }
    }
}
