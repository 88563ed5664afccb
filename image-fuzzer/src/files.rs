//! Files that are written whole or not at all, and logs.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use image_formats::Store;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek64};
use tempfile::TempPath;

use image_mutations::named_file::{MOST_BYTES, NamedFile};

/// Writes a file so that it is there whole or not at all.
///
/// # Errors
///
/// The folder cannot be written.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<()> {
    atomic_write::write(path, |out| out.write_all(contents))
        .with_context(|| format!("cannot write '{}'", path.display()))
}

/// Appends to a log in one write.
///
/// # Errors
///
/// The log cannot be written.
pub fn append(path: &Path, text: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    let log = options.create(true).append(true).open(path);
    log.and_then(|mut log| log.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write to '{}'", path.display()))
}

/// Writes an image into `folder` under a temporary name, to be [given its
/// name](persist_as); it is removed with the value that is returned.
///
/// # Errors
///
/// The folder cannot be written.
pub fn write_temp(folder: &Path, image: &NamedFile) -> Result<TempPath> {
    let write = || -> io::Result<TempPath> {
        let file = tempfile::Builder::new()
            .prefix(TEMP_PREFIX)
            .permissions(PermissionsExt::from_mode(0o644))
            .tempfile_in(folder)?;
        image.write_to(file.as_file())?;
        Ok(file.into_temp_path())
    };
    write().with_context(|| format!("cannot write an image into '{}'", folder.display()))
}

/// The bytes of an image, its holes left out. Links are not followed, and pipes and devices
/// not opened: whoever wrote the folder may have put anything there.
///
/// # Errors
///
/// It cannot be read, is no file, or is longer than what is kept of files.
pub fn read_image(path: &Path) -> io::Result<Store> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    if meta.len() > MOST_BYTES {
        let text = format!("longer than {MOST_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(Store::over(Arc::new(bytes)))
}

/// Copies a file to a new one with its permissions, and with holes where it has them: images
/// are longer than disks.
///
/// # Errors
///
/// It cannot be read, or the other one exists or cannot be written.
pub fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let (source, target) = (File::open(from)?, File::create_new(to)?);
    let meta = source.metadata()?;
    let seek = |at: u64, what| {
        let at = i64::try_from(at).map_err(|_| Errno::EOVERFLOW)?;
        lseek64(&source, at, what).map(i64::cast_unsigned)
    };
    let mut piece = vec![0; 64 << 10];
    let mut at = 0;
    while at < meta.len() {
        let start = match seek(at, Whence::SeekData) {
            Err(Errno::ENXIO) => break,
            start => start.unwrap_or(at),
        };
        let end = seek(start, Whence::SeekHole)
            .ok()
            .filter(|end| *end > start);
        let end = end.unwrap_or(meta.len()).min(meta.len());
        at = start;
        while at < end {
            let most = piece
                .len()
                .min(usize::try_from(end - at).unwrap_or(usize::MAX));
            let count = source.read_at(&mut piece[..most], at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            target.write_all_at(&piece[..count], at)?;
            at += count as u64;
        }
    }
    target.set_len(meta.len())?;
    target.set_permissions(meta.permissions())
}

/// Gives an image in `folder` its name.
///
/// # Errors
///
/// The folder cannot be written.
pub fn persist_as(image: TempPath, folder: &Path, name: &str) -> Result<()> {
    let path = folder.join(name);
    image
        .persist(&path)
        .with_context(|| format!("cannot write '{}'", path.display()))
}

/// What temporary names begin with.
pub const TEMP_PREFIX: &str = ".new-";

/// A file or folder that exists, as an absolute path.
///
/// # Errors
///
/// There is none, in words.
pub fn existing_path(text: &str) -> Result<std::path::PathBuf, String> {
    std::fs::canonicalize(text).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// The image of a finding may be longer than the disk that it is copied to.
    #[test]
    fn a_copy_has_the_holes_of_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        let file = File::create(&from).unwrap();
        file.write_all_at(b"start", 0).unwrap();
        file.write_all_at(&[7; 100_000], 1 << 20).unwrap();
        file.set_len(1 << 40).unwrap();
        file.set_permissions(PermissionsExt::from_mode(0o751))
            .unwrap();
        copy_sparse(&from, &to).unwrap();
        let meta = std::fs::metadata(&to).unwrap();
        assert_eq!((meta.len(), meta.mode() & 0o777), (1 << 40, 0o751));
        assert!(meta.blocks() * 512 < 1 << 20);
        let mut read = vec![0; 100_002];
        File::open(&to)
            .unwrap()
            .read_exact_at(&mut read, (1 << 20) - 1)
            .unwrap();
        assert_eq!(
            (read[0], read[1], read[100_000], read[100_001]),
            (0, 7, 7, 0)
        );
        assert!(copy_sparse(&from, &to).is_err());
    }

    #[test]
    fn only_files_are_read_as_images() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "bytes").unwrap();
        assert_eq!(
            read_image(&at("file")).unwrap().to_vec(9).unwrap(),
            b"bytes"
        );
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        File::create(at("long"))
            .unwrap()
            .set_len(MOST_BYTES + 1)
            .unwrap();
        for name in ["link", "pipe", "long", ".", "none"] {
            assert!(read_image(&at(name)).is_err(), "{name}");
        }
    }
}
