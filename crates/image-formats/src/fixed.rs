//! Images of formats that are known by headers of fixed layout and flat tables.

use crate::defect::Defect;
use crate::field::{Endian, Field, Kind, Place};
use crate::format::Format;
use crate::io::{ReadAt, read_vec};
use crate::path::{Path, nearest};
use crate::qcow2::FieldError;
use crate::row::{Leaf, Row, table_leaves};
use crate::store::Store;
use crate::tables;
use crate::value::Value;
use std::sync::Arc;

/// A structure of fixed layout somewhere in the file.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) at: u64,
    pub(crate) rows: &'static [Row],
    pub(crate) endian: Endian,
}

/// A table of numbers of one width.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    pub(crate) name: &'static str,
    pub(crate) at: u64,
    pub(crate) entries: u64,
    pub(crate) bytes: u8,
    pub(crate) endian: Endian,
}

/// A checksum and what it is taken over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checksum {
    /// Path of the field with the checksum.
    pub(crate) path: &'static str,
    /// Byte offset of the first byte it covers.
    pub(crate) at: u64,
    /// Number of bytes it covers, at most 64 KiB.
    pub(crate) len: usize,
    /// How it is computed.
    pub(crate) sum: fn(&[u8]) -> u32,
}

/// What an image consists of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Structure {
    pub(crate) records: Vec<Record>,
    pub(crate) arrays: Vec<Array>,
    /// Checksums, each over a run of bytes with the checksum itself taken as zeros.
    pub(crate) checksums: Vec<Checksum>,
    /// What marks the format: path and value.
    pub(crate) marks: Vec<(&'static str, Value)>,
}

/// An image of a format other than qcow2. As with [`crate::qcow2::Image`], the bytes
/// are the truth, and paths keep the meaning they had when it was opened.
#[derive(Clone, Debug)]
pub struct FixedImage {
    format: Format,
    structure: Arc<Structure>,
    bytes: Store,
}

/// Most entries of a table that are looked at.
const MAX_ENTRIES: u64 = 1 << 20;

impl Array {
    /// The table as far as it lies in the file.
    pub(crate) fn within(mut self, len: u64) -> Self {
        let room = len.saturating_sub(self.at) / u64::from(self.bytes.max(1));
        self.entries = self.entries.min(room).min(MAX_ENTRIES);
        self
    }

    fn leaf(&self, index: u64) -> Option<Leaf> {
        let offset = self.at.checked_add(index.checked_mul(self.bytes.into())?)?;
        (index < self.entries).then_some(Leaf {
            name: format!("{}[{index}]", self.name),
            kind: Kind::Offset,
            place: Place::Bits {
                offset,
                bytes: self.bytes,
                endian: self.endian,
                low: 0,
                bits: self.bytes * 8,
                in_position: false,
            },
            rule: "",
            section: "",
        })
    }
}

impl FixedImage {
    /// Reads any bytes as an image of `format`.
    #[must_use]
    pub fn open(source: Arc<dyn ReadAt>, format: Format) -> Self {
        Self {
            format,
            structure: Arc::new(tables::structure(&*source, format)),
            bytes: Store::over(source),
        }
    }

    /// The format it was read as.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The bytes as they are now.
    #[must_use]
    pub fn bytes(&self) -> &Store {
        &self.bytes
    }

    /// Every field, in the order of the format's structures.
    pub fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        let records = self.structure.records.iter();
        let records = records.flat_map(|record| {
            let leaves = leaves(record).into_iter();
            leaves.map(|leaf| leaf.field(&record.name, &self.bytes))
        });
        let arrays = self.structure.arrays.iter();
        let arrays =
            arrays.flat_map(|array| (0..array.entries).filter_map(|index| array.leaf(index)));
        records.chain(arrays.map(|leaf| leaf.field("", &self.bytes)))
    }

    /// The field at `path`.
    ///
    /// # Errors
    /// When `path` is not a path, or the image has no such field.
    pub fn field(&self, path: &str) -> Result<Field, FieldError> {
        let parsed: Path = path.parse()?;
        if let [segment] = parsed.segments()
            && let Some(index) = segment.index
        {
            let array = self
                .structure
                .arrays
                .iter()
                .find(|array| array.name == segment.name);
            if let Some(leaf) = array.and_then(|array| array.leaf(index)) {
                return Ok(leaf.field("", &self.bytes));
            }
        }
        for record in &self.structure.records {
            let name = path
                .strip_prefix(record.name.as_str())
                .and_then(|rest| rest.strip_prefix('.'));
            let leaf =
                name.and_then(|name| leaves(record).into_iter().find(|leaf| leaf.name == name));
            if let Some(leaf) = leaf {
                return Ok(leaf.field(&record.name, &self.bytes));
            }
        }
        let paths: Vec<String> = self.fields().take(10_000).map(|field| field.path).collect();
        Err(FieldError::Missing {
            path: path.to_owned(),
            suggestion: nearest(path, paths.iter().map(String::as_str)).map(str::to_owned),
        })
    }

    /// Puts any value that its bits can hold into the field at `path`.
    ///
    /// # Errors
    /// When there is no such field, or it cannot hold the value.
    pub fn set(&mut self, path: &str, value: impl Into<Value>) -> Result<(), FieldError> {
        let place = self.field(path)?.place;
        let set = place.set(&mut self.bytes, &value.into());
        set.map_err(|problem| FieldError::Value {
            path: path.to_owned(),
            problem,
        })
    }

    /// Makes every checksum what it should be.
    pub fn recompute_checksums(&mut self) {
        for (field, wanted) in self.wrong_checksums() {
            // A checksum fits into its field.
            let _ = field.place.set(&mut self.bytes, &Value::Uint(wanted));
        }
    }

    /// The fields of checksums that are wrong, and what they should be.
    fn wrong_checksums(&self) -> Vec<(Field, u64)> {
        let wrong = |checksum: &Checksum| {
            let field = self.field(checksum.path).ok()?;
            let mut covered = read_vec(&self.bytes, checksum.at, checksum.len);
            let within = usize::try_from(field.offset.checked_sub(checksum.at)?).ok()?;
            covered.get_mut(within..within.checked_add(4)?)?.fill(0);
            let wanted = u64::from((checksum.sum)(&covered));
            (field.value != Value::Uint(wanted)).then_some((field, wanted))
        };
        self.structure.checksums.iter().filter_map(wrong).collect()
    }

    /// Marks of the format that are not there, and checksums that are wrong.
    #[must_use]
    pub fn defects(&self) -> Vec<Defect> {
        let wrong = |(path, wanted): &(&'static str, Value)| {
            let field = self.field(path).ok()?;
            (field.value != *wanted).then(|| Defect {
                path: field.path,
                offset: field.offset,
                rule: format!("must be {wanted}, is {}", field.value),
                section: "",
            })
        };
        let marks = self.structure.marks.iter().filter_map(wrong);
        let checksum = |(field, wanted): (Field, u64)| Defect {
            rule: format!(
                "must be {wanted:#x}, is {:#x}",
                field.value.as_uint().unwrap_or(0)
            ),
            path: field.path,
            offset: field.offset,
            section: "",
        };
        marks
            .chain(self.wrong_checksums().into_iter().map(checksum))
            .collect()
    }
}

fn leaves(record: &Record) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    table_leaves(record.rows, record.at, record.endian, "", &mut leaves);
    leaves
}
