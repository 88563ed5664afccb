//! Structures of fixed layout: tables of rows, and the fields they stand for.

use crate::field::{Field, Kind, Place, word};
use crate::store::Store;
use crate::value::Endian;

/// A row of a table of fields: a structure of fixed layout is a list of these.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Name of the field within its structure.
    pub name: &'static str,
    /// Byte offset within the structure.
    pub at: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// Its meaning.
    pub kind: Kind,
    /// The rule it should obey.
    pub rule: &'static str,
    /// Named bits within it.
    pub bits: &'static [BitRow],
}

/// A named group of bits within a [`Row`] or a table entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BitRow {
    /// Name of the bits within their word.
    pub name: &'static str,
    /// Lowest bit.
    pub low: u8,
    /// Number of bits.
    pub bits: u8,
    /// Their meaning.
    pub kind: Kind,
    /// The rule they should obey.
    pub rule: &'static str,
}

/// A table of [`Row`]s, one a line: name, byte offset, length in bytes, kind, rule, and
/// named bits where there are some.
macro_rules! rows {
    (@bits) => { &[] };
    (@bits $bits:expr) => { $bits };
    ($($name:literal, $at:literal, $bytes:literal, $kind:ident, $rule:literal $(, $bits:expr)?;)*) => {
        &[$($crate::row::Row {
            name: $name,
            at: $at,
            bytes: $bytes,
            kind: $crate::field::Kind::$kind,
            rule: $rule,
            bits: $crate::row::rows!(@bits $($bits)?),
        }),*]
    };
}
pub(crate) use rows;

/// A table of [`BitRow`]s, one a line: name, lowest bit, number of bits, kind, rule.
macro_rules! bit_rows {
    ($($name:literal, $low:literal, $bits:literal, $kind:ident, $rule:literal;)*) => {
        &[$($crate::row::BitRow {
            name: $name,
            low: $low,
            bits: $bits,
            kind: $crate::field::Kind::$kind,
            rule: $rule,
        }),*]
    };
}
pub(crate) use bit_rows;

/// A field within a structure, before its value is read.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    /// Name within the structure; empty for the structure itself.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) place: Place,
    pub(crate) rule: &'static str,
    pub(crate) section: &'static str,
}

impl Leaf {
    /// The field at `prefix`, with its value.
    pub(crate) fn field(&self, prefix: &str, source: &Store) -> Field {
        Field {
            path: join(prefix, &self.name),
            kind: self.kind,
            place: self.place,
            width_bits: self.place.width_bits(),
            offset: self.place.offset(),
            value: self.place.get(source),
            rule: self.rule,
            section: self.section,
        }
    }
}

/// `prefix.name`, or the one that is not empty.
pub(crate) fn join(prefix: &str, name: &str) -> String {
    match (prefix.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => prefix.to_owned(),
        _ => format!("{prefix}.{name}"),
    }
}

/// The leaves of a structure, as they are found.
#[derive(Debug)]
pub(crate) struct Leaves {
    /// The byte order of numbers.
    pub(crate) endian: Endian,
    /// The section of the specification that the next leaves are from.
    pub(crate) section: &'static str,
    /// What was found.
    pub(crate) all: Vec<Leaf>,
}

impl Leaves {
    /// None yet.
    pub(crate) fn new(endian: Endian, section: &'static str) -> Self {
        Self {
            endian,
            section,
            all: Vec::new(),
        }
    }

    /// One leaf.
    pub(crate) fn push(&mut self, name: &str, kind: Kind, place: Place, rule: &'static str) {
        self.all.push(Leaf {
            name: name.to_owned(),
            kind,
            place,
            rule,
            section: self.section,
        });
    }

    /// A run of bytes.
    pub(crate) fn run(
        &mut self,
        name: &str,
        offset: u64,
        len: u64,
        kind: Kind,
        rule: &'static str,
    ) {
        self.push(name, kind, Place::Bytes { offset, len }, rule);
    }

    /// An entry of 8 bytes of a table, and the named bits within it.
    pub(crate) fn entry(&mut self, offset: u64, rule: &'static str, bits: &[BitRow]) {
        self.push("", Kind::Entry, Place::number(offset, 8), rule);
        self.bits("", bits, offset, 8);
    }

    /// A structure of fixed layout that starts at byte `base`.
    pub(crate) fn table(&mut self, rows: &'static [Row], base: u64) {
        for row in rows {
            let Some(offset) = base.checked_add(row.at) else {
                continue;
            };
            let (len, bytes) = (row.bytes, row.bytes as u8);
            let textual = matches!(row.kind, Kind::Text | Kind::Bytes) || len > 8;
            let place = if textual {
                Place::Bytes { offset, len }
            } else {
                word(offset, bytes, self.endian, 0, bytes * 8, false)
            };
            self.push(row.name, row.kind, place, row.rule);
            self.bits(row.name, row.bits, offset, bytes);
        }
    }

    /// The named bits of the word of `bytes` bytes at byte `offset`.
    pub(crate) fn bits(&mut self, prefix: &str, rows: &[BitRow], offset: u64, bytes: u8) {
        for row in rows {
            let in_position = row.kind == Kind::Offset;
            let place = word(offset, bytes, self.endian, row.low, row.bits, in_position);
            self.push(&join(prefix, row.name), row.kind, place, row.rule);
        }
    }
}
