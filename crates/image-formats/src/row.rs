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

/// A row without named bits.
pub(crate) const fn row(
    name: &'static str,
    at: u64,
    bytes: u64,
    kind: Kind,
    rule: &'static str,
) -> Row {
    Row {
        name,
        at,
        bytes,
        kind,
        rule,
        bits: &[],
    }
}

/// Bits with a name.
pub(crate) const fn bits(
    name: &'static str,
    low: u8,
    bits: u8,
    kind: Kind,
    rule: &'static str,
) -> BitRow {
    BitRow {
        name,
        low,
        bits,
        kind,
        rule,
    }
}

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

/// The leaves of a structure of fixed layout that starts at byte `base`.
pub(crate) fn table_leaves(
    rows: &'static [Row],
    base: u64,
    endian: Endian,
    section: &'static str,
    leaves: &mut Vec<Leaf>,
) {
    for row in rows {
        let Some(offset) = base.checked_add(row.at) else {
            continue;
        };
        let textual = matches!(row.kind, Kind::Text | Kind::Bytes) || row.bytes > 8;
        let place = if textual {
            Place::Bytes {
                offset,
                len: row.bytes,
            }
        } else {
            word(
                offset,
                row.bytes as u8,
                endian,
                0,
                row.bytes as u8 * 8,
                false,
            )
        };
        leaves.push(Leaf {
            name: row.name.to_owned(),
            kind: row.kind,
            place,
            rule: row.rule,
            section,
        });
        bit_leaves(
            row.name,
            row.bits,
            offset,
            row.bytes as u8,
            endian,
            section,
            leaves,
        );
    }
}

/// The leaves of the named bits of the word at byte `offset`.
pub(crate) fn bit_leaves(
    prefix: &str,
    rows: &'static [BitRow],
    offset: u64,
    bytes: u8,
    endian: Endian,
    section: &'static str,
    leaves: &mut Vec<Leaf>,
) {
    leaves.extend(rows.iter().map(|row| Leaf {
        name: join(prefix, row.name),
        kind: row.kind,
        place: word(
            offset,
            bytes,
            endian,
            row.low,
            row.bits,
            row.kind == Kind::Offset,
        ),
        rule: row.rule,
        section,
    }));
}
