//! What a decoded image of a format consists of: records of fixed layout, runs of bytes,
//! tables, tables that a table leads to, and fields that follow from others.

use std::ops::Range;
use std::sync::Arc;

use crate::defect::{Requirement, Rule};
use crate::encoded::{Base64Text, Encoding};
use crate::field::{Field, Kind, Place, word};
use crate::io::ReadAt as _;
use crate::path::Path;
use crate::row::{BitRow, Leaf, Leaves, Row};
use crate::store::Store;
use crate::value::{Endian, Value};

/// The rule of a signature.
const SIGNATURE: Rule = Rule {
    name: "signature",
    requirement: Requirement::Must,
    section: "",
};

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
    /// After so many entries the place of one is left out.
    group: u64,
    entry: Entry,
    /// Whether there is one entry that has the name of the table, without an index.
    single: bool,
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
        bytes: u8,
        kind: Kind,
        rule: &'static str,
        bits: &'static [BitRow],
    },
    /// A structure of fixed layout.
    Record(&'static [Row]),
}

impl Part {
    /// The name that the paths of its fields begin with.
    fn name(&self) -> &str {
        match self {
            Self::Record(record) => &record.name,
            Self::Run(leaf) => &leaf.name,
            Self::Table(table) => &table.name,
            Self::Nested(nested) => nested.name,
        }
    }
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
            group: u64::MAX,
            entry: Entry::Number {
                bytes: bytes.clamp(1, 8),
                kind,
                rule,
                bits: &[],
            },
            single: false,
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
            group: u64::MAX,
            entry: Entry::Record(rows),
            single: false,
            unused: 0,
            section: "",
            text: None,
        }
    }

    /// One structure of `len` bytes, which has the name of the table without an index.
    pub(crate) fn of_record(
        name: impl Into<String>,
        (at, len): (u64, u64),
        rows: &'static [Row],
    ) -> Self {
        Self {
            single: true,
            ..Self::of_records(name, (at, 1, len), rows)
        }
    }

    /// The path of an entry.
    fn path(&self, index: u64) -> String {
        match self.single {
            true => self.name.clone(),
            false => format!("{}[{index}]", self.name),
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

    /// With an entry every `stride` bytes and other things between them.
    pub(crate) fn every(self, stride: u64) -> Self {
        let stride = stride.max(1);
        Self { stride, ..self }
    }

    /// Where the place of one entry belongs to something else after each `group` entries.
    pub(crate) fn grouped(self, group: u64) -> Self {
        let group = group.max(1);
        Self { group, ..self }
    }

    /// Bytes in an entry.
    fn width(&self) -> u64 {
        match self.entry {
            Entry::Number { bytes, .. } => bytes.into(),
            Entry::Record(_) => self.stride,
        }
    }

    /// Where an entry is.
    fn place(&self, index: u64) -> Option<u64> {
        let offset = (index + index / self.group).checked_mul(self.stride)?;
        self.at.checked_add(offset)
    }

    /// Bounded by the length of the file.
    fn bounded(mut self, len: u64) -> Self {
        let len = self.text.as_ref().map_or(len, Base64Text::len);
        let room = len.saturating_sub(self.at);
        let last = room.checked_sub(self.width());
        let places = last.map_or(0, |last| last / self.stride + 1);
        let entries = places - places / self.group.saturating_add(1);
        self.entries = self.entries.min(entries).min(MAX_ENTRIES);
        self
    }

    /// The fields of an entry, the whole one first.
    fn leaves(&self, index: u64, endian: Endian) -> Vec<Leaf> {
        let mut leaves = Leaves::new(endian, self.section);
        if index >= self.entries {
            return leaves.all;
        }
        let Some(offset) = self.place(index) else {
            return leaves.all;
        };
        match self.entry {
            Entry::Record(rows) => leaves.table(rows, offset),
            Entry::Number {
                bytes,
                kind,
                rule,
                bits,
            } => {
                let kind = if bits.is_empty() { kind } else { Kind::Entry };
                let place = word(offset, bytes, endian, 0, bytes * 8, false);
                leaves.push("", kind, place, rule);
                leaves.bits("", bits, offset, bytes);
            }
        }
        within(self.text.as_ref(), leaves.all)
    }

    /// Whether an entry holds anything: one that begins with these bytes, its first 512.
    fn is_used(&self, bytes: &[u8], endian: Endian) -> bool {
        match self.entry {
            Entry::Record(_) => bytes.iter().any(|byte| *byte != 0),
            Entry::Number { .. } => endian.number(bytes) != self.unused,
        }
    }

    /// The indexes of entries that are used, and of the first one after each of them.
    fn listed<'a>(&'a self, source: &'a Store, endian: Endian) -> impl Iterator<Item = u64> + 'a {
        /// Bytes that are read at once, where that is more than an entry.
        const CHUNK: u64 = 4096;
        let width = self.width().min(512) as usize;
        let mut chunk = Vec::new();
        let mut chunk_at = 0;
        let mut after_used = true;
        (0..self.entries).filter(move |index| {
            let at = self.place(*index).unwrap_or(u64::MAX);
            let within = at.checked_sub(chunk_at).unwrap_or(u64::MAX);
            let is_there = within.saturating_add(width as u64) <= chunk.len() as u64;
            let within = if is_there { within as usize } else { 0 };
            if !is_there {
                // Entries far from each other are read one by one.
                let len = if self.stride > CHUNK / 2 {
                    width
                } else {
                    CHUNK as usize
                };
                chunk = match &self.text {
                    Some(text) => text.read(source, at, len),
                    None => source.read_vec(at, len),
                };
                chunk_at = at;
            }
            let used = self.is_used(&chunk[within..within + width], endian);
            std::mem::replace(&mut after_used, used) || used
        })
    }

    fn fields<'a>(
        &'a self,
        source: &'a Store,
        now: &'a Store,
        endian: Endian,
        most: usize,
    ) -> impl Iterator<Item = Field> + 'a {
        self.listed(source, endian)
            .take(most)
            .flat_map(move |index| {
                let prefix = self.path(index);
                let leaves = self.leaves(index, endian).into_iter();
                leaves.map(move |leaf| leaf.field(&prefix, now))
            })
    }

    /// The leaf that `rest` of a path means, from the name of the table on, and the path of
    /// its entry.
    fn find(&self, path: &str, endian: Endian) -> Option<(String, Leaf)> {
        let (index, rest) = match self.single {
            true => (0, path.strip_prefix(&self.name)?),
            false => indexed(path, &self.name)?,
        };
        let leaf = rest.strip_prefix('.').unwrap_or(rest);
        if leaf.is_empty() != rest.is_empty() {
            return None;
        }
        let mut leaves = self.leaves(index, endian).into_iter();
        let found = leaves.find(|found| found.name == leaf)?;
        Some((self.path(index), found))
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

/// Where the table with a number is, by the original bytes; `None` where there is none.
type FindTable = Arc<dyn Fn(&Store, u64) -> Option<u64> + Send + Sync>;

/// The tables that the entries of another table lead to.
#[derive(Clone)]
pub(crate) struct Nested {
    /// The name of each of them.
    name: &'static str,
    /// How many there can be.
    count: u64,
    /// Where the table with this number is; `None` where there is none.
    find: FindTable,
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
    /// looked at; `find` tells at which byte table i is, where there is one. Where `inner` is
    /// one structure they are called `name[i]` and its name.
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

    /// Whether there is a table of that number.
    fn is_used(&self, index: u64, original: &Store) -> bool {
        (self.find)(original, index).is_some()
    }

    /// Table `index`, where the original bytes say.
    fn table(&self, index: u64, original: &Store) -> Option<Table> {
        if index >= self.count {
            return None;
        }
        let at = (self.find)(original, index)?;
        let inner = match self.inner.single {
            true => &self.inner.name,
            false => "entry",
        };
        let table = Table {
            at,
            name: format!("{}[{index}].{inner}", self.name),
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

    /// Adds a word or a line of a text.
    pub(crate) fn text(mut self, name: &str, place: Place, rule: &'static str) -> Self {
        self.part(name, Kind::Text, place, rule);
        self
    }

    fn part(&mut self, name: &str, kind: Kind, place: Place, rule: &'static str) {
        self.parts.push(Part::Run(Leaf {
            name: name.to_owned(),
            kind,
            place,
            rule,
            section: self.section,
        }));
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

    /// Adds what the field at `path`, which was added before and is in no nested table, must
    /// hold: `wanted` of the bytes.
    pub(crate) fn derived(
        self,
        path: &str,
        why: Derivation,
        rule: Rule,
        wanted: impl Fn(&Store) -> Value + Send + Sync + 'static,
    ) -> Self {
        match self.find(path, &Store::new()) {
            Some((_, leaf)) => self.derived_at((path, leaf.place), why, rule, wanted),
            None => self,
        }
    }

    /// The same for a field whose path and place are known.
    pub(crate) fn derived_at(
        mut self,
        (path, place): (&str, Place),
        why: Derivation,
        rule: Rule,
        wanted: impl Fn(&Store) -> Value + Send + Sync + 'static,
    ) -> Self {
        self.derived.push(Derived {
            path: path.to_owned(),
            place,
            why,
            rule,
            wanted: Arc::new(wanted),
        });
        self
    }

    /// Adds a signature of the format: the value that the field at `path` must have.
    pub(crate) fn signature(self, path: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.derived(path, Derivation::Value, SIGNATURE, move |_| value.clone())
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
    /// was found in. Of each table at most `most` entries, and at most as many tables that
    /// another one leads to.
    pub(crate) fn overview<'a>(
        &'a self,
        original: &'a Store,
        now: &'a Store,
        most: u64,
    ) -> impl Iterator<Item = Field> + 'a {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let parts = self.parts.iter();
        parts.flat_map(move |part| self.part_fields(part, original, now, most))
    }

    /// The fields whose path is `path` or continues it, and perhaps others.
    pub(crate) fn under<'a>(
        &'a self,
        path: &Path,
        original: &'a Store,
        now: &'a Store,
    ) -> impl Iterator<Item = Field> + 'a {
        let path = path.to_string();
        let parts = self.parts.iter();
        parts.flat_map(move |part| -> Box<dyn Iterator<Item = Field> + 'a> {
            if let Part::Nested(nested) = part
                && let Some((index, _)) = indexed(&path, nested.name)
            {
                let only = index..index.saturating_add(1);
                return Box::new(self.nested_fields(nested, only, original, now, usize::MAX));
            }
            // A table has its name before the index of an entry, a record before its fields.
            let name = part.name();
            let is_near = path.starts_with(name) || name.starts_with(&path);
            let fields = is_near.then(|| self.part_fields(part, original, now, usize::MAX));
            Box::new(fields.into_iter().flatten())
        })
    }

    fn part_fields<'a>(
        &'a self,
        part: &'a Part,
        original: &'a Store,
        now: &'a Store,
        most: usize,
    ) -> Box<dyn Iterator<Item = Field> + 'a> {
        match part {
            Part::Record(record) => {
                let leaves = self.leaves(record).into_iter();
                Box::new(leaves.map(move |leaf| leaf.field(&record.name, now)))
            }
            Part::Run(leaf) => Box::new(std::iter::once(leaf.field("", now))),
            Part::Table(table) => Box::new(table.fields(original, now, self.endian, most)),
            Part::Nested(nested) => {
                let tables = (0..nested.count).filter(|index| nested.is_used(*index, original));
                let tables = tables.take(most);
                Box::new(tables.flat_map(move |index| {
                    self.nested_fields(nested, index..index + 1, original, now, most)
                }))
            }
        }
    }

    fn nested_fields<'a>(
        &'a self,
        nested: &'a Nested,
        tables: Range<u64>,
        original: &'a Store,
        now: &'a Store,
        most: usize,
    ) -> impl Iterator<Item = Field> + 'a {
        tables.flat_map(move |index| {
            let table = nested.table(index, original).into_iter();
            table.flat_map(move |table| {
                let listed = table.listed(original, self.endian).take(most);
                let listed: Vec<u64> = listed.collect();
                listed.into_iter().flat_map(move |entry| {
                    let prefix = table.path(entry);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tables in one: three entries of the first, then one of the second.
    #[test]
    fn tables_interleave() {
        let bytes = Store::over(Arc::new((1..=8).collect::<Vec<u8>>()));
        let table = |name, at, entries| Table::of_numbers(name, (at, entries, 1), Kind::Count, "");
        let structure = Structure::new(Endian::Little)
            .table(table("a", 0, 100).grouped(3))
            .table(table("b", 3, 100).every(4))
            .bounded(8);
        let fields = structure.overview(&bytes, &bytes, u64::MAX);
        let found: Vec<String> = fields.map(|f| format!("{} {}", f.path, f.value)).collect();
        let expected = [
            "a[0] 1", "a[1] 2", "a[2] 3", "a[3] 5", "a[4] 6", "a[5] 7", "b[0] 4", "b[1] 8",
        ];
        assert_eq!(found, expected);
        assert!(structure.find("b[2]", &bytes).is_none());
    }
}
