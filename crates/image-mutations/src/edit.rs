//! Edits: changes to an image, with their values written out, as recipes store them.

use data_encoding::HEXLOWER_PERMISSIVE;
use image_formats::Derivation;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One edit and the family it was drawn from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutation {
    /// The family's name (`image-fuzzer --help` lists them).
    pub family: String,
    /// What is changed.
    pub edit: Edit,
}

/// One change to an image, with its values written out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Edit {
    /// A field, by its path, to a number.
    Set {
        /// The field, as `image-fuzzer show` names it.
        path: String,
        /// Its new value.
        value: Number,
    },
    /// A field that holds text, by its path. Its length field is not changed.
    Text {
        /// The field, as `image-fuzzer show` names it.
        path: String,
        /// Its new value.
        text: String,
    },
    /// The header extensions, rewritten after the header.
    Extensions {
        /// Every extension, in order; none is added at the end.
        list: Vec<Extension>,
    },
    /// Bytes of the file, in place.
    Bytes {
        /// Where in the file, in bytes.
        at: Number,
        /// What is written there.
        bytes: Hex,
    },
    /// The length of the file, truncated or extended with a hole.
    Length {
        /// The new length in bytes.
        bytes: Number,
    },
    /// What follows from other bytes, corrected as a writer would.
    Recompute {
        /// What of it.
        what: Vec<Recomputed>,
    },
}

/// What follows from other bytes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recomputed {
    /// Fields that count, measure or repeat others.
    Values,
    /// Copies of structures, such as a second header.
    Copies,
    /// Checksums.
    Checksums,
}

impl From<Recomputed> for Derivation {
    fn from(what: Recomputed) -> Self {
        match what {
            Recomputed::Values => Self::Value,
            Recomputed::Copies => Self::Copy,
            Recomputed::Checksums => Self::Checksum,
        }
    }
}

/// A header extension as it is written, whether or not its length is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// The extension's type.
    pub magic: Number,
    /// The length it claims, in bytes.
    pub length: Number,
    /// Its data, padded to a multiple of 8 bytes when written.
    pub data: Hex,
}

/// A number, in JSON decimal below 1024 and else a string in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub u64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 < 1024 {
            serializer.serialize_u64(self.0)
        } else {
            serializer.serialize_str(&format!("{:#x}", self.0))
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Plain(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Plain(value) => Ok(Self(value)),
            Either::Text(text) => text
                .strip_prefix("0x")
                .map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16))
                .map(Self)
                .map_err(|_| serde::de::Error::custom(format!("'{text}' is not a number"))),
        }
    }
}

/// Bytes, in JSON a string of hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not an even number of hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bytes_survive_json() {
        let edits = vec![
            Edit::Set {
                path: "header.l1_size".into(),
                value: Number(u64::MAX),
            },
            Edit::Bytes {
                at: Number(7),
                bytes: Hex(vec![0, 255]),
            },
        ];
        let text = serde_json::to_string(&edits).unwrap();
        assert!(text.contains(r#""value":"0xffffffffffffffff""#), "{text}");
        assert!(text.contains(r#""bytes":"00ff""#), "{text}");
        assert_eq!(serde_json::from_str::<Vec<Edit>>(&text).unwrap(), edits);
        let upper = text.replace("00ff", "00FF");
        assert_eq!(serde_json::from_str::<Vec<Edit>>(&upper).unwrap(), edits);
    }

    #[test]
    fn malformed_numbers_and_bytes_are_refused() {
        for bad in [r#""0x""#, r#""1g""#, r#""-1""#] {
            assert!(serde_json::from_str::<Number>(bad).is_err(), "{bad}");
        }
        for bad in [r#""0""#, r#""zz""#, "\"\u{e9}\""] {
            assert!(serde_json::from_str::<Hex>(bad).is_err(), "{bad}");
        }
    }
}
