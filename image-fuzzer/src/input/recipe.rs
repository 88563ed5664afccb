//! What a test consists of, as it is stored: small, readable, and sufficient to replay it.
//!
//! A recipe names a valid image, the mutations made to it and the commands run on it.
//! It holds drawn values, not how they are drawn, so that a recipe
//! gives the same bytes on every machine and can be simplified piece by piece.

use std::path::Path;

use anyhow::{Context, Result, bail};
use data_encoding::HEXLOWER_PERMISSIVE;
use image_formats::Derivation;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::input::base::Base;
use crate::input::command::Command;
use crate::input::guard::Guard;

/// The fuzzer's name and version, as recipes carry it.
pub const FUZZER: &str = concat!("image-fuzzer ", env!("CARGO_PKG_VERSION"));

/// Whether recipes of `fuzzer` can be replayed: they hold what was drawn, so that other ways
/// of drawing do not matter.
pub fn is_readable(fuzzer: &str) -> bool {
    let earlier = ["image-fuzzer 0.2.", "image-fuzzer 0.3."];
    fuzzer == FUZZER || earlier.iter().any(|version| fuzzer.starts_with(version))
}

/// One test, replayable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The fuzzer that made it, with its version.
    pub fuzzer: String,
    /// The seed it was drawn from; kept for the record, not needed to replay.
    pub seed: String,
    /// The valid image to begin with.
    pub base: Base,
    /// The mutations, applied in order.
    pub edits: Vec<Mutation>,
    /// The commands, in order.
    pub commands: Vec<Command>,
    /// Whether each command gets a fresh copy of the image (the commands were
    /// given) or all work on the same one (they were drawn as a sequence).
    #[serde(default)]
    pub fresh_copies: bool,
    /// The guarding allocator that the commands run under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
}

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

impl Recipe {
    /// The recipe as indented JSON.
    ///
    /// # Errors
    ///
    /// It cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self).context("cannot write the recipe")?;
        text.push('\n');
        Ok(text)
    }

    /// Its size, to compare two examples of a finding: edits, words of its commands, bytes
    /// of its JSON.
    pub fn size(&self) -> (usize, usize, usize) {
        let words = self.commands.iter().map(|command| command.0.len()).sum();
        let text = serde_json::to_string(self).map_or(usize::MAX, |text| text.len());
        (self.edits.len(), words, text)
    }

    /// The recipe in the file `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not a recipe, or was made by another version of the
    /// fuzzer, whose images may differ.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read the recipe '{}'; name the folder of a finding or of a test",
                path.display()
            )
        })?;
        let recipe: Self = serde_json::from_str(&text)
            .with_context(|| format!("'{}' is not a recipe", path.display()))?;
        if !is_readable(&recipe.fuzzer) {
            bail!(
                "'{}' was made by {}, this is {FUZZER}: use that version to replay it",
                path.display(),
                recipe.fuzzer
            );
        }
        Ok(recipe)
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

    /// Other ways of drawing do not matter to what was drawn.
    #[test]
    fn recipes_of_earlier_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.json");
        let mut recipe = Recipe {
            fuzzer: FUZZER.into(),
            seed: "1/2".into(),
            base: crate::input::base::draw(&mut crate::rng::Rng::from_text("read")),
            edits: Vec::new(),
            commands: Vec::new(),
            guard: None,
            fresh_copies: false,
        };
        for (fuzzer, is_read) in [
            (FUZZER, true),
            ("image-fuzzer 0.2.0", true),
            ("image-fuzzer 0.2.7", true),
            ("image-fuzzer 0.3.0", true),
            ("image-fuzzer 0.1.0", false),
            ("image-fuzzer 9.0.0", false),
        ] {
            recipe.fuzzer = fuzzer.into();
            std::fs::write(&path, recipe.to_json().unwrap()).unwrap();
            assert_eq!(Recipe::read(&path).is_ok(), is_read, "{fuzzer}");
        }
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
