//! A worker's scratch folder, in memory where the machine has such a place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use image_mutations::named_file::NamedFile;

/// What the names of scratch folders begin with.
pub(crate) const PREFIX: &str = "image-fuzzer.";

/// A folder of one worker's own, removed with everything in it when dropped.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// Creates a scratch folder in memory (`/dev/shm`), else below `fallback`.
    ///
    /// # Errors
    ///
    /// Neither can be written.
    pub fn new(fallback: &Path) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let folder = owned(memory)
            .or_else(|_| owned(fallback))
            .with_context(|| {
                format!("cannot create a scratch folder in '{}'", fallback.display())
            })?;
        for name in ["w", "gdb"] {
            fs::create_dir(folder.path().join(name)).context("cannot create a scratch folder")?;
        }
        Ok(Self { folder })
    }

    /// The folder programs work in.
    pub fn work(&self) -> PathBuf {
        self.folder.path().join("w")
    }

    /// The folder that the debugger of running programs works in.
    pub fn debugger(&self) -> PathBuf {
        self.folder.path().join("gdb")
    }

    /// Leaves exactly `files` in the work folder.
    ///
    /// # Errors
    ///
    /// A file cannot be removed or written.
    pub fn fill(&self, files: &[NamedFile]) -> io::Result<()> {
        let work = self.work();
        for entry in fs::read_dir(&work)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        files.iter().try_for_each(|file| file.write_into(&work))
    }
}

/// A folder below `parent` that [`sweep`] removes once this process is gone.
///
/// # Errors
///
/// It cannot be made or written.
pub(crate) fn owned(parent: &Path) -> io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
    // The process that owns it, by which a later run finds out that the owner was killed.
    fs::write(folder.path().join("owner"), std::process::id().to_string())?;
    Ok(folder)
}

/// Removes scratch folders below `places` whose owner was killed.
pub fn sweep(places: &[&Path]) {
    for place in places {
        let Ok(entries) = fs::read_dir(place) else {
            continue;
        };
        for entry in entries.flatten() {
            if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
                continue;
            }
            let owner = fs::read_to_string(entry.path().join("owner")).unwrap_or_default();
            let alive = |pid: i32| Path::new("/proc").join(pid.to_string()).exists();
            if owner.parse().is_ok_and(|pid| !alive(pid)) {
                // Another user's folder cannot be removed, and need not be.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_folder_holds_the_files_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(parent.path()).unwrap();
        fs::create_dir(scratch.work().join("left")).unwrap();
        fs::write(scratch.work().join("left/over"), "x").unwrap();
        let mut bytes = image_formats::Store::new();
        bytes.write(0, &[1, 2]);
        scratch.fill(&[NamedFile::new("a", &bytes)]).unwrap();
        assert_eq!(fs::read(scratch.work().join("a")).unwrap(), [1, 2]);
        assert_eq!(fs::read_dir(scratch.work()).unwrap().count(), 1);
    }

    #[test]
    fn folders_of_killed_owners_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        for (name, owner) in [("image-fuzzer.a", "2147483646"), ("image-fuzzer.b", "1")] {
            fs::create_dir(parent.path().join(name)).unwrap();
            fs::write(parent.path().join(name).join("owner"), owner).unwrap();
        }
        sweep(&[parent.path()]);
        assert!(!parent.path().join("image-fuzzer.a").exists());
        assert!(parent.path().join("image-fuzzer.b").exists());
    }
}
