//! Apple data compression: literal bytes, and copies of what was expanded before.

use std::collections::HashMap;

/// The longest run of literal bytes.
const LITERALS: usize = 128;
/// The longest copy.
const LONGEST: usize = 67;

/// Expands to `len` bytes.
///
/// # Errors
///
/// The data ends too early or copies from before its start.
pub(super) fn expand(data: &[u8], len: usize) -> Result<Vec<u8>, &'static str> {
    const SHORT: &str = "it ends too early";
    let mut out: Vec<u8> = Vec::new();
    let mut rest = data;
    while out.len() < len {
        let (&code, tail) = rest.split_first().ok_or(SHORT)?;
        let (count, distance);
        (count, distance, rest) = match (code, tail) {
            (0x80.., _) => {
                let count = usize::from(code & 0x7f) + 1;
                let (bytes, tail) = tail.split_at_checked(count).ok_or(SHORT)?;
                out.extend_from_slice(bytes);
                rest = tail;
                continue;
            }
            (0x40.., [high, low, tail @ ..]) => {
                let distance = usize::from(*high) << 8 | usize::from(*low);
                (usize::from(code & 0x3f) + 4, distance + 1, tail)
            }
            (0x40.., _) => return Err(SHORT),
            (_, [low, tail @ ..]) => {
                let distance = usize::from(code & 3) << 8 | usize::from(*low);
                (usize::from(code >> 2) + 3, distance + 1, tail)
            }
            (_, []) => return Err(SHORT),
        };
        let from = out.len().checked_sub(distance);
        let from = from.ok_or("it copies from before its start")?;
        for at in from..from + count {
            out.push(out[at]);
        }
    }
    Ok(out)
}

/// Compresses `data`.
pub(super) fn compress(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // Where four bytes were seen last.
    let mut seen: HashMap<[u8; 4], usize> = HashMap::new();
    let (mut at, mut literal) = (0, 0);
    while at < data.len() {
        let key = data.get(at..at + 4).and_then(|key| key.try_into().ok());
        let before = key.and_then(|key: [u8; 4]| seen.insert(key, at));
        let found = before.filter(|from| at - from <= 0x1_0000);
        let Some(from) = found else {
            at += 1;
            continue;
        };
        let ahead = data[at..].iter().zip(&data[from..]);
        let same = ahead.take_while(|(one, other)| one == other).count();
        let (count, distance) = (same.min(LONGEST), at - from - 1);
        literals(&data[literal..at], &mut out);
        if count <= 18 && distance < 1024 {
            out.push(((count - 3) << 2 | distance >> 8) as u8);
        } else {
            out.push(0x40 | (count - 4) as u8);
            out.push((distance >> 8) as u8);
        }
        out.push(distance as u8);
        at += count;
        literal = at;
    }
    literals(&data[literal..], &mut out);
    out
}

fn literals(data: &[u8], out: &mut Vec<u8>) {
    for run in data.chunks(LITERALS) {
        out.push(0x80 | (run.len() - 1) as u8);
        out.extend_from_slice(run);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_was_compressed_expands(
            data in prop::collection::vec(0..4_u8, 0..600), far in prop::sample::select(vec![0_usize, 900, 3000, 66_000]),
        ) {
            let mut data = data;
            data.resize(data.len() + far, 9);
            data.extend_from_within(..data.len().min(40));
            prop_assert_eq!(expand(&compress(&data), data.len()), Ok(data));
        }

        #[test]
        fn never_panics(data in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = expand(&data, 500);
        }
    }

    #[test]
    fn codes_mean_what_is_known_of_them() {
        // Three literal bytes, then each kind of copy.
        let data = [0x82, 1, 2, 3, 0x00, 0x02, 0x41, 0x00, 0x00];
        let expanded = expand(&data, 11).unwrap();
        assert_eq!(expanded, [1, 2, 3, 1, 2, 3, 3, 3, 3, 3, 3]);
        assert!(expand(&data, 12).is_err());
        assert!(expand(&[0x80, 1, 0x40, 0, 1], 5).is_err());
    }
}
