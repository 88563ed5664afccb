//! What each format provides, and what every decoded image can do.

use std::fmt::Debug;

use crate::defect::Defect;
use crate::field::{Field, FieldError};
use crate::io::{ReadAt, ReadError, read_padded};
use crate::store::Store;
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
    /// See [`crate::AnyImage::defects`].
    fn defects(&self) -> Result<Vec<Defect>, ReadError>;

    /// See [`crate::AnyImage::used_fields`].
    fn used_fields(&self) -> Box<dyn Iterator<Item = Field> + '_>;

    /// See [`crate::AnyImage::field`].
    fn field(&self, path: &str) -> Result<Field, FieldError>;

    /// See [`crate::AnyImage::set`].
    fn set(&mut self, path: &str, value: Value) -> Result<(), FieldError>;

    /// See [`crate::AnyImage::recompute_checksums`].
    fn recompute_checksums(&mut self) {}

    /// See [`crate::AnyImage::bytes`].
    fn bytes(&self) -> &Store;
}
