//! Images of the formats that are described by a [`Structure`].

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use crate::checker::{Checker, Scope};
use crate::defect::Defect;
use crate::disk::{Disk, DiskError, Opening};
use crate::field::{Field, FieldError};
use crate::io::{ReadAt as _, ReadError};
use crate::model::Model;
use crate::path::Path;
use crate::row::Leaf;
use crate::store::Store;
use crate::structure::{Derivation, Derived, Structure};
use crate::value::Value;

/// How a guest's disk is opened: its bytes, and what else is needed.
pub(crate) type OpenDisk = fn(Store, Opening<'_>) -> Result<Box<dyn Disk>, DiskError>;

/// What a format knows of its images.
pub(crate) struct Schema {
    /// Finds the structures in any bytes.
    pub(crate) structure: fn(&Store) -> Structure,
    /// Checks the rules, but for those of fields that follow from others.
    pub(crate) check: fn(&Store, &mut Checker),
    /// Opens the guest's disk.
    pub(crate) disk: OpenDisk,
    /// The names of the files that an image refers to, its parent last.
    pub(crate) references: fn(&Store) -> Vec<Vec<u8>>,
    /// Bytes in the unit of allocation.
    pub(crate) unit: fn(&Store) -> u64,
}

/// A decoded image. As with [`crate::qcow2::Image`], the bytes are the truth, and paths
/// keep the meaning they had when it was opened.
#[derive(Clone)]
pub(crate) struct Structured {
    schema: &'static Schema,
    structure: Arc<Structure>,
    original: Store,
    bytes: Store,
}

impl std::fmt::Debug for Structured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Structured")
            .field("structure", &self.structure)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Structured {
    /// Reads any bytes as an image with the structures that are found in them.
    pub(crate) fn open(store: Store, schema: &'static Schema) -> Box<dyn Model> {
        let structure = (schema.structure)(&store).bounded(store.len());
        Box::new(Self {
            schema,
            structure: Arc::new(structure),
            original: store.clone(),
            bytes: store,
        })
    }

    fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        let all = u64::MAX;
        let fields = self.structure.overview(&self.original, &self.bytes, all);
        fields.take_while(|_| self.bytes.check_reads().is_ok())
    }

    fn leaf(&self, path: &str) -> Result<(String, Leaf), FieldError> {
        let canonical = path.parse::<Path>()?.to_string();
        let found = self.structure.find(&canonical, &self.original);
        self.bytes.check_reads()?;
        found.ok_or_else(|| FieldError::missing(path, self.fields()))
    }
}

impl Model for Structured {
    fn defects(&self, scope: Scope) -> Result<Vec<Defect>, ReadError> {
        let mut checker = Checker::new(scope);
        (self.schema.check)(&self.bytes, &mut checker);
        // The bytes as they are now: what follows from what may have changed as well.
        let structure = (self.schema.structure)(&self.bytes).bounded(self.bytes.len());
        for derived in structure.all_derived() {
            let wanted = derived.wrong(&self.bytes);
            let (path, offset) = (derived.path.as_str(), derived.place.offset());
            checker.require(wanted.is_none(), (path, offset, derived.rule), || {
                let is = derived.place.get(&self.bytes);
                match (derived.why, wanted, is) {
                    (Derivation::Copy, ..) => "must be a copy of the first one".to_owned(),
                    (_, Some(Value::Uint(wanted)), Value::Uint(is)) => {
                        format!("must be {wanted:#x}, is {is:#x}")
                    }
                    (_, Some(wanted), is) => format!("must be {wanted}, is {is}"),
                    (_, None, _) => String::new(),
                }
            });
        }
        self.bytes.check_reads()?;
        Ok(checker.finish())
    }

    fn used_fields(&self) -> Box<dyn Iterator<Item = Field> + '_> {
        Box::new(self.fields())
    }

    fn overview(&self, most: u64) -> Box<dyn Iterator<Item = Field> + '_> {
        let fields = self.structure.overview(&self.original, &self.bytes, most);
        Box::new(fields.take_while(|_| self.bytes.check_reads().is_ok()))
    }

    fn fields_under(&self, path: &Path) -> Box<dyn Iterator<Item = Field> + '_> {
        let fields = self.structure.under(path, &self.original, &self.bytes);
        Box::new(fields.take_while(|_| self.bytes.check_reads().is_ok()))
    }

    fn defects_under(&self, _: &Path) -> Result<Vec<Defect>, ReadError> {
        self.defects(Scope::All)
    }

    fn field(&self, path: &str) -> Result<Field, FieldError> {
        let (prefix, leaf) = self.leaf(path)?;
        let field = leaf.field(&prefix, &self.bytes);
        self.bytes.check_reads()?;
        Ok(field)
    }

    fn set(&mut self, path: &str, value: Value) -> Result<(), FieldError> {
        let place = self.leaf(path)?.1.place;
        let set = place.set(&mut self.bytes, &value);
        self.bytes.check_reads()?;
        set.map_err(FieldError::value(path))
    }

    fn recompute(&mut self, wanted: &[Derivation]) {
        let structure = Arc::clone(&self.structure);
        for derived in structure.all_derived() {
            if !wanted.contains(&derived.why) {
                continue;
            }
            if let Some(value) = derived.wrong(&self.bytes) {
                // What follows from other fields fits into its own.
                let _ = derived.place.set(&mut self.bytes, &value);
            }
        }
    }

    fn copies(&self) -> Vec<Range<u64>> {
        let derived = self.structure.all_derived().into_iter();
        let copies = derived.filter(|derived| derived.why == Derivation::Copy);
        let place = |derived: &Derived| {
            let start = derived.place.offset();
            start..start.saturating_add(derived.place.width_bits() / 8)
        };
        copies.map(place).collect()
    }

    fn bytes(&self) -> &Store {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut Store {
        &mut self.bytes
    }

    fn disk(&self, opening: Opening<'_>) -> Result<Box<dyn Disk>, DiskError> {
        let disk = (self.schema.disk)(self.bytes.clone(), opening);
        self.bytes.check_reads()?;
        disk
    }

    fn references(&self) -> Vec<Vec<u8>> {
        (self.schema.references)(&self.bytes)
    }

    fn unit(&self) -> u64 {
        (self.schema.unit)(&self.bytes)
    }

    fn clone_box(&self) -> Box<dyn Model> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
