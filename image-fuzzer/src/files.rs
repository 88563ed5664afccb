//! Files that are written whole or not at all.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempPath;

use crate::named_file::NamedFile;

/// Writes a file so that it is there whole or not at all.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(contents)?;
        let mode = PermissionsExt::from_mode(0o644);
        fs::set_permissions(file.path(), mode)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write '{}'", path.display()))
}

/// Writes an image into `folder` under a name that nobody looks at, which goes away with what
/// is returned.
pub fn write_nameless(folder: &Path, image: &NamedFile) -> Result<TempPath> {
    let write = || -> std::io::Result<TempPath> {
        let file = tempfile::Builder::new()
            .prefix(NAMELESS)
            .permissions(PermissionsExt::from_mode(0o644))
            .tempfile_in(folder)?;
        image.write_to(file.as_file())?;
        Ok(file.into_temp_path())
    };
    write().with_context(|| format!("cannot write an image into '{}'", folder.display()))
}

/// Gives an image in `folder` its name.
pub fn persist_as(image: TempPath, folder: &Path, name: &str) -> Result<()> {
    let path = folder.join(name);
    image
        .persist(&path)
        .with_context(|| format!("cannot write '{}'", path.display()))
}

/// What the names of images begin with that are being written.
pub const NAMELESS: &str = ".new-";
