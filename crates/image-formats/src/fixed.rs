//! Images of formats that are known by headers of fixed layout and flat tables.

use crate::defect::Defect;
use crate::field::{Field, FieldError, Kind, Place};
use crate::io::{ReadAt as _, ReadError};
use crate::model::Model;
use crate::path::Path;
use crate::row::{Leaf, Row, table_leaves};
use crate::store::Store;
use crate::value::Endian;
use crate::value::Value;

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
    /// The signatures of the format: path and value.
    pub(crate) signatures: Vec<(&'static str, Value)>,
}

/// An image of a format other than qcow2. As with [`crate::qcow2::Image`], the bytes
/// are the truth, and paths keep the meaning they had when it was opened.
#[derive(Debug)]
pub(crate) struct FixedImage {
    structure: Structure,
    bytes: Store,
}

/// A record of the given fields.
pub(crate) fn record(name: &str, at: u64, rows: &'static [Row], endian: Endian) -> Record {
    Record {
        name: name.to_owned(),
        at,
        rows,
        endian,
    }
}

/// A number of up to 8 bytes in the file.
pub(crate) fn number(source: &Store, at: u64, bytes: usize, endian: Endian) -> u64 {
    endian.number(&source.read_vec(at, bytes))
}

/// Most entries of a table that are read.
const MAX_ENTRIES: u64 = 1 << 20;

impl Array {
    /// The table as far as it is within the file.
    pub(crate) fn within(mut self, source: &Store) -> Self {
        let room = source.len().saturating_sub(self.at) / u64::from(self.bytes.max(1));
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
    /// Reads any bytes as an image with the structures that are found in them.
    pub(crate) fn open(store: Store, find: fn(&Store) -> Structure) -> Box<dyn Model> {
        Box::new(Self {
            structure: find(&store),
            bytes: store,
        })
    }

    /// Every field, in the order of the format's structures.
    fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        let records = self.structure.records.iter();
        let records = records.flat_map(|record| {
            let leaves = leaves(record).into_iter();
            leaves.map(|leaf| leaf.field(&record.name, &self.bytes))
        });
        let arrays = self.structure.arrays.iter();
        let leaves =
            arrays.flat_map(|array| (0..array.entries).filter_map(|index| array.leaf(index)));
        let fields = records.chain(leaves.map(|leaf| leaf.field("", &self.bytes)));
        fields.take_while(|_| self.bytes.check_reads().is_ok())
    }

    /// The field at `path`, if there is one.
    fn find(&self, path: &Path) -> Option<Field> {
        if let [segment] = path.segments()
            && let Some(index) = segment.index
        {
            let mut arrays = self.structure.arrays.iter();
            let array = arrays.find(|array| array.name == segment.name)?;
            return Some(array.leaf(index)?.field("", &self.bytes));
        }
        let path = path.to_string();
        self.structure.records.iter().find_map(|record| {
            let name = path.strip_prefix(&record.name)?.strip_prefix('.')?;
            let leaf = leaves(record).into_iter().find(|leaf| leaf.name == name)?;
            Some(leaf.field(&record.name, &self.bytes))
        })
    }

    /// The fields of checksums that are wrong, and what they should be.
    fn wrong_checksums(&self) -> Vec<(Field, u64)> {
        let wrong = |checksum: &Checksum| {
            let field = self.field(checksum.path).ok()?;
            let mut covered = self.bytes.read_vec(checksum.at, checksum.len);
            let within = usize::try_from(field.offset.checked_sub(checksum.at)?).ok()?;
            covered.get_mut(within..within.checked_add(4)?)?.fill(0);
            let wanted = u64::from((checksum.sum)(&covered));
            (field.value != Value::Uint(wanted)).then_some((field, wanted))
        };
        self.structure.checksums.iter().filter_map(wrong).collect()
    }
}

impl Model for FixedImage {
    fn defects(&self) -> Result<Vec<Defect>, ReadError> {
        let wrong = |(path, wanted): &(&'static str, Value)| {
            let field = self.field(path).ok()?;
            (field.value != *wanted).then(|| Defect {
                rule: format!("must be {wanted}, is {}", field.value),
                path: field.path,
                offset: field.offset,
                section: "",
            })
        };
        let signatures = self.structure.signatures.iter().filter_map(wrong);
        let checksum = |(field, wanted): (Field, u64)| Defect {
            rule: format!(
                "must be {wanted:#x}, is {:#x}",
                field.value.as_uint().unwrap_or(0)
            ),
            path: field.path,
            offset: field.offset,
            section: "",
        };
        let checksums = self.wrong_checksums().into_iter().map(checksum);
        let defects = signatures.chain(checksums).collect();
        self.bytes.check_reads()?;
        Ok(defects)
    }

    fn used_fields(&self) -> Box<dyn Iterator<Item = Field> + '_> {
        Box::new(self.fields())
    }

    fn field(&self, path: &str) -> Result<Field, FieldError> {
        let field = self.find(&path.parse()?);
        self.bytes.check_reads()?;
        field.ok_or_else(|| FieldError::missing(path, self.fields()))
    }

    fn set(&mut self, path: &str, value: Value) -> Result<(), FieldError> {
        let place = self.field(path)?.place;
        let set = place.set(&mut self.bytes, &value);
        self.bytes.check_reads()?;
        set.map_err(FieldError::value(path))
    }

    fn recompute_checksums(&mut self) {
        for (field, wanted) in self.wrong_checksums() {
            // A checksum fits into its field.
            let _ = field.place.set(&mut self.bytes, &Value::Uint(wanted));
        }
    }

    fn bytes(&self) -> &Store {
        &self.bytes
    }
}

fn leaves(record: &Record) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    table_leaves(record.rows, record.at, record.endian, "", &mut leaves);
    leaves
}
