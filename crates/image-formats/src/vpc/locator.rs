//! Parent locators: what the parent is called on each platform.

use super::layout::{DIFFERENCING, Dynamic, Layout, SECTOR};
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::{Big, Little};

/// Locators in a dynamic header.
pub(super) const LOCATORS: u64 = 8;
/// Where they are in it.
pub(super) const LOCATORS_AT: u64 = 576;
/// Bytes in a locator.
pub(super) const LOCATOR_BYTES: u64 = 24;
/// The longest name that is read, in bytes.
const LONGEST: u64 = 4096;

/// The platforms of locators, in the order in which their names are tried.
pub(super) const KNOWN: [&[u8; 4]; 6] = [b"W2ru", b"W2ku", b"MacX", b"Wi2r", b"Wi2k", b"Mac "];

/// A locator that is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Locator {
    pub(super) index: u64,
    /// Where it is.
    pub(super) at: u64,
    pub(super) code: [u8; 4],
    /// How much is kept free for its name, in sectors or in bytes.
    pub(super) space: u64,
    pub(super) whole_length: u64,
    /// Bytes of the name that are read.
    pub(super) length: u64,
    pub(super) reserved: u64,
    pub(super) offset: u64,
}

/// The locators of an image that are used.
pub(super) fn read(source: &Store, dynamic: &Dynamic) -> Vec<Locator> {
    let locator = |index: u64| {
        let at = dynamic.at + LOCATORS_AT + index * LOCATOR_BYTES;
        let value = |offset, bytes| number(source, at + offset, bytes, Big);
        let mut code = [0; 4];
        source.read(at, &mut code);
        let whole_length = value(8, 4);
        Locator {
            index,
            at,
            code,
            space: value(4, 4),
            whole_length,
            length: whole_length.min(LONGEST),
            reserved: value(12, 4),
            offset: value(16, 8),
        }
    };
    let used = |locator: &Locator| locator.code != [0; 4];
    (0..LOCATORS).map(locator).filter(used).collect()
}

impl Locator {
    /// Bytes that are kept free: Virtual PC counts bytes, the specification sectors.
    pub(super) fn space_bytes(&self) -> u64 {
        match self.space.is_multiple_of(SECTOR) {
            true => self.space,
            false => self.space * SECTOR,
        }
    }

    /// The name of the parent: with slashes, where it is a path.
    fn name(&self, source: &Store) -> Option<Vec<u8>> {
        let bytes = source.read_vec(self.offset, self.length as usize);
        let text = || String::from_utf8_lossy(&bytes).into_owned();
        let name = match &self.code {
            b"W2ru" | b"W2ku" => Little.decode_utf16(&bytes).replace('\\', "/"),
            b"Wi2r" | b"Wi2k" => text().replace('\\', "/"),
            b"MacX" => {
                let url = text();
                let path = url.strip_prefix("file://").unwrap_or(&url);
                path.strip_prefix("localhost").unwrap_or(path).to_owned()
            }
            // An alias is made of numbers.
            _ => return None,
        };
        let name = name.trim_end_matches('\0');
        let name = name.strip_prefix("./").unwrap_or(name);
        (!name.is_empty()).then(|| name.as_bytes().to_vec())
    }
}

/// The names of the parent, in the order in which they are tried: those of the locators, and
/// last the one in the dynamic header.
pub(super) fn names(source: &Store, layout: &Layout) -> Vec<Vec<u8>> {
    let Some(dynamic) = layout.dynamic.filter(|_| layout.kind() == DIFFERENCING) else {
        return Vec::new();
    };
    let mut locators = read(source, &dynamic);
    let rank = |locator: &Locator| KNOWN.iter().position(|known| **known == locator.code);
    locators.retain(|locator| rank(locator).is_some());
    locators.sort_by_key(rank);
    let named = locators.iter().filter_map(|locator| locator.name(source));
    let mut names: Vec<Vec<u8>> = named.collect();
    let plain = Big.decode_utf16(&source.read_vec(dynamic.at + 64, 512));
    if !plain.is_empty() {
        names.push(plain.replace('\\', "/").into_bytes());
    }
    names.dedup();
    names
}
