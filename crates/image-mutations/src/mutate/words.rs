//! Words of texts that have fields of their own, such as the values in a descriptor: another
//! word, of any length, and what follows it moves.

use image_formats::{Field, Kind, Value};

use crate::edit::{Edit, Hex, Number};
use crate::file_names::file_name;
use crate::map::Map;
use crate::rng::Rng;

/// Numbers and types, some of which readers know.
const WORDS: [&str; 16] = [
    "",
    "0",
    "-1",
    "1",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "99999999999999999999999",
    "ffffffff",
    "0x7f",
    "FLAT",
    "SPARSE",
    "ZERO",
    "streamOptimized",
    "monolithicFlat",
];

/// A word of a longer text replaced by another. What follows it in the text moves, as far as
/// there is room before the next structure.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let texts = map.of_kind(Kind::Text);
    let words: Vec<(&Field, &Field)> = texts
        .iter()
        .filter_map(|word| {
            let around = texts.iter().find(|text| holds(text, word))?;
            Some((*word, *around))
        })
        .collect();
    let is_name = |(word, _): &&(&Field, &Field)| names_file(word);
    let names: Vec<_> = words.iter().filter(is_name).copied().collect();
    let (word, text) = *match names.is_empty() || rng.chance(65) {
        true => rng.pick(&words)?,
        false => rng.pick(&names)?,
    };
    let (Value::Bytes(old), Value::Bytes(all)) = (&word.value, &text.value) else {
        return None;
    };
    let new = if names_file(word) && rng.chance(80) || rng.chance(10) {
        file_name(rng)?
    } else {
        (*rng.pick(&WORDS)?).to_owned()
    };
    let start = usize::try_from(word.offset - text.offset).ok()?;
    let rest = all.get(start + old.len()..)?;
    let mut bytes = [new.as_bytes(), rest].concat();
    // What is left of the old text behind a shorter one is no part of it.
    bytes.resize(bytes.len().max(old.len() + rest.len()), 0);
    bytes.truncate(room(map, text, word.offset));
    (old != new.as_bytes()).then(|| {
        vec![Edit::Bytes {
            at: Number(word.offset),
            bytes: Hex(bytes),
        }]
    })
}

/// Whether a word names a file that readers open.
fn names_file(word: &Field) -> bool {
    ["file_name", "parentFileNameHint"]
        .iter()
        .any(|name| word.path.ends_with(name))
}

/// Whether `word` is a part of `text`.
fn holds(text: &Field, word: &Field) -> bool {
    let end = |field: &Field| field.offset.saturating_add(field.width_bits / 8);
    text.width_bits > word.width_bits && text.offset <= word.offset && end(word) <= end(text)
}

/// Bytes from `start` to the structure after `text`, at most 64 KiB.
fn room(map: &Map, text: &Field, start: u64) -> usize {
    let end = text.offset.saturating_add(text.width_bits / 8);
    let after = map.fields().iter().map(|field| field.offset);
    let next = after.filter(|offset| *offset >= end).min();
    let next = next.unwrap_or(u64::MAX).min(start.saturating_add(1 << 16));
    next.saturating_sub(start) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Formats;
    use crate::case::Maker;

    /// Words within a descriptor once could not become longer.
    #[test]
    fn a_longer_word_moves_what_follows_it() {
        let formats = Formats::named("vmdk").unwrap();
        let mut rng = Rng::from_text("words");
        let mut moved = 0;
        for _ in 0..40 {
            let base = formats.draw(&mut rng);
            let prepared = Maker::default().prepared(&base).unwrap();
            let map = &prepared.map;
            let Some(edits) = draw(map, &mut rng) else {
                continue;
            };
            let Some(Edit::Bytes { at, bytes }) = edits.first() else {
                panic!("{edits:?}");
            };
            let text = map.get("descriptor.text").unwrap();
            let end = at.0 + bytes.0.len() as u64;
            assert!(at.0 >= text.offset && end <= text.offset + (1 << 17));
            moved += usize::from(end > text.offset + text.width_bits / 8);
        }
        assert!(moved > 0);
    }
}
