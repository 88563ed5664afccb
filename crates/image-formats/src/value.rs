//! The values of fields.

use std::fmt;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A number of up to 64 bits.
    Uint(u64),
    /// Text or raw bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// The number, unless the field holds bytes.
    #[must_use]
    pub fn as_uint(&self) -> Option<u64> {
        match self {
            Self::Uint(number) => Some(*number),
            Self::Bytes(_) => None,
        }
    }

    /// The bytes, unless the field holds a number.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Uint(_) => None,
            Self::Bytes(bytes) => Some(bytes),
        }
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Uint(number)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }
}

/// Order of the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Endian {
    /// Most significant byte first.
    Big,
    /// Least significant byte first.
    Little,
}

impl Endian {
    /// The number that up to 8 bytes stand for.
    #[must_use]
    pub fn number(self, bytes: &[u8]) -> u64 {
        let add = |number, byte: &u8| number << 8 | u64::from(*byte);
        match self {
            Self::Big => bytes.iter().fold(0, add),
            Self::Little => bytes.iter().rev().fold(0, add),
        }
    }

    /// Text in UTF-16.
    pub(crate) fn encode_utf16(self, text: &str) -> Vec<u8> {
        let unit = |unit: u16| match self {
            Self::Big => unit.to_be_bytes(),
            Self::Little => unit.to_le_bytes(),
        };
        text.encode_utf16().flat_map(unit).collect()
    }

    /// The text that UTF-16 stands for, up to the first zero; what is no UTF-16 is replaced.
    pub(crate) fn decode_utf16(self, bytes: &[u8]) -> String {
        let units = bytes.chunks_exact(2).map(|unit| self.number(unit) as u16);
        let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        String::from_utf16_lossy(&units)
    }
}

/// The big-endian number that up to 8 bytes stand for.
pub(crate) fn read_be(bytes: &[u8]) -> u64 {
    Endian::Big.number(bytes)
}

/// Numbers in decimal; bytes as quoted text where they are text, UTF-16 included, else in hex.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uint(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => escape(bytes, f),
        }
    }
}

/// A decimal or `0x` number is a number (`-1` is all ones), anything else is text;
/// `hex:` before pairs of digits gives raw bytes, `text:` keeps digits as text, `utf16le:` and
/// `utf16be:` encode text.
impl FromStr for Value {
    type Err = ValueSyntax;

    fn from_str(text: &str) -> Result<Self, ValueSyntax> {
        if let Some(digits) = text.strip_prefix("hex:") {
            let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes());
            return bytes.map(Self::Bytes).map_err(|_| ValueSyntax);
        }
        if let Some(text) = text.strip_prefix("text:") {
            return Ok(text.into());
        }
        for (prefix, endian) in [("utf16le:", Endian::Little), ("utf16be:", Endian::Big)] {
            if let Some(text) = text.strip_prefix(prefix) {
                return Ok(Self::Bytes(endian.encode_utf16(text)));
            }
        }
        Ok(match parse_number(text) {
            Some(number) => Self::Uint(number),
            None => text.into(),
        })
    }
}

/// Why a text is not a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'hex:' must be followed by pairs of hexadecimal digits")]
pub struct ValueSyntax;

fn parse_number(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let all_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        return all_digits
            .then(|| u64::from_str_radix(digits, 16).ok())
            .flatten();
    }
    if let Some(digits) = text.strip_prefix('-') {
        let magnitude: u64 = digits.parse().ok()?;
        return Some(magnitude.wrapping_neg());
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The text in UTF-16 that bytes hold, and its byte order, where it is plainly that: of at least
/// two characters, all printable and half of them ASCII, with nothing but zeros behind them.
fn utf16(bytes: &[u8]) -> Option<(String, &'static str)> {
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    let mut orders = [(Endian::Little, "UTF-16LE"), (Endian::Big, "UTF-16BE")].into_iter();
    orders.find_map(|(endian, name)| {
        let text = endian.decode_utf16(bytes);
        let units = text.encode_utf16().count();
        let rest = bytes.get(units * 2..)?;
        let ascii = text.chars().filter(char::is_ascii_graphic).count();
        let printable = |char: char| !char.is_control() && char != char::REPLACEMENT_CHARACTER;
        let plain = units >= 2 && ascii * 2 >= units && text.chars().all(printable);
        (plain && rest.iter().all(|byte| *byte == 0)).then_some((text, name))
    })
}

/// Shows bytes as quoted text when all are printable, without the zeros that pad it, else all of
/// them as `hex:…`; long ones cut.
fn escape(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const SHOWN: usize = 96;
    let trimmed = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    if trimmed == 0 && !bytes.is_empty() {
        return write!(f, "{} zero bytes", bytes.len());
    }
    let printable =
        |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
    let mut all = &bytes[..trimmed];
    let shown = &all[..all.len().min(SHOWN)];
    if shown.iter().all(printable) {
        write!(f, "\"{}\"", shown.escape_ascii())?;
    } else if let Some((text, encoding)) = utf16(bytes) {
        let shown: String = text.chars().take(SHOWN).collect();
        let more = if shown.len() < text.len() { "…" } else { "" };
        return write!(f, "\"{shown}\"{more} ({encoding})");
    } else {
        all = bytes;
        write!(f, "hex:{}", HEXLOWER.encode(&all[..all.len().min(SHOWN)]))?;
    }
    if all.len() > SHOWN {
        write!(f, "… ({} bytes)", bytes.len())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_text_and_hex() {
        let read = |text: &str| text.parse::<Value>();
        assert_eq!(read("12"), Ok(Value::Uint(12)));
        assert_eq!(read("0x1F"), Ok(Value::Uint(31)));
        assert_eq!(read("-1"), Ok(Value::Uint(u64::MAX)));
        assert_eq!(read("raw"), Ok("raw".into()));
        assert_eq!(read("text:12"), Ok("12".into()));
        assert_eq!(read("hex:00fF"), Ok(Value::Bytes(vec![0, 255])));
        assert_eq!(read("hex:0"), Err(ValueSyntax));
        assert_eq!(read("hex:+1"), Err(ValueSyntax));
        assert_eq!(
            read("18446744073709551616"),
            Ok("18446744073709551616".into())
        );
    }

    #[test]
    fn shows_bytes_readably() {
        let show = |bytes: &[u8]| Value::from(bytes).to_string();
        assert_eq!(show(b"qcow2"), "\"qcow2\"");
        assert_eq!(show(b"dirty\0\0"), "\"dirty\"");
        assert_eq!(show(&[0, 255]), "hex:00ff");
        // A UUID that ended with zeros lost them.
        assert_eq!(show(&[0xff, 1, 0]), "hex:ff0100");
        assert_eq!(show(&[0; 5]), "5 zero bytes");
        assert_eq!(show(b""), "\"\"");
    }

    #[test]
    fn reads_and_shows_utf16() {
        let show = |text: &str| text.parse::<Value>().unwrap().to_string();
        assert_eq!(show("utf16le:.\\a.vhd"), "\".\\a.vhd\" (UTF-16LE)");
        assert_eq!(show("utf16be:Übung"), "\"Übung\" (UTF-16BE)");
        let padded = [Endian::Big.encode_utf16("base"), vec![0; 504]].concat();
        assert_eq!(Value::Bytes(padded).to_string(), "\"base\" (UTF-16BE)");
        // A GUID, one character, and text with something behind it are none.
        for other in ["2dc27766f6234200", "0041", "41004200000043"] {
            let shown = show(&format!("hex:{other}"));
            assert!(shown.starts_with("hex:"), "{shown}");
        }
    }
}
