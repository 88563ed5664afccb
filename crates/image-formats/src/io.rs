//! Where the bytes of images come from.

use std::io;
use std::ops::Range;

/// Random access to the bytes of an image.
///
/// A truncated image gives short reads; a medium that cannot be read gives errors.
pub trait ReadAt: Send + Sync {
    /// Reads up to `buf.len()` bytes from byte `offset` on and returns how many were
    /// read; fewer than asked for means that the image ends there.
    ///
    /// # Errors
    ///
    /// The medium cannot be read there. Sources in memory never fail.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Length of the image in bytes.
    fn len(&self) -> u64;

    /// Whether the image has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first range at or after byte `offset` that may hold anything but zeros.
    ///
    /// A source that knows its holes reports them here, so that a sparse image of many
    /// terabytes can be encoded without reading them. `None`: only zeros are left.
    fn next_data(&self, offset: u64) -> Option<Range<u64>> {
        (offset < self.len()).then(|| offset..self.len())
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.get(start..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.as_slice().read_at(offset, buf)
    }

    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }
}

/// A source could not be read, so that what the image holds is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read at offset {offset:#x}: {reason}")]
pub struct ReadError {
    /// Byte offset of the read that failed.
    pub offset: u64,
    /// The kind of the error.
    pub kind: io::ErrorKind,
    /// What the medium reported.
    reason: String,
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        Self::new(error.kind, error)
    }
}

/// Fills `buf` from byte `offset` on; what the image does not have reads as zeros.
///
/// # Errors
///
/// The source cannot be read there; `buf` is all zeros then.
pub(crate) fn read_padded(
    source: &(impl ReadAt + ?Sized),
    offset: u64,
    buf: &mut [u8],
) -> Result<(), ReadError> {
    let read = source.read_at(offset, buf);
    let count = read.as_ref().map_or(0, |count| *count).min(buf.len());
    buf[count..].fill(0);
    read.map(drop).map_err(|error| {
        // A store over a store: the inner error is enough.
        error
            .downcast::<ReadError>()
            .unwrap_or_else(|error| ReadError {
                offset,
                kind: error.kind(),
                reason: error.to_string(),
            })
    })
}
