//! A job's scratch directory: made fresh, measured, removed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use childproc::{mounts_below, unmount};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A directory that no other run uses as long as this is there.
#[derive(Debug)]
pub(super) struct Claim {
    /// `None` on a file system that knows no locks.
    _lock: Option<Flock<File>>,
}

/// How often a directory in use is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Claim {
    /// Makes `dir` and keeps other runs out of it: two in the same `TEST_DIR` would empty
    /// and remove the directory under each other's tests. Waits until another run has done
    /// with it, at most for `most`, or until `stopped`.
    ///
    /// # Errors
    ///
    /// The directory cannot be made (the error names it), is in use for longer
    /// (`ResourceBusy`), or the wait was stopped (`Interrupted`).
    pub(super) fn new(dir: &Path, most: Duration, stopped: &dyn Fn() -> bool) -> io::Result<Self> {
        let with_path = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", dir.display()));
        let end = Instant::now() + most;
        loop {
            fs::create_dir_all(dir).map_err(with_path)?;
            let opened = match File::open(dir) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(with_path)?,
            };
            match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
                Ok(lock) if is_at(&lock, dir) => return Ok(Self { _lock: Some(lock) }),
                // The other run has removed it meanwhile.
                Ok(_) => continue,
                Err((_, Errno::EWOULDBLOCK)) => {}
                Err(_) => return Ok(Self { _lock: None }),
            }
            if stopped() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if Instant::now() >= end {
                let text = format!(
                    "{} is in use by another run; set another TEST_DIR",
                    dir.display()
                );
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Whether `file` is the file at `path` now.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let (Ok(held), Ok(there)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    place(held) == place(there)
}

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
    fn a_directory_has_one_user() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("x");
        let claim = |most| Claim::new(&dir, most, &|| false);
        let first = claim(Duration::ZERO).unwrap();
        let busy = claim(Duration::ZERO).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
        let stopped = Claim::new(&dir, Duration::from_secs(600), &|| true).unwrap_err();
        assert_eq!(stopped.kind(), io::ErrorKind::Interrupted);
        thread::scope(|scope| {
            let second = scope.spawn(|| claim(Duration::from_secs(600)));
            remove(&dir).unwrap();
            drop(first);
            let second = second.join().unwrap().unwrap();
            // What it holds is what is there now.
            assert!(claim(Duration::ZERO).is_err());
            drop(second);
        });
        claim(Duration::ZERO).unwrap();
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
