//! Where bytes come from and go to: the only door between this crate and files.

use std::io;
use std::ops::Range;

/// Random access to the bytes of an image.
///
/// Reading cannot fail: what cannot be read is as if the image ended there, which
/// is what a truncated image looks like anyway.
pub trait ReadAt: Send + Sync {
    /// Reads up to `buf.len()` bytes from byte `offset` on and returns how many were
    /// read; fewer than asked for means that the image ends there.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize;

    /// Length of the image in bytes.
    fn len(&self) -> u64;

    /// Whether the image has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first range at or after byte `offset` that may hold anything but zeros.
    ///
    /// A reader that knows its holes says so here, so that a sparse image of many
    /// terabytes can be encoded without reading them. `None`: only zeros are left.
    fn next_data(&self, offset: u64) -> Option<Range<u64>> {
        (offset < self.len()).then(|| offset..self.len())
    }
}

/// Random access for writing, to an image that starts out empty.
pub trait WriteAt {
    /// Writes all of `data` at byte `offset`.
    ///
    /// # Errors
    /// Whatever the medium reports.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Sets the length in bytes; new bytes read as zeros.
    ///
    /// # Errors
    /// Whatever the medium reports.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize {
        let Some(rest) = usize::try_from(offset).ok().and_then(|at| self.get(at..)) else {
            return 0;
        };
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        count
    }

    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize {
        self.as_slice().read_at(offset, buf)
    }

    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }
}

impl WriteAt for Vec<u8> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let too_far = || io::Error::from(io::ErrorKind::OutOfMemory);
        let start = usize::try_from(offset).map_err(|_| too_far())?;
        let end = start.checked_add(data.len()).ok_or_else(too_far)?;
        if end > Vec::len(self) {
            WriteAt::set_len(self, end as u64)?;
        }
        self[start..end].copy_from_slice(data);
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let out_of_memory = || io::Error::from(io::ErrorKind::OutOfMemory);
        let len = usize::try_from(len).map_err(|_| out_of_memory())?;
        let more = len.saturating_sub(Vec::len(self));
        self.try_reserve(more).map_err(|_| out_of_memory())?;
        self.resize(len, 0);
        Ok(())
    }
}

/// Fills `buf` from byte `offset` on; what the image does not have reads as zeros.
pub fn read_padded(source: &(impl ReadAt + ?Sized), offset: u64, buf: &mut [u8]) {
    let count = source.read_at(offset, buf).min(buf.len());
    buf[count..].fill(0);
}

/// Reads `len` bytes at `offset`, zeros past the end. The caller bounds `len`.
pub(crate) fn read_vec(source: &(impl ReadAt + ?Sized), offset: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0; len];
    read_padded(source, offset, &mut buf);
    buf
}

/// Reads a big-endian 64-bit number, zeros past the end.
pub(crate) fn read_u64(source: &(impl ReadAt + ?Sized), offset: u64) -> u64 {
    let mut buf = [0; 8];
    read_padded(source, offset, &mut buf);
    u64::from_be_bytes(buf)
}

/// A big-endian number of up to 8 bytes.
pub(crate) fn read_be(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
