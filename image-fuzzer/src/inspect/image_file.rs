//! Image files, opened for reading.

use std::fs::{self, File, FileType};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Error, Result, bail};
use image_formats::{AnyImage, FieldError, Format, ReadAt};
use nix::unistd::{Whence, lseek};

/// A file as a source of bytes. Its length is the one it had when it was opened.
#[derive(Debug)]
pub(super) struct FileSource {
    file: File,
    len: u64,
}

impl FileSource {
    /// Opens a regular file or a block device for reading. Other files have no offsets to read
    /// at, and opening a pipe blocks until it has a writer.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is another kind of file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = || format!("failed to open '{}'", path.display());
        let metadata = fs::metadata(path).with_context(failed)?;
        if let Some(kind) = other_kind(metadata.file_type()) {
            bail!("'{}' is {kind}, not an image", path.display());
        }
        let file = File::open(path).with_context(failed)?;
        // The metadata of a block device has no length, but one can seek to its end.
        let end = lseek(&file, 0, Whence::SeekEnd).ok();
        let len = end
            .and_then(|end| u64::try_from(end).ok())
            .unwrap_or(metadata.len());
        Ok(Self { file, len })
    }
}

/// What a file is, where it cannot be an image.
fn other_kind(kind: FileType) -> Option<&'static str> {
    if kind.is_file() || kind.is_block_device() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a pipe")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device without offsets")
    }
}

impl ReadAt for FileSource {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn next_data(&self, offset: u64) -> Option<Range<u64>> {
        if offset >= self.len {
            return None;
        }
        let whole = Some(offset..self.len);
        let Ok(from) = i64::try_from(offset) else {
            return whole;
        };
        match lseek(&self.file, from, Whence::SeekData) {
            Ok(start) => {
                let end = lseek(&self.file, start, Whence::SeekHole).ok();
                let end = end
                    .and_then(|end| u64::try_from(end).ok())
                    .unwrap_or(self.len);
                Some(start.unsigned_abs()..end)
            }
            // No data is left.
            Err(nix::errno::Errno::ENXIO) => None,
            // The file system cannot tell.
            Err(_) => whole,
        }
    }
}

/// Opens an image of `format`, or of the one that its bytes show.
///
/// # Errors
///
/// The file cannot be opened or read, or the format is unknown or not recognised.
pub(super) fn open(path: &Path, format: Option<&str>) -> Result<AnyImage> {
    let source = Arc::new(FileSource::open(path)?);
    let format = match format {
        Some(name) => Format::from_name(name).with_context(|| {
            let known: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
            format!("unknown format '{name}'; known: {}", known.join(", "))
        })?,
        None => {
            let probed = Format::probe(&*source).with_context(|| not_read(path))?;
            probed.with_context(|| {
                format!(
                    "'{}': unrecognised image format; name one with --format",
                    path.display()
                )
            })?
        }
    };
    AnyImage::open(source, format).with_context(|| not_read(path))
}

/// Adds the name of the image to a failed read; other errors name the field.
pub(super) fn field_error(path: &Path) -> impl FnOnce(FieldError) -> Error {
    move |error| match error {
        FieldError::Read(error) => Error::new(error).context(not_read(path)),
        other => other.into(),
    }
}

/// The context of an error of reading an image.
pub(super) fn not_read(path: &Path) -> String {
    format!("failed to read '{}'", path.display())
}
