//! What a decoded image of a format consists of: records of fixed layout, runs of bytes,
//! tables, tables that a table leads to, and fields that follow from others.

use std::sync::Arc;

use crate::defect::Rule;
use crate::encoded::{Base64Text, Encoding};
use crate::field::{Field, Kind, Place, word};
use crate::io::ReadAt as _;
use crate::row::{BitRow, Leaf, Leaves, Row};
use crate::store::Store;
use crate::value::{Endian, Value};

/// Most entries of a table that are read, and most tables that one table leads to.
const MAX_ENTRIES: u64 = 1 << 20;

/// What an image consists of, in the order in which its fields are listed.
#[derive(Clone, Debug)]
pub(crate) struct Structure {
    endian: Endian,
    section: &'static str,
    /// The text that the next parts are in, where they are in one.
    text: Option<Base64Text>,
    parts: Vec<Part>,
    derived: Vec<Derived>,
}

/// A part of an image.
#[derive(Clone, Debug)]
enum Part {
    Record(Record),
    Run(Leaf),
    Table(Table),
    Nested(Nested),
}

/// A structure of fixed layout somewhere in the file.
#[derive(Clone, Debug)]
struct Record {
    name: String,
    at: u64,
    rows: &'static [Row],
    section: &'static str,
    text: Option<Base64Text>,
}

/// A table of entries of one size.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    name: String,
    at: u64,
    entries: u64,
    /// Bytes from one entry to the next.
    stride: u64,
    entry: Entry,
    /// The number that an unused entry has.
    unused: u64,
    section: &'static str,
    text: Option<Base64Text>,
}

/// What an entry of a table is.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// A number, with named bits where there are some.
    Number {
        kind: Kind,
        rule: &'static str,
        bits: &'static [BitRow],
    },
    /// A structure of fixed layout.
    Record(&'static [Row]),
}

impl Table {
    /// A table at byte `at` of `entries` numbers of `bytes` bytes, 1 to 8, which may be longer
    /// than the file.
    pub(crate) fn of_numbers(
        name: impl Into<String>,
        (at, entries, bytes): (u64, u64, u8),
        kind: Kind,
        rule: &'static str,
    ) -> Self {
        Self {
            name: name.into(),
            at,
            entries,
            stride: u64::from(bytes.clamp(1, 8)),
            entry: Entry::Number {
                kind,
                rule,
                bits: &[],
            },
            unused: 0,
            section: "",
            text: None,
        }
    }

    /// A table at byte `at` of `entries` structures, one every `stride` bytes.
    pub(crate) fn of_records(
        name: impl Into<String>,
        (at, entries, stride): (u64, u64, u64),
        rows: &'static [Row],
    ) -> Self {
        Self {
            name: name.into(),
            at,
            entries,
            stride: stride.max(1),
            entry: Entry::Record(rows),
            unused: 0,
            section: "",
            text: None,
        }
    }

    /// With named bits in each number.
    pub(crate) fn with_bits(mut self, rows: &'static [BitRow]) -> Self {
        if let Entry::Number { bits, .. } = &mut self.entry {
            *bits = rows;
        }
        self
    }

    /// Where unused entries have this number instead of 0.
    pub(crate) fn unused(self, unused: u64) -> Self {
        Self { unused, ..self }
    }

    /// Bounded by the length of the file.
    fn bounded(mut self, len: u64) -> Self {
        let len = self.text.as_ref().map_or(len, Base64Text::len);
        let room = len.saturating_sub(self.at) / self.stride;
        self.entries = self.entries.min(room).min(MAX_ENTRIES);
        self
    }

    /// The fields of an entry, the whole one first.
    fn leaves(&self, index: u64, endian: Endian) -> Vec<Leaf> {
        let mut leaves = Leaves::new(endian, self.section);
        let offset = index.checked_mul(self.stride);
        let offset = offset.and_then(|offset| self.at.checked_add(offset));
        let Some(offset) = offset.filter(|_| index < self.entries) else {
            return leaves.all;
        };
        match self.entry {
            Entry::Record(rows) => leaves.table(rows, offset),
            Entry::Number { kind, rule, bits } => {
                let bytes = self.stride as u8;
                let kind = if bits.is_empty() { kind } else { Kind::Entry };
                let place = word(offset, bytes, endian, 0, bytes * 8, false);
                leaves.push("", kind, place, rule);
                leaves.bits("", bits, offset, bytes);
            }
        }
        within(self.text.as_ref(), leaves.all)
    }

    /// Whether an entry holds anything.
    fn is_used(&self, index: u64, source: &Store, endian: Endian) -> bool {
        let at = self.at.saturating_add(index.saturating_mul(self.stride));
        let len = self.stride.min(512) as usize;
        let bytes = match &self.text {
            Some(text) => text.read(source, at, len),
            None => source.read_vec(at, len),
        };
        match self.entry {
            Entry::Record(_) => bytes.iter().any(|byte| *byte != 0),
            Entry::Number { .. } => endian.number(&bytes) != self.unused,
        }
    }

    /// The indexes of entries that are used, and of the first one after each of them.
    fn listed<'a>(&'a self, source: &'a Store, endian: Endian) -> impl Iterator<Item = u64> + 'a {
        let mut after_used = true;
        (0..self.entries).filter(move |index| {
            let used = self.is_used(*index, source, endian);
            std::mem::replace(&mut after_used, used) || used
        })
    }

    fn fields<'a>(
        &'a self,
        source: &'a Store,
        now: &'a Store,
        endian: Endian,
    ) -> impl Iterator<Item = Field> + 'a {
        self.listed(source, endian).flat_map(move |index| {
            let prefix = format!("{}[{index}]", self.name);
            let leaves = self.leaves(index, endian).into_iter();
            leaves.map(move |leaf| leaf.field(&prefix, now))
        })
    }

    /// The leaf that `rest` of a path means, from the name of the table on, and the path of
    /// its entry.
    fn find(&self, path: &str, endian: Endian) -> Option<(String, Leaf)> {
        let (index, rest) = indexed(path, &self.name)?;
        let leaf = rest.strip_prefix('.').unwrap_or(rest);
        if leaf.is_empty() != rest.is_empty() {
            return None;
        }
        let mut leaves = self.leaves(index, endian).into_iter();
        let found = leaves.find(|found| found.name == leaf)?;
        Some((format!("{}[{index}]", self.name), found))
    }
}

/// The leaves with their places in the file, where they were found in a text. Parts of words
/// have none there.
fn within(text: Option<&Base64Text>, leaves: Vec<Leaf>) -> Vec<Leaf> {
    let Some(text) = text else {
        return leaves;
    };
    let placed = leaves.into_iter().filter_map(|leaf| {
        let place = match leaf.place {
            Place::Bits {
                offset,
                bytes,
                endian,
                bits,
                ..
            } if bits == bytes * 8 => (offset, u64::from(bytes), Some(endian)),
            Place::Bytes { offset, len } => (offset, len, None),
            _ => return None,
        };
        let (offset, bytes, number) = place;
        let (offset, len, skip) = text.extent(offset, bytes)?;
        let place = Place::Encoded {
            offset,
            len,
            encoding: Encoding::Base64 {
                skip,
                bytes,
                number,
            },
        };
        Some(Leaf { place, ..leaf })
    });
    placed.collect()
}

/// The index behind `name` in `path`, and what follows it.
fn indexed<'p>(path: &'p str, name: &str) -> Option<(u64, &'p str)> {
    let rest = path.strip_prefix(name)?.strip_prefix('[')?;
    let (index, rest) = rest.split_once(']')?;
    Some((index.parse().ok()?, rest))
}

/// The tables that the entries of another table lead to.
#[derive(Clone)]
pub(crate) struct Nested {
    /// The name of each of them.
    name: &'static str,
    /// How many there can be.
    count: u64,
    /// Where the table with this number is; `None` where there is none.
    find: Arc<dyn Fn(&Store, u64) -> Option<u64> + Send + Sync>,
    /// What each of them is; it stands at byte 0 here.
    inner: Table,
}

impl std::fmt::Debug for Nested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nested")
            .field("name", &self.name)
            .field("count", &self.count)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl Nested {
    /// Up to `count` tables called `name[i].entry`, each as `inner` says, whose place is not
    /// looked at; `find` tells at which byte table i is, where there is one.
    pub(crate) fn new(
        name: &'static str,
        count: u64,
        inner: Table,
        find: impl Fn(&Store, u64) -> Option<u64> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            count: count.min(MAX_ENTRIES),
            find: Arc::new(find),
            inner,
        }
    }

    /// Table `index`, where the original bytes say.
    fn table(&self, index: u64, original: &Store) -> Option<Table> {
        if index >= self.count {
            return None;
        }
        let at = (self.find)(original, index)?;
        let table = Table {
            at,
            name: format!("{}[{index}].entry", self.name),
            ..self.inner.clone()
        };
        Some(table.bounded(original.len()))
    }
}

/// Why a field follows from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Derivation {
    /// It counts, measures or repeats what another field says.
    Value,
    /// It is a copy of a structure, such as a second header.
    Copy,
    /// It is a checksum.
    Checksum,
}

/// A field that follows from other bytes of the image.
#[derive(Clone)]
pub(crate) struct Derived {
    pub(crate) path: String,
    pub(crate) place: Place,
    pub(crate) why: Derivation,
    pub(crate) rule: Rule,
    wanted: Arc<dyn Fn(&Store) -> Value + Send + Sync>,
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Derived")
            .field("path", &self.path)
            .field("why", &self.why)
            .finish_non_exhaustive()
    }
}

impl Derived {
    /// What it should hold, where it holds something else.
    pub(crate) fn wrong(&self, bytes: &Store) -> Option<Value> {
        let wanted = (self.wanted)(bytes);
        (self.place.get(bytes) != wanted).then_some(wanted)
    }
}

impl Structure {
    /// One of numbers in this byte order.
    pub(crate) fn new(endian: Endian) -> Self {
        Self {
            endian,
            section: "",
            text: None,
            parts: Vec::new(),
            derived: Vec::new(),
        }
    }

    /// The section of the specification that the next parts are from.
    pub(crate) fn section(mut self, section: &'static str) -> Self {
        self.section = section;
        self
    }

    /// The text that the next records, tables and runs of bytes are in: their offsets are within
    /// what it stands for. `None` for the file itself.
    pub(crate) fn within(mut self, text: Option<Base64Text>) -> Self {
        self.text = text;
        self
    }

    /// Adds a structure of fixed layout at byte `at`.
    pub(crate) fn record(mut self, name: &str, at: u64, rows: &'static [Row]) -> Self {
        self.parts.push(Part::Record(Record {
            name: name.to_owned(),
            at,
            rows,
            section: self.section,
            text: self.text.clone(),
        }));
        self
    }

    /// Adds a field at any place.
    pub(crate) fn leaf(mut self, name: &str, kind: Kind, place: Place, rule: &'static str) -> Self {
        let leaf = Leaf {
            name: name.to_owned(),
            kind,
            place,
            rule,
            section: self.section,
        };
        let leaves = within(self.text.as_ref(), vec![leaf]);
        self.parts.extend(leaves.into_iter().map(Part::Run));
        self
    }

    /// Adds a run of text or bytes, where it has any.
    pub(crate) fn run(
        self,
        name: &str,
        (offset, len): (u64, u64),
        kind: Kind,
        rule: &'static str,
    ) -> Self {
        if len == 0 {
            return self;
        }
        self.leaf(name, kind, Place::Bytes { offset, len }, rule)
    }

    /// Adds a table.
    pub(crate) fn table(mut self, table: Table) -> Self {
        let (section, text) = (self.section, self.text.clone());
        let table = Table {
            section,
            text,
            ..table
        };
        self.parts.push(Part::Table(table));
        self
    }

    /// Adds the tables that another one leads to.
    pub(crate) fn nested(mut self, mut nested: Nested) -> Self {
        nested.inner.section = self.section;
        self.parts.push(Part::Nested(nested));
        self
    }

    /// Adds what the field at `path`, which was added before, must hold: `wanted` of the bytes.
    pub(crate) fn derived(
        mut self,
        path: &str,
        why: Derivation,
        rule: Rule,
        wanted: impl Fn(&Store) -> Value + Send + Sync + 'static,
    ) -> Self {
        if let Some((_, leaf)) = self.find(path, &Store::new()) {
            self.derived.push(Derived {
                path: path.to_owned(),
                place: leaf.place,
                why,
                rule,
                wanted: Arc::new(wanted),
            });
        }
        self
    }

    /// Adds a signature of the format: the value that the field at `path` must have.
    pub(crate) fn signature(self, path: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.derived(
            path,
            Derivation::Value,
            crate::tables::SIGNATURE,
            move |_| value.clone(),
        )
    }

    /// Adds the checksum at `path`, computed by `sum` over `len` bytes from byte `at` on with
    /// the field itself taken as zeros.
    pub(crate) fn checksum(
        self,
        path: &str,
        rule: Rule,
        (at, len): (u64, usize),
        sum: fn(&[u8]) -> u32,
    ) -> Self {
        let Some((_, leaf)) = self.find(path, &Store::new()) else {
            return self;
        };
        let (offset, width) = (leaf.place.offset(), leaf.place.width_bits() / 8);
        self.derived(path, Derivation::Checksum, rule, move |bytes| {
            let mut covered = bytes.read_vec(at, len);
            let within = offset.checked_sub(at);
            let within = within.and_then(|within| usize::try_from(within).ok());
            let itself = within.and_then(|from| covered.get_mut(from..from + width as usize));
            if let Some(itself) = itself {
                itself.fill(0);
            }
            Value::Uint(sum(&covered).into())
        })
    }

    /// Adds a copy called `name` at byte `to` of the `len` bytes at byte `from`.
    pub(crate) fn copy(mut self, name: &str, rule: Rule, (from, to, len): (u64, u64, u64)) -> Self {
        self.derived.push(Derived {
            path: name.to_owned(),
            place: Place::Bytes { offset: to, len },
            why: Derivation::Copy,
            rule,
            wanted: Arc::new(move |bytes| Place::Bytes { offset: from, len }.get(bytes)),
        });
        self
    }

    /// Bounds all tables by the length of the file.
    pub(crate) fn bounded(mut self, len: u64) -> Self {
        for part in &mut self.parts {
            if let Part::Table(table) = part {
                *table = table.clone().bounded(len);
            }
        }
        self
    }

    /// The fields that follow from others, those first that others follow from.
    pub(crate) fn all_derived(&self) -> Vec<&Derived> {
        let mut all: Vec<&Derived> = self.derived.iter().collect();
        all.sort_by_key(|derived| derived.why);
        all
    }

    /// The fields, with the values that `now` has; `original` are the bytes that the structure
    /// was found in.
    pub(crate) fn fields<'a>(
        &'a self,
        original: &'a Store,
        now: &'a Store,
    ) -> impl Iterator<Item = Field> + 'a {
        self.parts
            .iter()
            .flat_map(move |part| -> Box<dyn Iterator<Item = Field> + 'a> {
                match part {
                    Part::Record(record) => {
                        let leaves = self.leaves(record).into_iter();
                        Box::new(leaves.map(move |leaf| leaf.field(&record.name, now)))
                    }
                    Part::Run(leaf) => Box::new(std::iter::once(leaf.field("", now))),
                    Part::Table(table) => Box::new(table.fields(original, now, self.endian)),
                    Part::Nested(nested) => Box::new(self.nested_fields(nested, original, now)),
                }
            })
    }

    fn nested_fields<'a>(
        &'a self,
        nested: &'a Nested,
        original: &'a Store,
        now: &'a Store,
    ) -> impl Iterator<Item = Field> + 'a {
        (0..nested.count).flat_map(move |index| {
            let table = nested.table(index, original).into_iter();
            table.flat_map(move |table| {
                let listed: Vec<u64> = table.listed(original, self.endian).collect();
                listed.into_iter().flat_map(move |entry| {
                    let prefix = format!("{}[{entry}]", table.name);
                    let leaves = table.leaves(entry, self.endian).into_iter();
                    leaves.map(move |leaf| leaf.field(&prefix, now))
                })
            })
        })
    }

    fn leaves(&self, record: &Record) -> Vec<Leaf> {
        let mut leaves = Leaves::new(self.endian, record.section);
        leaves.table(record.rows, record.at);
        within(record.text.as_ref(), leaves.all)
    }

    /// The leaf at `path`, and the path of the structure that it is in.
    pub(crate) fn find(&self, path: &str, original: &Store) -> Option<(String, Leaf)> {
        self.parts.iter().find_map(|part| match part {
            Part::Record(record) => {
                let name = path.strip_prefix(&record.name)?.strip_prefix('.')?;
                let mut leaves = self.leaves(record).into_iter();
                let leaf = leaves.find(|leaf| leaf.name == name)?;
                Some((record.name.clone(), leaf))
            }
            Part::Run(leaf) => (leaf.name == path).then(|| (String::new(), leaf.clone())),
            Part::Table(table) => table.find(path, self.endian),
            Part::Nested(nested) => {
                let (index, _) = indexed(path, nested.name)?;
                nested.table(index, original)?.find(path, self.endian)
            }
        })
    }
}

/// A number of up to 8 bytes in the file.
pub(crate) fn number(source: &Store, at: u64, bytes: usize, endian: Endian) -> u64 {
    endian.number(&source.read_vec(at, bytes))
}
