//! Texts of formats that are not qcow2: names, descriptors, property lists.

use image_formats::{Field, Kind, Value};

use crate::edit::{Edit, Hex, Number};
use crate::map::Map;
use crate::rng::Rng;

/// Words that readers of texts have stumbled over.
const WORDS: [&[u8]; 14] = [
    b"-1",
    b"0",
    b"4294967295",
    b"18446744073709551615",
    b"9223372036854775807",
    b"99999999999999999999999",
    b"\0",
    b"%s%n",
    b"../x",
    b"\"\"",
    b"\n",
    b"=",
    b"<>",
    b"AAAA",
];

/// A text with a part of it removed, repeated, or replaced by another word; it keeps its place
/// and what follows it.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let texts: Vec<&Field> = map.of_kind(Kind::Text);
    let field = rng.pick(&texts)?;
    let Value::Bytes(present) = &field.value else {
        return None;
    };
    let len = present
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    let text = changed(&present[..len], rng);
    // Not longer than its field; where it has become shorter, zeros or spaces follow.
    let mut bytes = text;
    bytes.truncate(present.len());
    let fill = if rng.chance(80) { 0 } else { b' ' };
    bytes.resize(len.max(bytes.len()), fill);
    (bytes != present[..bytes.len()]).then(|| {
        vec![Edit::Bytes {
            at: Number(field.offset),
            bytes: Hex(bytes),
        }]
    })
}

/// The same text with one change.
fn changed(text: &[u8], rng: &mut Rng) -> Vec<u8> {
    let at = rng.below(text.len() as u64 + 1) as usize;
    let (start, end) = word_around(text, at);
    let (before, word, after) = (&text[..start], &text[start..end], &text[end..]);
    let other: &[u8] = rng.pick(&WORDS).copied().unwrap_or(b"");
    match rng.below(7) {
        0 => [before, after].concat(),
        1 => [before, word, word, after].concat(),
        2 => before.to_vec(),
        3 => {
            let long = vec![b'A'; rng.between(100, 5000) as usize];
            [before, &long, after].concat()
        }
        _ => [before, other, after].concat(),
    }
}

/// The word of letters and digits that byte `at` is in, or the empty one there.
fn word_around(text: &[u8], at: usize) -> (usize, usize) {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric();
    let start = text[..at]
        .iter()
        .rev()
        .take_while(|byte| is_part(byte))
        .count();
    let end = text[at..].iter().take_while(|byte| is_part(byte)).count();
    (at - start, at + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found() {
        let text = b"RW 4192 FLAT";
        assert_eq!(word_around(text, 4), (3, 7));
        assert_eq!(word_around(text, 2), (0, 2));
        assert_eq!(word_around(text, 12), (8, 12));
        assert_eq!(word_around(b"", 0), (0, 0));
    }
}
