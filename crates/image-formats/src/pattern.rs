//! Bytes made from a few numbers, to fill images with.

use serde::{Deserialize, Serialize};

/// A description of bytes of any length.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// One byte, repeated. Compresses well.
    Fill(u8),
    /// 8-byte numbers that count up from this one. Compresses somewhat.
    Count(u64),
    /// Bytes of a generator with this seed. Does not compress.
    Noise(u64),
    /// Bytes, repeated to the length that is needed; none stand for zeros.
    Bytes(Vec<u8>),
}

impl Pattern {
    /// The first `len` bytes.
    #[must_use]
    pub fn bytes(&self, len: usize) -> Vec<u8> {
        let words = |word: &mut dyn FnMut() -> u64| {
            let mut bytes = Vec::with_capacity(len + 8);
            while bytes.len() < len {
                bytes.extend_from_slice(&word().to_le_bytes());
            }
            bytes.truncate(len);
            bytes
        };
        match self {
            Self::Fill(byte) => vec![*byte; len],
            Self::Count(first) => {
                let mut next = *first;
                words(&mut || {
                    next = next.wrapping_add(1);
                    next.wrapping_sub(1)
                })
            }
            Self::Noise(seed) => {
                let mut state = *seed;
                words(&mut || split_mix(&mut state))
            }
            Self::Bytes(bytes) if bytes.is_empty() => vec![0; len],
            Self::Bytes(bytes) => bytes.iter().copied().cycle().take(len).collect(),
        }
    }
}

/// The next number of the SplitMix64 generator (Steele, Lea, Flood 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_known_bytes() {
        assert_eq!(Pattern::Fill(7).bytes(3), [7; 3]);
        assert_eq!(
            Pattern::Count(258).bytes(10),
            [2, 1, 0, 0, 0, 0, 0, 0, 3, 1]
        );
        assert_eq!(Pattern::Bytes(vec![1, 2]).bytes(5), [1, 2, 1, 2, 1]);
        assert_eq!(Pattern::Bytes(Vec::new()).bytes(2), [0, 0]);
        // First output of SplitMix64 for seed 0.
        assert_eq!(
            Pattern::Noise(0).bytes(8),
            0xe220_a839_7b1d_cdaf_u64.to_le_bytes()
        );
    }
}
