//! A job's scratch directory: made fresh, measured, removed.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use childproc::{mounts_below, unmount};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};

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
    remove_entries(old).map_err(with_path)?;
    Ok(dir)
}

fn remove_entries(entries: impl IntoIterator<Item = fs::DirEntry>) -> io::Result<()> {
    for entry in entries {
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
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
    nothing_mounted(dir)?;
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn nothing_mounted(dir: &Path) -> io::Result<()> {
    match mounts_below(&[dir])?.first() {
        None => Ok(()),
        Some(mount) => {
            let text = format!("{} is still mounted", mount.path.display());
            Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
        }
    }
}

/// Emptied directories and output files of jobs that are done, for the next ones: a file
/// system may take long to make new ones where others have just been removed (ext4 passes
/// over every inode that was removed in the last seconds).
#[derive(Debug)]
pub(super) struct Spares {
    /// The permissions that new files do not get; where they are not known, nothing is kept.
    umask: Option<u32>,
    dirs: Mutex<Vec<PathBuf>>,
    files: Mutex<Vec<PathBuf>>,
    made: AtomicUsize,
}

/// How the names of spare directories and files begin.
const SPARE: &str = ".spare-";

impl Spares {
    /// None yet. Those that killed runs left in `roots` are removed; where they belong to
    /// a run that goes on, that makes new ones.
    pub(super) fn new(roots: &[&Path]) -> Self {
        let entries = roots.iter().filter_map(|root| fs::read_dir(root).ok());
        for entry in entries.flatten().flatten() {
            if entry.file_name().as_bytes().starts_with(SPARE.as_bytes()) {
                remove_spare(&entry.path());
            }
        }
        Self {
            umask: umask(),
            dirs: Mutex::default(),
            files: Mutex::default(),
            made: AtomicUsize::new(0),
        }
    }

    /// Moves a spare directory to `dir`, where nothing is there.
    pub(super) fn put_at(&self, dir: &Path) {
        move_one(&self.dirs, dir.parent(), dir);
    }

    /// Moves a spare file, which is empty, to `file` in the directory of a job, where
    /// nothing is there.
    pub(super) fn put_file_at(&self, file: &Path) {
        move_one(&self.files, file.parent().and_then(Path::parent), file);
    }

    /// Empties `dir`, in which `output` may be the output of the job, and keeps both for
    /// another job, or removes them.
    ///
    /// # Errors
    ///
    /// As for [`remove`].
    pub(super) fn keep(&self, dir: &Path, output: Option<&Path>) -> io::Result<()> {
        nothing_mounted(dir)?;
        if self.emptied(dir, output).is_err() {
            return remove(dir);
        }
        Ok(())
    }

    fn emptied(&self, dir: &Path, output: Option<&Path>) -> io::Result<()> {
        let mask = self.umask.ok_or(io::ErrorKind::Unsupported)?;
        let parent = dir.parent().ok_or(io::ErrorKind::InvalidInput)?;
        // What a test did to its own directory must not show in the next one's.
        if fs::symlink_metadata(dir)?.mode() & 0o777 != 0o777 & !mask {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if let Some(output) = output {
            let meta = fs::symlink_metadata(output)?;
            let is_as_made = meta.is_file() && meta.mode() & 0o7777 == 0o666 & !mask;
            if is_as_made && meta.nlink() == 1 {
                File::options().write(true).truncate(true).open(output)?;
                self.store(&self.files, output, parent)?;
            }
        }
        remove_entries(fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?)?;
        self.store(&self.dirs, dir, parent)
    }

    /// Moves `path` to a name of its own in `parent`.
    fn store(&self, all: &Mutex<Vec<PathBuf>>, path: &Path, parent: &Path) -> io::Result<()> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let spare = parent.join(format!("{SPARE}{}-{number}", std::process::id()));
        fs::rename(path, &spare)?;
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(spare);
        Ok(())
    }
}

/// Moves one of `all` that lies in `parent` to `path`, unless something is there.
fn move_one(all: &Mutex<Vec<PathBuf>>, parent: Option<&Path>, path: &Path) {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(found) = all.iter().position(|spare| spare.parent() == parent) else {
        return;
    };
    let moved = renameat2(
        AT_FDCWD,
        &all[found],
        AT_FDCWD,
        path,
        RenameFlags::RENAME_NOREPLACE,
    );
    if moved != Err(Errno::EEXIST) {
        all.swap_remove(found);
    }
}

/// Removes a spare directory or file; one that has gone meanwhile is not in the way.
fn remove_spare(path: &Path) {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
}

impl Drop for Spares {
    fn drop(&mut self) {
        for all in [&mut self.dirs, &mut self.files] {
            let all = all.get_mut().unwrap_or_else(PoisonError::into_inner);
            all.iter().for_each(|spare| remove_spare(spare));
        }
    }
}

/// The permissions that new files of this process do not get.
fn umask() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let digits = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(digits.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

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
    fn a_spare_directory_is_as_good_as_a_new_one() {
        let temp = tempfile::tempdir().unwrap();
        let (first, second) = (temp.path().join("first"), temp.path().join("second"));
        let left = temp.path().join(format!("{SPARE}1-0"));
        fs::create_dir(&left).unwrap();
        let spares = Spares::new(&[temp.path()]);
        assert!(!left.exists());

        fs::create_dir_all(first.join("sub")).unwrap();
        fs::write(first.join("sub/file"), "x").unwrap();
        fs::write(first.join("out"), "long").unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let before = (inode(&first), inode(&first.join("out")));
        spares.keep(&first, Some(&first.join("out"))).unwrap();
        assert!(!first.exists());
        spares.put_at(&second);
        assert_eq!(fs::read_dir(&second).unwrap().count(), 0);
        let output = second.join("output");
        spares.put_file_at(&output);
        assert_eq!((inode(&second), inode(&output)), before);
        assert_eq!(fs::read(&output).unwrap(), b"");

        // Nothing that is there is replaced.
        spares.keep(&second, Some(&output)).unwrap();
        fs::write(&first, "in use").unwrap();
        spares.put_at(&first);
        assert!(first.is_file());
        drop(spares);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_a_test_changed_is_not_used_again() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("x");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        let spares = Spares::new(&[]);
        spares.keep(&dir, None).unwrap();
        spares.put_at(&dir);
        assert!(!dir.exists());

        let (output, link) = (dir.join("out"), temp.path().join("link"));
        fs::create_dir(&dir).unwrap();
        fs::write(&output, "x").unwrap();
        fs::hard_link(&output, &link).unwrap();
        spares.keep(&dir, Some(&output)).unwrap();
        fs::create_dir(&dir).unwrap();
        spares.put_file_at(&output);
        assert!(!output.exists());
        assert_eq!(fs::read(&link).unwrap(), b"x");
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
