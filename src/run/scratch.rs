//! A job's scratch directory: made fresh, measured, removed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use childproc::{mounts_below, unmount};

/// Makes `dir` and empties it of what an earlier run left there, mounts
/// included. Gives its path without symbolic links.
///
/// # Errors
///
/// It cannot be made or emptied; the error names the path.
pub(super) fn fresh(dir: &Path) -> io::Result<PathBuf> {
    let with_path = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", dir.display()));
    fs::create_dir_all(dir).map_err(with_path)?;
    let dir = dir.canonicalize().map_err(with_path)?;
    let old: Vec<fs::DirEntry> = fs::read_dir(&dir)
        .and_then(Iterator::collect)
        .map_err(with_path)?;
    if !old.is_empty() {
        for mount in mounts_below(&[&dir])?.iter().rev() {
            unmount(&mount.path).map_err(with_path)?;
        }
    }
    for entry in old {
        let removed = if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        };
        removed.map_err(with_path)?;
    }
    Ok(dir)
}

/// How much disk space the files below `dir` take, in bytes.
///
/// What is mounted below it is left out: a program that hangs may serve it, and
/// asking would hang us too.
pub(super) fn disk_usage(dir: &Path) -> u64 {
    let mounts = mounts_below(&[dir]).unwrap_or_default();
    let mut total = 0;
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if mounts.iter().any(|mount| mount.path == path) {
                continue;
            }
            if let Ok(meta) = entry.metadata() {
                total += meta.blocks() * 512;
                if meta.is_dir() {
                    dirs.push(path);
                }
            }
        }
    }
    total
}

/// Removes `dir` and all below it, unless something is still mounted there.
///
/// # Errors
///
/// Something cannot be removed, or is mounted there: what it shows is not ours to
/// remove.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    if let Some(mount) = mounts_below(&[dir])?.first() {
        let text = format!("{} is still mounted", mount.path.display());
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_left_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/file"), "x").unwrap();
        fs::write(dir.join("030.notrun"), "old").unwrap();
        let fresh = fresh(&dir).unwrap();
        assert_eq!(fs::read_dir(fresh).unwrap().count(), 0);
    }

    #[test]
    fn holes_take_no_space() {
        let temp = tempfile::tempdir().unwrap();
        let sparse = fs::File::create(temp.path().join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let before = disk_usage(temp.path());
        assert!(before < 1 << 20);
        fs::create_dir(temp.path().join("sub")).unwrap();
        fs::write(temp.path().join("sub/data"), vec![1; 1 << 20]).unwrap();
        fs::File::open(temp.path().join("sub/data"))
            .unwrap()
            .sync_all()
            .unwrap();
        assert!(disk_usage(temp.path()) >= before + (1 << 20));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = fresh(Path::new("/proc/nowhere/x")).unwrap_err().to_string();
        assert!(error.contains("/proc/nowhere/x"), "{error}");
    }
}
