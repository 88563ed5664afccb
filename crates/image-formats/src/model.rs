//! What each format provides, and what every decoded image can do.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;

use crate::checker::Scope;
use crate::defect::Defect;
use crate::disk::{Disk, DiskError, Opening};
use crate::field::{Field, FieldError};
use crate::io::{ReadAt, ReadError, read_padded};
use crate::path::Path;
use crate::store::Store;
use crate::structure::Derivation;
use crate::value::Value;

/// A format: its name, how it is recognised, and its model.
pub(crate) struct Driver {
    /// The name that QEMU uses.
    pub(crate) name: &'static str,
    /// Whether an image has the signature of the format.
    pub(crate) probe: fn(&Ends) -> bool,
    /// Reads any bytes as an image of the format.
    pub(crate) open: fn(Store) -> Box<dyn Model>,
}

/// The parts of a file where formats have their signatures.
pub(crate) struct Ends {
    head: [u8; Self::LEN as usize],
    tail: [u8; Self::LEN as usize],
}

impl Ends {
    const LEN: u64 = 512;

    /// Reads both ends; the head is padded with zeros, and a file that is shorter has no
    /// tail.
    pub(crate) fn read(source: &(impl ReadAt + ?Sized)) -> Result<Self, ReadError> {
        let (mut head, mut tail) = ([0; Self::LEN as usize], [0; Self::LEN as usize]);
        read_padded(source, 0, &mut head)?;
        if let Some(at) = source.len().checked_sub(Self::LEN) {
            read_padded(source, at, &mut tail)?;
        }
        Ok(Self { head, tail })
    }

    /// The first 512 bytes.
    pub(crate) fn start(&self) -> &[u8] {
        &self.head
    }

    /// Whether the bytes at `at` in the first 512 are these.
    pub(crate) fn head(&self, at: usize, signature: &[u8]) -> bool {
        self.head[at..].starts_with(signature)
    }

    /// Whether the last 512 bytes start with these.
    pub(crate) fn tail(&self, signature: &[u8]) -> bool {
        self.tail.starts_with(signature)
    }
}

/// A decoded image of any format: its bytes, and the fields that were found in them.
pub(crate) trait Model: Debug + Send + Sync {
    /// The rules that the bytes break, as they are now.
    fn defects(&self, scope: Scope) -> Result<Vec<Defect>, ReadError>;

    /// See [`crate::AnyImage::used_fields`].
    fn used_fields(&self) -> Box<dyn Iterator<Item = Field> + '_>;

    /// See [`crate::AnyImage::overview`].
    fn overview(&self, most: u64) -> Box<dyn Iterator<Item = Field> + '_>;

    /// See [`crate::AnyImage::fields_under`].
    fn fields_under(&self, path: &Path) -> Box<dyn Iterator<Item = Field> + '_>;

    /// The broken rules of the fields whose path begins with `path`, and perhaps of others.
    fn defects_under(&self, path: &Path) -> Result<Vec<Defect>, ReadError>;

    /// See [`crate::AnyImage::field`].
    fn field(&self, path: &str) -> Result<Field, FieldError>;

    /// See [`crate::AnyImage::set`].
    fn set(&mut self, path: &str, value: Value) -> Result<(), FieldError>;

    /// See [`crate::AnyImage::recompute`].
    fn recompute(&mut self, wanted: &[Derivation]);

    /// See [`crate::AnyImage::copies`].
    fn copies(&self) -> Vec<Range<u64>>;

    /// See [`crate::AnyImage::bytes`].
    fn bytes(&self) -> &Store;

    /// See [`crate::AnyImage::bytes_mut`].
    fn bytes_mut(&mut self) -> &mut Store;

    /// See [`crate::AnyImage::disk`].
    fn disk(&self, opening: Opening<'_>) -> Result<Box<dyn Disk>, DiskError>;

    /// See [`crate::AnyImage::references`].
    fn references(&self) -> Vec<Vec<u8>>;

    /// See [`crate::AnyImage::unit`].
    fn unit(&self) -> u64;

    /// A copy; what was not changed is shared.
    fn clone_box(&self) -> Box<dyn Model>;

    /// Itself, to be taken for the type that it is.
    fn as_any(&self) -> &dyn Any;
}
