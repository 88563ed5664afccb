//! Files that are written whole or not at all, and logs.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempPath;

use image_mutations::named_file::NamedFile;

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
