//! Fields within text: numbers in decimal digits, and bytes in base64.

use std::sync::Arc;

use serde::Serialize;

use crate::store::Store;
use crate::value::{Endian, Value};

/// How text of the file stands for the value of a field. The text keeps its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// A number in decimal digits. One of fewer digits is padded.
    Decimal {
        /// With what: blanks behind a number, or zeros before one between quotes.
        pad: DecimalPad,
    },
    /// Text between quotes, as it stands there. Shorter text is padded with blanks behind the
    /// second quote.
    Quoted,
    /// Text as it stands there. Shorter text is padded with blanks.
    Blanks,
    /// Bytes in base64, which other characters, such as line breaks, may interrupt.
    Base64 {
        /// How many bytes of the first four characters come before those of the field: 0 to 2.
        skip: u8,
        /// Bytes in the field.
        bytes: u64,
        /// The order of those bytes where they are a number of up to 8 bytes.
        number: Option<Endian>,
    },
}

/// What fills the room of missing digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DecimalPad {
    /// Blanks behind the digits.
    Blanks,
    /// Zeros before the digits.
    Zeros,
}

/// Why a value cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EncodeError {
    /// So many bytes or digits do not fit into so many.
    TooLong(u64, u64),
    /// The field holds something else.
    WrongType(&'static str),
}

impl Encoding {
    /// Width of the field in bits, of text of `len` bytes.
    pub(crate) const fn width_bits(self, len: u64) -> u64 {
        match self {
            // A digit is 3.3219 bits: numbers of so many bits all fit.
            Self::Decimal { .. } if len >= 20 => 64,
            Self::Decimal { .. } => len * 33_219 / 10_000,
            Self::Quoted => len.saturating_sub(2).saturating_mul(8),
            Self::Blanks => len.saturating_mul(8),
            Self::Base64 { bytes, .. } => bytes.saturating_mul(8),
        }
    }

    /// Whether the field holds a number, not bytes.
    pub(crate) const fn is_number(self) -> bool {
        match self {
            Self::Decimal { .. } => true,
            Self::Quoted | Self::Blanks => false,
            Self::Base64 { number, .. } => number.is_some(),
        }
    }

    /// What `text` stands for. Text that is none of a number is that of its first digits, and
    /// base64 that is cut short ends in zeros.
    pub(crate) fn decode(self, text: &[u8]) -> Value {
        match self {
            Self::Decimal { .. } => {
                let digits = text.iter().skip_while(|byte| **byte == b' ');
                let digits = digits.map_while(|byte| (*byte as char).to_digit(10));
                Value::Uint(digits.fold(0, |number: u64, digit| {
                    let number = number.saturating_mul(10);
                    number.saturating_add(digit.into())
                }))
            }
            Self::Quoted => Value::from(&text[quoted(text)]),
            Self::Blanks => Value::from(text),
            Self::Base64 {
                skip,
                bytes,
                number,
            } => {
                let mut found = vec![0; usize::try_from(bytes).unwrap_or(0)];
                let sextets = text.iter().filter_map(|byte| sextet(*byte));
                for (index, value) in sextets.enumerate() {
                    for bit in 0..6 {
                        let at = (index * 6 + bit).checked_sub(usize::from(skip) * 8);
                        let byte = at.and_then(|at| found.get_mut(at / 8));
                        if let (Some(byte), Some(at)) = (byte, at) {
                            *byte |= (value >> (5 - bit) & 1) << (7 - at % 8);
                        }
                    }
                }
                match number {
                    Some(endian) => Value::Uint(endian.number(&found)),
                    None => Value::Bytes(found),
                }
            }
        }
    }

    /// Makes `text` stand for `value` and keeps what else it stands for. Bytes shorter than
    /// the field are padded with zeros.
    pub(crate) fn encode(self, text: &mut [u8], value: &Value) -> Result<(), EncodeError> {
        match (self, value) {
            (Self::Decimal { pad }, Value::Uint(value)) => {
                let digits = value.to_string();
                let room = text.len().checked_sub(digits.len());
                let too_long = EncodeError::TooLong(digits.len() as u64, text.len() as u64);
                let room = room.ok_or(too_long)?;
                let (digits_at, pad_at, pad) = match pad {
                    DecimalPad::Blanks => (0, digits.len(), b' '),
                    DecimalPad::Zeros => (room, 0, b'0'),
                };
                text[pad_at..pad_at + room].fill(pad);
                text[digits_at..digits_at + digits.len()].copy_from_slice(digits.as_bytes());
                Ok(())
            }
            (
                Self::Base64 {
                    skip,
                    bytes,
                    number: Some(endian),
                },
                Value::Uint(value),
            ) => {
                let count = usize::try_from(bytes.min(8)).unwrap_or(0);
                let mut word = value.to_be_bytes();
                let (over, word) = word.split_at_mut(8 - count);
                if over.iter().any(|byte| *byte != 0) {
                    let needed = u64::from(64 - value.leading_zeros()).div_ceil(8);
                    return Err(EncodeError::TooLong(needed, bytes));
                }
                if endian == Endian::Little {
                    word.reverse();
                }
                put_base64(text, skip, word);
                Ok(())
            }
            (
                Self::Base64 {
                    skip,
                    bytes,
                    number: None,
                },
                Value::Bytes(value),
            ) => {
                if value.len() as u64 > bytes {
                    return Err(EncodeError::TooLong(value.len() as u64, bytes));
                }
                let mut all = value.clone();
                all.resize(usize::try_from(bytes).unwrap_or(0), 0);
                put_base64(text, skip, &all);
                Ok(())
            }
            (Self::Quoted, Value::Bytes(value)) => {
                let room = text.len().saturating_sub(2);
                if value.len() > room || text.len() < 2 {
                    return Err(EncodeError::TooLong(value.len() as u64, room as u64));
                }
                text.fill(b' ');
                text[0] = b'"';
                text[1..=value.len()].copy_from_slice(value);
                text[value.len() + 1] = b'"';
                Ok(())
            }
            (Self::Blanks, Value::Bytes(value)) => {
                let room = text.len();
                if value.len() > room {
                    return Err(EncodeError::TooLong(value.len() as u64, room as u64));
                }
                text.fill(b' ');
                text[..value.len()].copy_from_slice(value);
                Ok(())
            }
            (Self::Quoted | Self::Blanks | Self::Base64 { number: None, .. }, Value::Uint(_)) => {
                Err(EncodeError::WrongType("text or bytes"))
            }
            (_, Value::Bytes(_)) => Err(EncodeError::WrongType("a number")),
        }
    }
}

/// What is between the first quote and the next one that no backslash precedes.
fn quoted(text: &[u8]) -> std::ops::Range<usize> {
    let mut escaped = false;
    let inner = text.iter().enumerate().skip(1);
    for (at, byte) in inner {
        match byte {
            b'"' if !escaped => return 1..at,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len().min(1)..text.len()
}

/// The six bits that a character of base64 stands for.
fn sextet(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// The character that stands for six bits.
fn character(sextet: u8) -> u8 {
    match sextet & 63 {
        value @ 0..26 => b'A' + value,
        value @ 26..52 => b'a' + (value - 26),
        value @ 52..62 => b'0' + (value - 52),
        62 => b'+',
        _ => b'/',
    }
}

/// Puts bytes into base64 text, behind the first `skip` bytes that it stands for.
fn put_base64(text: &mut [u8], skip: u8, bytes: &[u8]) {
    let characters = text
        .iter_mut()
        .filter_map(|byte| Some((sextet(*byte)?, byte)));
    for (index, (old, byte)) in characters.enumerate() {
        let mut value = old;
        for bit in 0..6 {
            let at = (index * 6 + bit).checked_sub(usize::from(skip) * 8);
            let Some((new, at)) = at.and_then(|at| Some((bytes.get(at / 8)?, at))) else {
                continue;
            };
            let mask = 1 << (5 - bit);
            let set = new >> (7 - at % 8) & 1 == 1;
            value = if set { value | mask } else { value & !mask };
        }
        if value != old {
            *byte = character(value);
        }
    }
}

/// A text of base64 in a file: where the bytes that it stands for are.
#[derive(Clone, Debug)]
pub(crate) struct Base64Text {
    lines: Arc<Vec<Line>>,
    /// Bytes that the text stands for.
    len: u64,
}

/// Characters that follow each other in the file.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Byte offset of the first one in the file.
    at: u64,
    /// How many characters come before it in the text.
    before: u64,
}

impl Base64Text {
    /// The most lines of a text that are looked at.
    const MOST_LINES: usize = 1 << 20;

    /// The text at byte `at` of a file. It ends with the first sign of padding.
    pub(crate) fn new(at: u64, text: &[u8]) -> Self {
        let mut lines = Vec::new();
        let mut count = 0;
        let mut within = false;
        for (offset, byte) in text.iter().enumerate() {
            let is_one = sextet(*byte).is_some();
            if *byte == b'=' || (is_one && !within && lines.len() == Self::MOST_LINES) {
                break;
            }
            if is_one && !within {
                lines.push(Line {
                    at: at.saturating_add(offset as u64),
                    before: count,
                });
            }
            within = is_one;
            count += u64::from(is_one);
        }
        Self {
            lines: Arc::new(lines),
            len: count * 6 / 8,
        }
    }

    /// Bytes that the text stands for.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Where in the file the character with this number is.
    fn character_at(&self, number: u64) -> Option<u64> {
        let after = self.lines.partition_point(|line| line.before <= number);
        let line = self.lines.get(after.checked_sub(1)?)?;
        line.at.checked_add(number - line.before)
    }

    /// The part of the file with `bytes` bytes from byte `offset` of the text on, as its
    /// offset, its length, and the bytes to skip there; `None` past the end.
    pub(crate) fn extent(&self, offset: u64, bytes: u64) -> Option<(u64, u64, u8)> {
        let end = offset.checked_add(bytes).filter(|end| *end <= self.len)?;
        let from = self.character_at(offset / 3 * 4)?;
        let last = self.character_at((end * 8).div_ceil(6).checked_sub(1)?)?;
        Some((from, last.checked_sub(from)? + 1, (offset % 3) as u8))
    }

    /// All bytes that `text` stands for, the text that it was made of.
    pub(crate) fn decode(&self, text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.len).unwrap_or(0));
        let (mut word, mut bits) = (0_u32, 0);
        let sextets = text.iter().take_while(|byte| **byte != b'=');
        for value in sextets.filter_map(|byte| sextet(*byte)) {
            word = word << 6 | u32::from(value);
            bits += 6;
            if bits >= 8 && (bytes.len() as u64) < self.len {
                bits -= 8;
                bytes.push((word >> bits) as u8);
            }
        }
        bytes
    }

    /// The `len` bytes from byte `offset` of the text on; zeros past its end.
    pub(crate) fn read(&self, source: &Store, offset: u64, len: usize) -> Vec<u8> {
        let there = self.len.saturating_sub(offset).min(len as u64);
        let mut bytes = match self.extent(offset, there) {
            Some((at, text_len, skip)) if there > 0 => {
                let text = source.read_vec(at, usize::try_from(text_len).unwrap_or(0));
                let encoding = Encoding::Base64 {
                    skip,
                    bytes: there,
                    number: None,
                };
                match encoding.decode(&text) {
                    Value::Bytes(bytes) => bytes,
                    Value::Uint(_) => Vec::new(),
                }
            }
            _ => Vec::new(),
        };
        bytes.resize(len, 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use proptest::prelude::*;

    use super::*;

    /// Base64 of `bytes` in lines of `width` characters.
    fn broken(bytes: &[u8], width: usize) -> Vec<u8> {
        let text = BASE64.encode(bytes);
        let lines = text.as_bytes().chunks(width);
        lines.flat_map(|line| [b"\n\t\t", line].concat()).collect()
    }

    proptest! {
        #[test]
        fn base64_changes_its_bytes_and_no_others(
            bytes in prop::collection::vec(any::<u8>(), 1..90), width in 1..20usize,
            from in 0..90usize, new in prop::collection::vec(any::<u8>(), 1..20),
        ) {
            let from = from % bytes.len();
            let count = new.len().min(bytes.len() - from);
            let text = broken(&bytes, width);
            let map = Base64Text::new(0, &text);
            prop_assert_eq!(map.len(), bytes.len() as u64);
            prop_assert_eq!(map.decode(&text), bytes.clone());
            let (at, len, skip) = map.extent(from as u64, count as u64).unwrap();
            let span = at as usize..(at + len) as usize;
            let encoding = Encoding::Base64 { skip, bytes: count as u64, number: None };
            let present = encoding.decode(&text[span.clone()]);
            prop_assert_eq!(present, Value::from(&bytes[from..from + count]));
            let mut changed = text.clone();
            encoding.encode(&mut changed[span], &Value::from(&new[..count])).unwrap();
            let mut expected = bytes.clone();
            expected[from..from + count].copy_from_slice(&new[..count]);
            prop_assert_eq!(changed, broken(&expected, width));
        }

        #[test]
        fn decimal_numbers_of_the_width_fit(value: u64, len in 1..20usize) {
            for pad in [DecimalPad::Blanks, DecimalPad::Zeros] {
                let encoding = Encoding::Decimal { pad };
                let bits = encoding.width_bits(len as u64);
                let value = if bits < 64 { value & ((1 << bits) - 1) } else { value };
                let mut text = vec![b'7'; len];
                let fits = encoding.encode(&mut text, &value.into());
                if bits < 64 {
                    prop_assert_eq!(fits, Ok(()));
                    prop_assert_eq!(encoding.decode(&text), value.into());
                }
            }
        }
    }

    #[test]
    fn numbers_keep_the_length_of_their_text() {
        let mut text = *b"4096";
        let blanks = Encoding::Decimal {
            pad: DecimalPad::Blanks,
        };
        blanks.encode(&mut text, &17.into()).unwrap();
        assert_eq!(&text, b"17  ");
        let zeros = Encoding::Decimal {
            pad: DecimalPad::Zeros,
        };
        zeros.encode(&mut text, &18.into()).unwrap();
        assert_eq!(&text, b"0018");
        assert_eq!(zeros.decode(&text), 18.into());
        let long = zeros.encode(&mut text, &12345.into());
        assert_eq!(long, Err(EncodeError::TooLong(5, 4)));
        assert!(zeros.encode(&mut text, &"1".into()).is_err());
        assert_eq!(zeros.decode(b"12x4"), 12.into());
        assert_eq!(zeros.decode(&[b'9'; 30]), u64::MAX.into());
    }

    #[test]
    fn text_is_padded_with_blanks() {
        let mut text = *b"name";
        Encoding::Blanks.encode(&mut text, &"xy".into()).unwrap();
        assert_eq!(&text, b"xy  ");
        assert!(Encoding::Blanks.encode(&mut text, &"12345".into()).is_err());
    }

    #[test]
    fn quoted_text_keeps_its_length() {
        let mut text = *b"\"abc\\\"d\"";
        let decoded = Encoding::Quoted.decode(&text);
        assert_eq!(decoded, "abc\\\"d".into());
        Encoding::Quoted.encode(&mut text, &"xy".into()).unwrap();
        assert_eq!(&text, b"\"xy\"    ");
        assert_eq!(Encoding::Quoted.decode(&text), "xy".into());
        let long = Encoding::Quoted.encode(&mut text, &"1234567".into());
        assert_eq!(long, Err(EncodeError::TooLong(7, 6)));
        assert_eq!(Encoding::Quoted.decode(b""), "".into());
        assert!(Encoding::Quoted.encode(&mut [0], &"".into()).is_err());
    }

    #[test]
    fn numbers_in_base64_have_their_bytes() {
        let mut text = broken(&[0; 9], 5);
        let map = Base64Text::new(0, &text);
        let (at, len, skip) = map.extent(2, 4).unwrap();
        let span = at as usize..(at + len) as usize;
        let encoding = Encoding::Base64 {
            skip,
            bytes: 4,
            number: Some(Endian::Big),
        };
        encoding
            .encode(&mut text[span.clone()], &0x0102_0304.into())
            .unwrap();
        assert_eq!(text, broken(&[0, 0, 1, 2, 3, 4, 0, 0, 0], 5));
        let long = encoding.encode(&mut text[span], &(1 << 32).into());
        assert_eq!(long, Err(EncodeError::TooLong(5, 4)));
        assert_eq!(map.extent(6, 4), None);
    }
}
