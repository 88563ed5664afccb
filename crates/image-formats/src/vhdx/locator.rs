//! The parent locator: keys and values that name the parent of a differencing file.

use super::layout::{Known, Layout, guid_at};
use crate::guid::{self, Guid, guid};
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// The locator of a parent that is a VHDX file.
pub(super) const VHDX_LOCATOR: Guid = guid(0xb04a_efb7, 0xd19e, 0x4a81, 0xb789_25b8_e944_5913);
/// The keys of paths, in the order in which they are tried.
pub(super) const PATHS: [&str; 3] = ["relative_path", "volume_path", "absolute_win32_path"];
/// The keys of the identity of the parent.
pub(super) const LINKAGES: [&str; 2] = ["parent_linkage", "parent_linkage2"];
/// The most keys that are read.
const MAX_KEYS: u64 = 64;

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    /// Where its entry is.
    pub(super) at: u64,
    /// Byte offset in the item and length of the key, then those of the value.
    pub(super) places: [(u64, u64); 2],
    pub(super) key: String,
    pub(super) value: String,
}

/// A parent locator.
#[derive(Clone, Debug)]
pub(super) struct Locator {
    /// Where it is.
    pub(super) at: u64,
    pub(super) kind: Guid,
    pub(super) reserved: u64,
    pub(super) pairs: Vec<Pair>,
}

impl Locator {
    /// Reads the parent locator, if there is one.
    pub(super) fn read(source: &Store, layout: &Layout) -> Option<Self> {
        let at = layout.item(Known::ParentLocator)?;
        let pair = |index: u64| {
            let entry = at + 20 + index * 12;
            let value = |offset, bytes| number(source, entry + offset, bytes, Little);
            let places = [(value(0, 4), value(8, 2)), (value(4, 4), value(10, 2))];
            let text = |(offset, len): (u64, u64)| {
                let bytes = source.read_vec(at + offset, len as usize);
                Little.decode_utf16(&bytes)
            };
            Pair {
                at: entry,
                places,
                key: text(places[0]),
                value: text(places[1]),
            }
        };
        let count = number(source, at + 18, 2, Little).min(MAX_KEYS);
        Some(Self {
            at,
            kind: guid_at(source, at),
            reserved: number(source, at + 16, 2, Little),
            pairs: (0..count).map(pair).collect(),
        })
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let mut pairs = self.pairs.iter();
        let pair = pairs.find(|pair| pair.key == key)?;
        Some(&pair.value)
    }

    /// The names of the parent, in the order in which they are tried: with slashes, and
    /// without the prefix of Windows' long names.
    pub(super) fn paths(&self) -> Vec<Vec<u8>> {
        let path = |key: &str| {
            let path = self.get(key)?.replace('\\', "/");
            let path = path.trim_start_matches("//?/").trim_start_matches("./");
            Some(path.as_bytes().to_vec())
        };
        PATHS.into_iter().filter_map(path).collect()
    }

    /// The `DataWriteGuid` that the parent may have.
    pub(super) fn linkages(&self) -> Vec<Guid> {
        let linkage = |key: &str| guid::parse(self.get(key)?);
        LINKAGES.into_iter().filter_map(linkage).collect()
    }
}

/// Where the entries of a locator, and the keys and values, are.
pub(super) fn bytes(kind: &Guid, pairs: &[(&str, String)]) -> Vec<u8> {
    let mut head = kind.to_vec();
    head.extend_from_slice(&[0, 0]);
    head.extend_from_slice(&(pairs.len() as u16).to_le_bytes());
    let mut texts = Vec::new();
    let table = head.len() + pairs.len() * 12;
    let add = |text: &str, texts: &mut Vec<u8>| {
        let at = (table + texts.len()) as u32;
        let text = Little.encode_utf16(text);
        texts.extend_from_slice(&text);
        (at, text.len() as u16)
    };
    for (key, value) in pairs {
        let (key_at, key_len) = add(key, &mut texts);
        let (value_at, value_len) = add(value, &mut texts);
        head.extend_from_slice(&key_at.to_le_bytes());
        head.extend_from_slice(&value_at.to_le_bytes());
        head.extend_from_slice(&key_len.to_le_bytes());
        head.extend_from_slice(&value_len.to_le_bytes());
    }
    [head, texts].concat()
}
