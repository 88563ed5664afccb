//! Dictionaries of formats, in the syntax that AFL++ and libFuzzer share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use image_formats::{Field, Format, Kind, Place, Surroundings, Value};
use image_mutations::map::Map;

use crate::decoded::Decoded;
use crate::fresh::seeds;

/// How many images the values of fields are taken from.
const IMAGES: usize = 8;

/// The most bytes of an image that is looked at.
const MAX_IMAGE_BYTES: usize = 8 << 20;

/// Lengths of bytes that may be a signature or a GUID.
const SIGNATURE: std::ops::RangeInclusive<u64> = 4..=16;

/// The most boundary values of a class of fields, and the most of its values in images.
const MAX_BOUNDARIES: usize = 6;
const MAX_VALUES: usize = 8;

/// The most words of texts.
const MAX_WORDS: usize = 160;

/// Lengths of a word.
const WORD: std::ops::RangeInclusive<usize> = 2..=32;

/// The dictionary of a format: its signatures, values that fields have in valid images,
/// boundary values of named fields, all in the order of bytes and the width of the field, and
/// the words of its texts. Each entry is named after its field. It is the same at each call.
///
/// ```
/// use image_mutator::{Format, dictionary};
///
/// let qcow2 = dictionary(Format::Qcow2);
/// assert!(qcow2.contains("header_magic=\"QFI\\xfb\"\n"));
/// ```
#[must_use]
pub fn dictionary(format: Format) -> String {
    let mut entries = Entries::default();
    let images = seeds(format, IMAGES, MAX_IMAGE_BYTES, "dictionary");
    let decoded: Vec<Decoded> = images
        .iter()
        .filter_map(|image| Decoded::of(image, Some(format)))
        .collect();
    entries.signatures(&decoded);
    for image in &decoded {
        for field in image.map().fields() {
            entries.value(image, field);
        }
    }
    for image in &decoded {
        for (class, fields) in image.map().classes() {
            if let Some(field) = fields.first() {
                entries.boundaries(class, field, image.map());
            }
        }
    }
    for image in &decoded {
        for field in image.map().of_kind(Kind::Text) {
            entries.words(field);
        }
    }
    let mut text = format!("# Signatures, values of fields and words of {format} images.\n");
    for (name, bytes) in entries.list {
        let _ = writeln!(text, "{name}=\"{}\"", escaped(&bytes));
    }
    text
}

/// The entries so far, each of other bytes.
#[derive(Default)]
struct Entries {
    list: Vec<(String, Vec<u8>)>,
    known: BTreeSet<Vec<u8>>,
    /// How many values and boundaries each class has.
    counts: BTreeMap<String, usize>,
    words: usize,
}

impl Entries {
    fn add(&mut self, name: &str, bytes: Vec<u8>) -> bool {
        // A byte alone is drawn by any engine.
        let new = bytes.len() > 1 && self.known.insert(bytes.clone());
        if new {
            self.list.push((identifier(name), bytes));
        }
        new
    }

    /// Bytes that the same field has in two images or more.
    fn signatures(&mut self, images: &[Decoded]) {
        let mut seen: BTreeMap<(String, Vec<u8>), BTreeSet<usize>> = BTreeMap::new();
        for (number, image) in images.iter().enumerate() {
            for field in image.map().fields() {
                let bytes = match &field.value {
                    Value::Bytes(bytes) if field.kind == Kind::Bytes => bytes,
                    _ => continue,
                };
                let is_set = bytes.iter().any(|byte| *byte != 0);
                if is_set && SIGNATURE.contains(&(bytes.len() as u64)) {
                    let key = (image.map().class(&field.path), bytes.clone());
                    seen.entry(key).or_default().insert(number);
                }
            }
        }
        for ((class, bytes), images) in seen {
            if images.len() > 1 && self.has_room(&class, MAX_VALUES) {
                self.add(&class, bytes);
            }
        }
    }

    /// Counts an entry of a class, as long as there are few.
    fn has_room(&mut self, class: &str, most: usize) -> bool {
        let count = self.counts.entry(class.to_owned()).or_default();
        *count += 1;
        *count <= most
    }

    /// What a valid image has in a field.
    fn value(&mut self, image: &Decoded, field: &Field) {
        let named = matches!(
            field.kind,
            Kind::Magic | Kind::Version | Kind::Choice | Kind::Log2 | Kind::Flags | Kind::Entry
        );
        if !named || field.value.as_uint() == Some(0) || field.place.len_bytes() > 16 {
            return;
        }
        let class = image.map().class(&field.path);
        let start = usize::try_from(field.offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(field.place.len_bytes() as usize);
        if let Some(bytes) = image.bytes.get(start..end)
            && !self.known.contains(bytes)
            && self.has_room(&class, MAX_VALUES)
        {
            self.add(&class, bytes.to_vec());
        }
    }

    /// Limits of a field, as they stand in the file.
    fn boundaries(&mut self, class: &str, field: &Field, map: &Map) {
        let Place::Bits { bytes, .. } = field.place else {
            return;
        };
        let limited = matches!(
            field.kind,
            Kind::Offset | Kind::Length | Kind::Count | Kind::Size | Kind::Number
        );
        if bytes < 2 || !limited || !self.has_room(&format!("{class} limits"), 1) {
            return;
        }
        let values = field.boundaries(Surroundings {
            file_len: map.file_len,
            cluster_size: map.cluster,
            offsets: &[],
        });
        // The largest ones are those that overflow; those near the present value of the field
        // are of this image alone.
        let is_limit = |value: &&u64| {
            (0..3).any(|off| value.wrapping_sub(1).wrapping_add(off).is_power_of_two())
        };
        let above_0 = values.iter().rev().filter(|value| **value > 0);
        let mask = Some(field.place.mask());
        let limits = mask.into_iter().chain(above_0.filter(is_limit).copied());
        for value in limits.take(MAX_BOUNDARIES) {
            if let Some(bytes) = encoded(field, value) {
                self.add(&format!("{class}_{value:#x}"), bytes);
            }
        }
    }

    /// The words of a text.
    fn words(&mut self, field: &Field) {
        let Value::Bytes(text) = &field.value else {
            return;
        };
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
        for word in text.split(|byte| !is_word(byte)) {
            if !WORD.contains(&word.len()) || self.words >= MAX_WORDS {
                continue;
            }
            // Numbers are what an engine draws by itself.
            if word.iter().any(u8::is_ascii_alphabetic) {
                let name = format!("word_{}", String::from_utf8_lossy(word));
                self.words += usize::from(self.add(&name, word.to_vec()));
            }
        }
    }
}

/// The bytes of a field of numbers with that value alone.
fn encoded(field: &Field, value: u64) -> Option<Vec<u8>> {
    let mut store = image_formats::Store::new();
    let Place::Bits {
        bytes,
        endian,
        low,
        bits,
        in_position,
        ..
    } = field.place
    else {
        return None;
    };
    let place = Place::Bits {
        offset: 0,
        bytes,
        endian,
        low,
        bits,
        in_position,
    };
    store.resize(bytes.into());
    place.set(&mut store, &Value::Uint(value)).ok()?;
    store.to_vec(8).ok()
}

/// A name that both engines take.
fn identifier(name: &str) -> String {
    let letters = name.chars().map(|letter| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' => letter,
        _ => '_',
    });
    let mut identifier = String::new();
    for letter in letters {
        if letter != '_' || !identifier.ends_with('_') {
            identifier.push(letter);
        }
    }
    identifier.trim_matches('_').to_owned()
}

/// Bytes between the quotes of an entry.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_in_it() {
        for (format, magic) in [
            (Format::Qcow2, "\"QFI\\xfb\""),
            (Format::Vpc, "\"conectix\""),
            (Format::Vmdk, "\"KDMV\""),
            (Format::Dmg, "\"koly\""),
            (Format::Luks, "\"LUKS\\xba\\xbe\""),
        ] {
            let text = dictionary(format);
            assert!(text.contains(magic), "{format}: {text}");
        }
        assert_eq!(dictionary(Format::Qed), dictionary(Format::Qed));
    }

    #[test]
    fn entries_are_in_the_syntax_of_the_engines() {
        for format in Format::ALL {
            let text = dictionary(format);
            let count = text.lines().count();
            assert!((8..900).contains(&count), "{format}: {count}");
            for line in text.lines().skip(1) {
                let (name, rest) = line.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                assert!(!name.is_empty() && name.bytes().all(word), "{line}");
                assert!(rest.ends_with('"') && rest.len() > 2, "{line}");
                assert!(
                    rest.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                    "{line}"
                );
            }
        }
    }

    #[test]
    fn values_are_in_the_order_of_bytes_of_their_format() {
        let big = dictionary(Format::Qcow2);
        assert!(
            big.contains("0x7fffffffffffffff=\"\\x7f\\xff\\xff\\xff\\xff\\xff\\xff\\xff\"\n"),
            "{big}"
        );
        let little = dictionary(Format::Qed);
        assert!(
            little.contains("0x7fffffff=\"\\xff\\xff\\xff\\x7f\"\n"),
            "{little}"
        );
    }
}
