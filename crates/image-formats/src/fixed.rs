//! Images of formats that are known by headers of fixed layout and flat tables.

use crate::defect::{Defect, Requirement};
use crate::field::{Field, FieldError, Kind, word};
use crate::io::{ReadAt as _, ReadError};
use crate::model::Model;
use crate::path::Path;
use crate::row::{Leaf, Leaves, Row};
use crate::store::Store;
use crate::value::{Endian, Value};

/// A structure of fixed layout somewhere in the file.
#[derive(Clone, Debug)]
struct Record {
    name: String,
    at: u64,
    rows: &'static [Row],
}

/// A table of numbers of one width.
#[derive(Clone, Debug)]
struct Array {
    name: &'static str,
    at: u64,
    entries: u64,
    bytes: u8,
}

/// A checksum and what it is taken over, with the checksum itself taken as zeros.
#[derive(Clone, Copy, Debug)]
struct Checksum {
    path: &'static str,
    at: u64,
    len: usize,
    sum: fn(&[u8]) -> u32,
}

/// What an image consists of.
#[derive(Clone, Debug)]
pub(crate) struct Structure {
    endian: Endian,
    records: Vec<Record>,
    arrays: Vec<Array>,
    checksums: Vec<Checksum>,
    signatures: Vec<(&'static str, Value)>,
}

impl Structure {
    /// One of numbers in this byte order.
    pub(crate) fn new(endian: Endian) -> Self {
        Self {
            endian,
            records: Vec::new(),
            arrays: Vec::new(),
            checksums: Vec::new(),
            signatures: Vec::new(),
        }
    }

    /// Adds a structure of fixed layout at byte `at`.
    pub(crate) fn record(mut self, name: &str, at: u64, rows: &'static [Row]) -> Self {
        let name = name.to_owned();
        self.records.push(Record { name, at, rows });
        self
    }

    /// Adds a table at byte `at`, of numbers of `bytes` bytes; it may be longer than the file.
    pub(crate) fn array(mut self, name: &'static str, at: u64, entries: u64, bytes: u8) -> Self {
        self.arrays.push(Array {
            name,
            at,
            entries,
            bytes,
        });
        self
    }

    /// Adds the checksum at `path`, computed by `sum` over `len` bytes (at most 64 KiB) from
    /// byte `at` on.
    pub(crate) fn checksum(
        mut self,
        path: &'static str,
        at: u64,
        len: usize,
        sum: fn(&[u8]) -> u32,
    ) -> Self {
        self.checksums.push(Checksum { path, at, len, sum });
        self
    }

    /// Adds a signature of the format: the value that the field at `path` must have.
    pub(crate) fn signature(mut self, path: &'static str, value: impl Into<Value>) -> Self {
        self.signatures.push((path, value.into()));
        self
    }

    fn leaves(&self, record: &Record) -> Vec<Leaf> {
        let mut leaves = Leaves::new(self.endian, "");
        leaves.table(record.rows, record.at);
        leaves.all
    }

    fn entry(&self, array: &Array, index: u64) -> Option<Leaf> {
        let bytes = array.bytes;
        let offset = array.at.checked_add(index.checked_mul(bytes.into())?)?;
        (index < array.entries).then_some(Leaf {
            name: format!("{}[{index}]", array.name),
            kind: Kind::Offset,
            place: word(offset, bytes, self.endian, 0, bytes * 8, false),
            rule: "",
            section: "",
        })
    }
}

/// An image of a format other than qcow2. As with [`crate::qcow2::Image`], the bytes
/// are the truth, and paths keep the meaning they had when it was opened.
#[derive(Debug)]
pub(crate) struct FixedImage {
    structure: Structure,
    bytes: Store,
}

/// The row of a format in the table of formats: its name, how its images are recognised, and
/// the structure that `structure` finds in one.
macro_rules! driver {
    ($name:literal, $probe:expr) => {
        /// This format in the table of formats.
        pub(crate) const DRIVER: $crate::model::Driver = $crate::model::Driver {
            name: $name,
            probe: $probe,
            open: |store| $crate::fixed::FixedImage::open(store, structure),
        };
    };
}
pub(crate) use driver;

/// A number of up to 8 bytes in the file.
pub(crate) fn number(source: &Store, at: u64, bytes: usize, endian: Endian) -> u64 {
    endian.number(&source.read_vec(at, bytes))
}

/// Most entries of a table that are read.
const MAX_ENTRIES: u64 = 1 << 20;

impl FixedImage {
    /// Reads any bytes as an image with the structures that are found in them.
    pub(crate) fn open(store: Store, find: fn(&Store) -> Structure) -> Box<dyn Model> {
        let mut structure = find(&store);
        for array in &mut structure.arrays {
            let room = store.len().saturating_sub(array.at) / u64::from(array.bytes.max(1));
            array.entries = array.entries.min(room).min(MAX_ENTRIES);
        }
        Box::new(Self {
            structure,
            bytes: store,
        })
    }

    /// Every field, in the order of the format's structures.
    fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        let records = self.structure.records.iter();
        let records = records.flat_map(|record| {
            let leaves = self.structure.leaves(record).into_iter();
            leaves.map(|leaf| leaf.field(&record.name, &self.bytes))
        });
        let arrays = self.structure.arrays.iter();
        let leaves = arrays.flat_map(|array| {
            (0..array.entries).filter_map(|index| self.structure.entry(array, index))
        });
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
            let leaf = self.structure.entry(array, index)?;
            return Some(leaf.field("", &self.bytes));
        }
        let path = path.to_string();
        self.structure.records.iter().find_map(|record| {
            let name = path.strip_prefix(&record.name)?.strip_prefix('.')?;
            let leaves = self.structure.leaves(record);
            let leaf = leaves.into_iter().find(|leaf| leaf.name == name)?;
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
                name: "signature",
                requirement: Requirement::Must,
                rule: format!("must be {wanted}, is {}", field.value),
                path: field.path,
                offset: field.offset,
                section: "",
            })
        };
        let signatures = self.structure.signatures.iter().filter_map(wrong);
        let checksum = |(field, wanted): (Field, u64)| Defect {
            name: "checksum",
            requirement: Requirement::Must,
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
