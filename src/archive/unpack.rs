//! An archive becomes a folder that tests are run from.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use sha2::{Digest as _, Sha256};

use super::contents::{Contents, Member};
use super::format::Archive;
use super::pack::CACHE;
use super::{LIST, RUNNER};

/// How the name of a folder begins that is not complete yet.
const UNFINISHED: &str = ".new-";

/// An archive that is unpacked.
#[derive(Debug)]
pub struct Unpacked {
    /// The folder: a source directory, with the programs beside its parts.
    pub dir: PathBuf,
    /// What in the folder was not as in the archive, and where all that it held is now.
    pub replaced: Option<(String, PathBuf)>,
}

impl Unpacked {
    /// The runner in it.
    #[must_use]
    pub fn runner(&self) -> PathBuf {
        self.dir.join(RUNNER)
    }
}

/// What a folder is, compared with an archive.
enum State {
    Same,
    Missing,
    /// What is not the same.
    Changed(String),
}

impl Archive {
    /// Unpacks it below `parent`, unless that is done already. A folder that is not as the
    /// archive has it is kept under another name.
    ///
    /// # Errors
    ///
    /// The archive is damaged, or the folder cannot be written.
    pub fn unpack(&mut self, parent: &Path) -> Result<Unpacked> {
        let dir = parent.join(self.id());
        if let State::Same = self.compare(&dir) {
            return Ok(Unpacked {
                dir,
                replaced: None,
            });
        }
        let cannot = || {
            format!(
                "cannot unpack '{}' in {}; set TEST_DIR to a writable directory with space",
                self.path.display(),
                parent.display()
            )
        };
        std::fs::create_dir_all(parent).with_context(cannot)?;
        let lock = File::open(parent).with_context(cannot)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusive);
        if lock.is_ok() {
            remove_unfinished(parent);
        }
        let new = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(parent)
            .map_err(|error| io::Error::from(error.kind()))
            .with_context(cannot)?;
        let replaced = self.unpack_as(&dir, new)?;
        Ok(Unpacked { dir, replaced })
    }

    /// Unpacks it in the folder `new`, and names that `dir`.
    fn unpack_as(
        &mut self,
        dir: &Path,
        new: tempfile::TempDir,
    ) -> Result<Option<(String, PathBuf)>> {
        let state = self.compare(dir);
        if let State::Same = state {
            return Ok(None);
        }
        let shown = self.path.display().to_string();
        self.extract(new.path())
            .with_context(|| format!("cannot unpack '{shown}' in {}", dir.display()))?;
        let named = || {
            format!(
                "cannot rename {} to {}",
                new.path().display(),
                dir.display()
            )
        };
        let replaced = match state {
            State::Changed(why) => Some((why, replace(new.path(), dir).with_context(named)?)),
            _ => match std::fs::rename(new.path(), dir) {
                Ok(()) => None,
                // Where files cannot be locked, another run may have been faster.
                Err(_) if matches!(self.compare(dir), State::Same) => return Ok(None),
                Err(error) => return Err(error).with_context(named),
            },
        };
        // There is nothing left to remove.
        let _ = new.keep();
        Ok(replaced)
    }

    /// Whether the folder `dir` holds this archive, of which only the ends have been looked
    /// at.
    #[must_use]
    pub fn is_unpacked_in(&self, dir: &Path) -> bool {
        std::fs::read(dir.join(LIST)).is_ok_and(|list| self.has(&list))
    }

    /// Writes all files below `dir`, which is empty.
    fn extract(&mut self, dir: &Path) -> Result<()> {
        let files = self.contents.files.clone();
        let mut left: HashMap<&str, &Member> = files.iter().map(|f| (f.path.as_str(), f)).collect();
        let runner = left.remove(RUNNER).context("it has no runner")?;
        write_member(dir, runner, &mut self.runner()?)?;
        let tar = zstd::stream::read::Decoder::new(self.tar()?)?;
        let mut tar = tar::Archive::new(tar);
        for entry in tar.entries().context("it is damaged")? {
            let mut entry = entry.context("it is damaged")?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            // What is not in the list has no hash, and may lie outside the folder.
            let Some(member) = left.remove(path.as_str()) else {
                bail!("it is damaged: it holds '{path}', which is not in its list");
            };
            write_member(dir, member, &mut entry)?;
        }
        if let Some(missing) = left.keys().min() {
            bail!("it is damaged: it does not hold '{missing}'");
        }
        write_new(&dir.join(LIST), 0o644, |file| {
            file.write_all(self.list.as_bytes())
        })
    }

    /// Compares the folder `dir` with the archive, to the last byte.
    fn compare(&self, dir: &Path) -> State {
        match dir.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return State::Changed("it is not a folder".to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => return State::Missing,
            Err(error) => return State::Changed(error.to_string()),
        }
        let mut left: HashMap<&str, &Member> = self
            .contents
            .files
            .iter()
            .map(|file| (file.path.as_str(), file))
            .collect();
        let compared = compare_folder(dir, Path::new(""), &mut left);
        let missing = || left.keys().min().map(|path| format!("{path} is missing"));
        match compared.err().or_else(missing) {
            Some(why) => State::Changed(why),
            None if self.is_unpacked_in(dir) => State::Same,
            None => State::Changed(format!("{LIST} has changed")),
        }
    }
}

/// Compares what is in the folder `below` of `dir`, and takes what is the same from `left`.
fn compare_folder(
    dir: &Path,
    below: &Path,
    left: &mut HashMap<&str, &Member>,
) -> Result<(), String> {
    let full = dir.join(below);
    let cannot = |error: io::Error| format!("{}: {error}", below.display());
    for entry in full.read_dir().map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let path = below.join(entry.file_name());
        let kind = entry.file_type().map_err(cannot)?;
        if kind.is_dir() {
            // Python writes what it compiled beside a script.
            if entry.file_name() != CACHE {
                compare_folder(dir, &path, left)?;
            }
            continue;
        }
        if path == Path::new(LIST) {
            continue;
        }
        let Some(member) = path.to_str().and_then(|path| left.remove(path)) else {
            return Err(format!("{} is not of the archive", path.display()));
        };
        if !kind.is_file() || !same(&entry.path(), member).unwrap_or(false) {
            return Err(format!("{} has changed", path.display()));
        }
    }
    Ok(())
}

/// Whether the file at `path` is as `member` says.
fn same(path: &Path, member: &Member) -> io::Result<bool> {
    let metadata = path.metadata()?;
    let executable = metadata.permissions().mode() & 0o111 != 0;
    Ok(metadata.len() == member.size
        && executable == member.executable
        && hash_of(&mut File::open(path)?, &mut io::sink())? == member.sha256)
}

/// Copies all that `from` gives to `to`, and gives its hash.
fn hash_of(from: &mut dyn Read, to: &mut dyn io::Write) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(n) => {
                hash.update(&buffer[..n]);
                to.write_all(&buffer[..n])?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes a file of the archive below `dir`.
fn write_member(dir: &Path, member: &Member, from: &mut dyn Read) -> Result<()> {
    let path = dir.join(&member.path);
    let mut written = [0; 32];
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // One byte more than it should have is enough to see that it is another.
    let mut from = from.take(member.size + 1);
    write_new(&path, member.mode(), |file| {
        written = hash_of(&mut from, file)?;
        Ok(())
    })?;
    if written != member.sha256 {
        bail!("it is damaged: '{}' is not what its list says", member.path);
    }
    Ok(())
}

fn write_new(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<()> {
    let mut open = OpenOptions::new();
    let file = open.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        write(&mut file)?;
        // Whatever the umask is: others may run tests from the same folder.
        file.set_permissions(Permissions::from_mode(mode))
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Removes what runs that were killed left in `parent`, which is locked.
fn remove_unfinished(parent: &Path) {
    let entries = parent.read_dir().into_iter().flatten().flatten();
    for entry in entries {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(UNFINISHED.as_bytes())
        {
            // What cannot be removed is in nobody's way.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Gives the folder `new` the name `dir`. What had it gets another, which is returned.
fn replace(new: &Path, dir: &Path) -> io::Result<PathBuf> {
    // At no moment is there no folder for those who run tests from it.
    let flags = RenameFlags::RENAME_EXCHANGE;
    match renameat2(AT_FDCWD, new, AT_FDCWD, dir, flags) {
        Ok(()) => set_aside(new, dir),
        // Not every file system can exchange.
        Err(_) => {
            let aside = set_aside(dir, dir)?;
            std::fs::rename(new, dir).map(|()| aside)
        }
    }
}

/// Gives `from` a name beside `dir` that nothing has, and tells it.
fn set_aside(from: &Path, dir: &Path) -> io::Result<PathBuf> {
    let mut last = io::Error::from(ErrorKind::AlreadyExists);
    for n in 1..10_000 {
        let mut name = dir.as_os_str().to_owned();
        name.push(format!(".changed-{n}"));
        let name = PathBuf::from(name);
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(AT_FDCWD, from, AT_FDCWD, &name, flags) {
            Ok(()) => return Ok(name),
            Err(Errno::EEXIST) => {}
            // Not every file system can refuse to replace.
            Err(Errno::EINVAL) if name.symlink_metadata().is_err() => {
                return std::fs::rename(from, &name).map(|()| name);
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// The folder of the unpacked archive that this program is the runner of, and what that is;
/// `None` where it is another runner.
#[must_use]
pub fn unpacked_here() -> Option<(PathBuf, Contents)> {
    let own = std::env::current_exe().ok()?;
    let dir = own.parent()?;
    let list = std::fs::read_to_string(dir.join(LIST)).ok()?;
    let contents = Contents::decode(&list)?;
    let is_runner = own.file_name()? == RUNNER && contents.files.first()?.path == RUNNER;
    is_runner.then(|| (dir.to_owned(), contents))
}
