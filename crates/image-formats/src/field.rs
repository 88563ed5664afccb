//! Fields: their place in the file, their values, and the rules for them.

use serde::{Deserialize, Serialize};

use crate::encoded::{EncodeError, Encoding};
use crate::io::ReadError;
use crate::path::{PathSyntax, nearest};
use crate::store::Store;
use crate::value::{Endian, Value};

/// The meaning of a field, which decides its boundary values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The signature of the format.
    Magic,
    /// Version of the format.
    Version,
    /// Byte offset into the image file.
    Offset,
    /// Length in bytes of something stored in the image file.
    Length,
    /// How many entries, clusters or sectors there are.
    Count,
    /// Size in bytes of what the guest sees.
    Size,
    /// A binary logarithm.
    Log2,
    /// A set of bits.
    Flags,
    /// One bit.
    Flag,
    /// One of a few known numbers.
    Choice,
    /// A reference count.
    Refcount,
    /// A table entry made of several fields.
    Entry,
    /// One bit for each subcluster or block.
    Bitmap,
    /// A time or a number without consequences for the format.
    Number,
    /// A checksum over other fields.
    Checksum,
    /// Must be zero.
    Reserved,
    /// A name, or other text.
    Text,
    /// Bytes without a meaning in the format, or contents.
    Bytes,
}

/// The place of a field in the image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Some or all bits of a word.
    Bits {
        /// Byte offset of the word.
        offset: u64,
        /// Bytes in the word, 1 to 8.
        bytes: u8,
        /// Order of those bytes.
        endian: Endian,
        /// Lowest bit of the field within the word.
        low: u8,
        /// Number of bits, at least 1.
        bits: u8,
        /// Whether the value keeps its position in the word, as offsets do, instead
        /// of being shifted down to bit 0.
        in_position: bool,
    },
    /// A run of bytes.
    Bytes {
        /// Byte offset of the first one.
        offset: u64,
        /// Number of bytes.
        len: u64,
    },
    /// A word or a line within a text, where the text goes on behind a shorter value.
    Text {
        /// Byte offset of the first one.
        offset: u64,
        /// Number of bytes, with the one that ends it.
        len: u64,
        /// What ends it.
        end: TextEnd,
    },
    /// Text that stands for a number or for bytes.
    Encoded {
        /// Byte offset of the text.
        offset: u64,
        /// Bytes of text.
        len: u64,
        /// How it stands for them.
        encoding: Encoding,
    },
}

/// What ends a word or a line within a text, and fills the place behind a shorter one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TextEnd {
    /// What follows it; spaces fill the place.
    Space,
    /// A double quote, which belongs to the place; spaces fill what follows.
    Quote,
    /// A zero byte, unless the place is full; zeros fill the place.
    Zero,
}

impl TextEnd {
    /// The bytes of a place of `room` bytes that holds `text`; `None` where it has no room.
    fn fill(self, text: &[u8], room: u64) -> Option<Vec<u8>> {
        let mut bytes = text.to_vec();
        let pad = match self {
            Self::Space => b' ',
            Self::Zero => 0,
            Self::Quote => {
                bytes.push(b'"');
                b' '
            }
        };
        let room = usize::try_from(room.min(LONGEST_VALUE)).unwrap_or(0);
        (bytes.len() <= room).then(|| {
            bytes.resize(room, pad);
            bytes
        })
    }

    /// The text in a place that holds `bytes`.
    fn text(self, mut bytes: Vec<u8>) -> Vec<u8> {
        let len = match self {
            Self::Space => bytes.trim_ascii_end().len(),
            Self::Quote => end_at(&bytes, b'"').unwrap_or(bytes.len().saturating_sub(1)),
            Self::Zero => end_at(&bytes, 0).unwrap_or(bytes.len()),
        };
        bytes.truncate(len);
        bytes
    }
}

/// Where the first such byte is.
fn end_at(bytes: &[u8], end: u8) -> Option<usize> {
    bytes.iter().position(|byte| *byte == end)
}

/// Why a value cannot be put into a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The number has bits that the field does not have.
    #[error("{value:#x} does not fit: the field has the bits {mask:#x}")]
    DoesNotFit {
        /// The value that was to be set.
        value: u64,
        /// The bits that the field can hold.
        mask: u64,
    },
    /// The value has more bytes than the field.
    #[error("{len} bytes do not fit into the {room} bytes of the field")]
    TooLong {
        /// Length of the value in bytes.
        len: u64,
        /// Length of the field in bytes.
        room: u64,
    },
    /// The value is text and the field a number, or the other way round.
    #[error("the field holds {0}")]
    WrongType(&'static str),
}

/// Why a field cannot be read or set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The text is not a path.
    #[error(transparent)]
    Syntax(#[from] PathSyntax),
    /// The image has no such field.
    #[error("the image has no field '{path}'{}", hint(suggestion.as_deref()))]
    Missing {
        /// The path of the request.
        path: String,
        /// The most similar existing path.
        suggestion: Option<String>,
    },
    /// The field cannot hold the value.
    #[error("cannot set {path}: {problem}")]
    Value {
        /// The path that was to be set.
        path: String,
        /// Why not.
        problem: PlaceError,
    },
    /// The source cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl FieldError {
    /// The error for a value that the field at `path` cannot hold.
    pub(crate) fn value(path: &str) -> impl FnOnce(PlaceError) -> Self {
        move |problem| Self::Value {
            path: path.to_owned(),
            problem,
        }
    }

    /// The error for a path without a field, with the most similar path of `fields`.
    pub(crate) fn missing(path: &str, fields: impl Iterator<Item = Field>) -> Self {
        /// Most fields that are compared.
        const COMPARED: usize = 20_000;
        let paths: Vec<String> = fields.take(COMPARED).map(|field| field.path).collect();
        Self::Missing {
            path: path.to_owned(),
            suggestion: nearest(path, paths.iter().map(String::as_str)).map(str::to_owned),
        }
    }
}

fn hint(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |path| format!("; did you mean '{path}'?"))
}

/// Longest run of bytes that is read as one value.
pub(crate) const LONGEST_VALUE: u64 = 2 << 20;

impl Place {
    /// A whole big-endian number of `bytes` bytes.
    #[must_use]
    pub const fn number(offset: u64, bytes: u8) -> Self {
        Self::Bits {
            offset,
            bytes,
            endian: Endian::Big,
            low: 0,
            bits: bytes * 8,
            in_position: false,
        }
    }

    /// Byte offset of the word or the first byte.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        match self {
            Self::Bits { offset, .. }
            | Self::Bytes { offset, .. }
            | Self::Text { offset, .. }
            | Self::Encoded { offset, .. } => *offset,
        }
    }

    /// How many bytes of the file it is part of, from [`Place::offset`] on.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        match self {
            Self::Bits { bytes, .. } => *bytes as u64,
            Self::Bytes { len, .. } | Self::Text { len, .. } | Self::Encoded { len, .. } => *len,
        }
    }

    /// Whether it holds a number, not text or bytes.
    #[must_use]
    pub const fn is_number(&self) -> bool {
        match self {
            Self::Bits { .. } => true,
            Self::Bytes { .. } | Self::Text { .. } => false,
            Self::Encoded { encoding, .. } => encoding.is_number(),
        }
    }

    /// Width in bits.
    #[must_use]
    pub const fn width_bits(&self) -> u64 {
        match self {
            Self::Bits { bits, .. } => *bits as u64,
            Self::Bytes { len, .. } | Self::Text { len, .. } => len.saturating_mul(8),
            Self::Encoded { len, encoding, .. } => encoding.width_bits(*len),
        }
    }

    /// The bits that a value of this field may have set; 0 for runs of bytes.
    #[must_use]
    pub const fn mask(&self) -> u64 {
        match *self {
            Self::Bits {
                low,
                bits,
                in_position,
                ..
            } => {
                let mask = ones(bits);
                if in_position { mask << low } else { mask }
            }
            Self::Encoded { len, encoding, .. } if encoding.is_number() => {
                ones(encoding.width_bits(len) as u8)
            }
            Self::Bytes { .. } | Self::Text { .. } | Self::Encoded { .. } => 0,
        }
    }

    /// What the field holds; bytes past the end of the image read as zeros, and runs
    /// of more than 2 MiB are truncated.
    #[must_use]
    pub fn get(&self, source: &Store) -> Value {
        match *self {
            Self::Bits {
                low,
                bits,
                in_position,
                ..
            } => {
                let value = (self.word(source) >> low) & ones(bits);
                Value::Uint(if in_position { value << low } else { value })
            }
            Self::Bytes { offset, len } => {
                let len = usize::try_from(len.min(LONGEST_VALUE)).unwrap_or(0);
                Value::Bytes(source.read_vec(offset, len))
            }
            Self::Text { offset, len, end } => {
                let len = usize::try_from(len.min(LONGEST_VALUE)).unwrap_or(0);
                Value::Bytes(end.text(source.read_vec(offset, len)))
            }
            Self::Encoded {
                offset,
                len,
                encoding,
            } => encoding.decode(&text(source, offset, len)),
        }
    }

    /// Puts `value` into the field and changes nothing else. Bytes shorter than the
    /// field are padded with zeros, words of a text as their [`TextEnd`] says.
    ///
    /// # Errors
    ///
    /// When the field cannot hold the value.
    pub fn set(&self, store: &mut Store, value: &Value) -> Result<(), PlaceError> {
        match (*self, value) {
            (
                Self::Bits {
                    offset,
                    bytes,
                    endian,
                    low,
                    bits,
                    in_position,
                },
                Value::Uint(value),
            ) => {
                let mask = self.mask();
                if value & !mask != 0 {
                    return Err(PlaceError::DoesNotFit {
                        value: *value,
                        mask,
                    });
                }
                let shifted = if in_position { *value } else { value << low };
                let kept = self.word(store) & !(ones(bits) << low);
                let word = (kept | shifted).to_be_bytes();
                let mut word = word[word.len() - usize::from(bytes)..].to_vec();
                if endian == Endian::Little {
                    word.reverse();
                }
                store.write(offset, &word);
                Ok(())
            }
            (Self::Bytes { offset, len }, Value::Bytes(value)) => {
                let (given, room) = (value.len() as u64, len);
                if given > room {
                    return Err(PlaceError::TooLong { len: given, room });
                }
                let pad = usize::try_from((room - given).min(LONGEST_VALUE)).unwrap_or(0);
                store.write(offset, value);
                store.write(offset.saturating_add(given), &vec![0; pad]);
                Ok(())
            }
            (Self::Text { offset, len, end }, Value::Bytes(value)) => {
                let room = len.saturating_sub(u64::from(end == TextEnd::Quote));
                let bytes = end.fill(value, len).ok_or(PlaceError::TooLong {
                    len: value.len() as u64,
                    room,
                })?;
                store.write(offset, &bytes);
                Ok(())
            }
            (
                Self::Encoded {
                    offset,
                    len,
                    encoding,
                },
                value,
            ) => {
                let mut text = text(store, offset, len);
                encoding
                    .encode(&mut text, value)
                    .map_err(|error| match error {
                        EncodeError::TooLong(len, room) => PlaceError::TooLong { len, room },
                        EncodeError::WrongType(holds) => PlaceError::WrongType(holds),
                    })?;
                store.write(offset, &text);
                Ok(())
            }
            (Self::Bits { .. }, Value::Bytes(_)) => Err(PlaceError::WrongType("a number")),
            (Self::Bytes { .. } | Self::Text { .. }, Value::Uint(_)) => {
                Err(PlaceError::WrongType("text or bytes"))
            }
        }
    }

    /// The whole word that the field is part of.
    fn word(&self, source: &Store) -> u64 {
        let Self::Bits {
            offset,
            bytes,
            endian,
            ..
        } = *self
        else {
            return 0;
        };
        let mut buf = [0; 8];
        let used = &mut buf[..usize::from(bytes.min(8))];
        source.read(offset, used);
        endian.number(used)
    }
}

/// The text of a field.
fn text(source: &Store, offset: u64, len: u64) -> Vec<u8> {
    source.read_vec(offset, usize::try_from(len.min(LONGEST_VALUE)).unwrap_or(0))
}

/// Some or all bits of a word.
pub(crate) const fn word(
    offset: u64,
    bytes: u8,
    endian: Endian,
    low: u8,
    bits: u8,
    in_position: bool,
) -> Place {
    Place::Bits {
        offset,
        bytes,
        endian,
        low,
        bits,
        in_position,
    }
}

/// The lowest `bits` bits set.
pub(crate) const fn ones(bits: u8) -> u64 {
    if bits >= 64 {
        u64::MAX
    } else {
        (1 << bits) - 1
    }
}

/// A field of an image, with the value it holds at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its path in the structure of the image: names with indexes from 0 for entries of
    /// tables, joined by dots, such as `header.l1_size` or `l2[3].entry[17].offset`.
    pub path: String,
    /// Its meaning.
    pub kind: Kind,
    /// Its place in the file.
    pub place: Place,
    /// Width in bits.
    pub width_bits: u64,
    /// Byte offset in the file.
    pub offset: u64,
    /// What it holds.
    pub value: Value,
    /// The rule it should obey; empty where any value will do.
    pub rule: &'static str,
    /// Section of the format's specification that defines it.
    pub section: &'static str,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::io::ReadAt as _;

    fn any_bits() -> impl Strategy<Value = Place> {
        (
            0..40u64,
            1..=8u8,
            any::<bool>(),
            any::<bool>(),
            0..64u8,
            1..=64u8,
        )
            .prop_map(|(offset, bytes, little, in_position, low, bits)| {
                let low = low % (bytes * 8);
                let endian = if little { Endian::Little } else { Endian::Big };
                word(
                    offset,
                    bytes,
                    endian,
                    low,
                    bits.min(bytes * 8 - low),
                    in_position,
                )
            })
    }

    proptest! {
        #[test]
        fn sets_its_own_bits_and_no_others(
            place in any_bits(), value: u64, before in prop::collection::vec(any::<u8>(), 48),
        ) {
            let old = Store::over(Arc::new(before.clone()));
            let mut store = old.clone();
            let value = value & place.mask();
            place.set(&mut store, &Value::Uint(value)).unwrap();
            prop_assert_eq!(place.get(&store), Value::Uint(value));
            // Setting the old value back restores every byte.
            place.set(&mut store, &place.get(&old)).unwrap();
            prop_assert_eq!(store.to_vec(100).unwrap(), before);
        }
    }

    /// The text around a shorter word stays as it is, and the old word comes back whole.
    #[test]
    fn words_of_a_text_are_padded() {
        let text = b"RW 2048 FLAT \"a-flat.vmdk\" 0\n\0\0";
        let place = |offset, len, end| Place::Text { offset, len, end };
        for (place, old, new, rest) in [
            (place(3, 4, TextEnd::Space), "2048", "7", &b"7    FLAT"[..]),
            (
                place(14, 12, TextEnd::Quote),
                "a-flat.vmdk",
                "b",
                b"b\"           0\n",
            ),
            (place(28, 3, TextEnd::Zero), "\n", "#", b"#\0\0"),
        ] {
            let mut store = Store::over(Arc::new(text.to_vec()));
            assert_eq!(place.get(&store), old.into());
            place.set(&mut store, &new.into()).unwrap();
            assert_eq!(place.get(&store), new.into());
            assert_eq!(store.read_vec(place.offset(), rest.len()), rest);
            place.set(&mut store, &old.into()).unwrap();
            assert_eq!(store.to_vec(100).unwrap(), text);
            let long = place.set(&mut store, &"a-flat.vmdk0".into());
            assert!(matches!(long, Err(PlaceError::TooLong { len: 12, .. })));
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let mut store = Store::new();
        let place = word(0, 8, Endian::Big, 9, 47, true);
        let set = place.set(&mut store, &Value::Uint(0x101));
        assert!(matches!(set, Err(PlaceError::DoesNotFit { .. })));
        let name = Place::Bytes { offset: 0, len: 2 };
        assert!(matches!(
            name.set(&mut store, &"abc".into()),
            Err(PlaceError::TooLong { .. })
        ));
        assert!(matches!(
            name.set(&mut store, &1.into()),
            Err(PlaceError::WrongType(_))
        ));
        assert_eq!(store.len(), 0);
    }
}
