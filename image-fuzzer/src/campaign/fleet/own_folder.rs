//! Our own folder among those of a fleet, which the others read and nobody else writes.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::entry::{EntryName, own_name};
use crate::files::{TEMP_PREFIX, persist_as, write_temp, write_whole};
use image_mutations::named_file::NamedFile;

/// The file that says that a folder belongs to this fuzzer, and to which campaign. Its entries
/// are whole whenever they can be seen.
pub(super) const MARKER: &str = ".image-fuzzer";

/// Where AFL++ notes which entries of which sibling it has read.
const SYNCED: &str = ".synced";

/// Our folder, locked for as long as this lives.
#[derive(Debug)]
pub(in crate::campaign) struct OwnFolder {
    root: PathBuf,
    /// The number of the next entry.
    next: u32,
    /// The numbers in the queue of the work folder of the entries that are there.
    written: HashSet<u32>,
    _lock: Option<Flock<File>>,
}

impl OwnFolder {
    /// Opens or makes the folder `root` for the campaign with this seed, and keeps others out.
    ///
    /// # Errors
    ///
    /// It belongs to another fuzzer or another campaign, or cannot be written.
    pub(in crate::campaign) fn open(root: &Path, seed: &str, command_line: &str) -> Result<Self> {
        let name = root.display();
        let cannot = || format!("cannot make '{name}'");
        fs::create_dir_all(root).with_context(cannot)?;
        let marker = root.join(MARKER);
        let is_ours = marker.exists();
        if !is_ours && others_in(root)? {
            bail!("'{name}' belongs to another fuzzer: give another --name");
        }
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false);
        let file = file.open(&marker).with_context(cannot)?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Some(lock),
            Err((_, Errno::EWOULDBLOCK)) => {
                bail!("another image-fuzzer is using '{name}': give another --name")
            }
            // Not all shared file systems know locks.
            Err(_) => None,
        };
        let mut owner = String::new();
        match &mut lock {
            Some(lock) => lock.read_to_string(&mut owner).map(|_| ()),
            None => fs::read_to_string(&marker).map(|text| owner = text),
        }
        .with_context(|| format!("cannot read '{}'", marker.display()))?;
        let line = format!("seed {seed}\n");
        if owner.is_empty() {
            // Written in place: a new file would not have the lock.
            let mut out = File::options().write(true).open(&marker);
            out.as_mut()
                .map_err(|error| std::io::Error::from(error.kind()))
                .and_then(|out| out.write_all(line.as_bytes()))
                .with_context(cannot)?;
        } else if owner != line {
            bail!(
                "'{name}' belongs to the campaign with the seed '{}': give another --name",
                owner.trim_start_matches("seed ").trim_end()
            );
        }
        for folder in ["queue", SYNCED] {
            fs::create_dir_all(root.join(folder)).with_context(cannot)?;
        }
        write_whole(&root.join("fuzzer_setup"), setup(command_line).as_bytes())?;
        Self::read(root, lock)
    }

    /// Reads what is there, and removes what a kill left.
    fn read(root: &Path, lock: Option<Flock<File>>) -> Result<Self> {
        let (mut next, mut written) = (0, HashSet::new());
        let queue = root.join("queue");
        let failed = || format!("cannot read '{}'", queue.display());
        for entry in fs::read_dir(&queue).with_context(failed)? {
            let name = entry.with_context(failed)?.file_name();
            let Some(entry) = EntryName::parse(&name.to_string_lossy()) else {
                continue;
            };
            next = next.max(entry.id.saturating_add(1));
            written.extend(entry.origin());
        }
        for entry in fs::read_dir(root).with_context(failed)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self {
            root: root.to_owned(),
            next,
            written,
            _lock: lock,
        })
    }

    /// Whether entry `origin` of the work folder's queue is there.
    pub(in crate::campaign) fn has(&self, origin: u32) -> bool {
        self.written.contains(&origin)
    }

    /// Adds an image, entry `origin` of the work folder's queue, with when it was made, as
    /// [`own_name`] has it. The numbers of entries have no gaps, since AFL++ would wait for
    /// ever for one that is missing.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(in crate::campaign) fn add(
        &mut self,
        image: &NamedFile,
        origin: u32,
        made: (u64, u64),
        op: &str,
    ) -> Result<()> {
        // Beside the queue, which others list.
        let temp = write_temp(&self.root, image)?;
        let name = own_name(self.next, origin, made, op);
        persist_as(temp, &self.root.join("queue"), &name)?;
        self.next += 1;
        self.written.insert(origin);
        Ok(())
    }

    /// The number of the next entry of a sibling that is to be read.
    pub(in crate::campaign) fn synced(&self, sibling: &str) -> u32 {
        let bytes = fs::read(self.root.join(SYNCED).join(sibling)).unwrap_or_default();
        let bytes = bytes.first_chunk::<4>().copied();
        bytes.map_or(0, u32::from_ne_bytes)
    }

    /// Notes that, in the form that AFL++ has it: four bytes in the order of the machine.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(in crate::campaign) fn set_synced(&self, sibling: &str, next: u32) -> Result<()> {
        let path = self.root.join(SYNCED).join(sibling);
        write_whole(&path, &next.to_ne_bytes())
    }

    /// Copies the statistics of the work folder, for AFL++'s tools.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(in crate::campaign) fn set_stats(&self, work: &Path, name: &str) -> Result<()> {
        // There are none before the first are written.
        match fs::read(work.join(name)) {
            Ok(text) => write_whole(&self.root.join(name), &text),
            Err(_) => Ok(()),
        }
    }
}

/// Whether there is anything in a folder, besides what a kill left of us.
fn others_in(root: &Path) -> Result<bool> {
    let entries = fs::read_dir(root);
    let entries = entries.with_context(|| format!("cannot read '{}'", root.display()))?;
    let mut names = entries.flatten().map(|entry| entry.file_name());
    Ok(names.any(|name| !name.to_string_lossy().starts_with(TEMP_PREFIX)))
}

/// What AFL++'s tools know an instance by.
fn setup(command_line: &str) -> String {
    format!("# environment variables:\n# command line:\n{command_line}\n")
}

#[cfg(test)]
mod tests {
    use image_formats::Store;

    use super::*;

    fn image(byte: u8) -> NamedFile {
        let bytes = Store::over(std::sync::Arc::new(vec![byte; 10]));
        NamedFile::new("a", &bytes)
    }

    #[test]
    fn entries_are_numbered_on_after_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("one");
        let mut own = OwnFolder::open(&root, "s", "image-fuzzer w").unwrap();
        own.add(&image(1), 5, (10, 20), "none").unwrap();
        own.add(&image(2), 9, (11, 21), "havoc").unwrap();
        own.set_synced("two", 77).unwrap();
        let said = OwnFolder::open(&root, "s", "").unwrap_err().to_string();
        assert!(said.contains("another image-fuzzer is using"), "{said}");
        drop(own);
        fs::write(root.join(".new-left"), "half").unwrap();
        let mut own = OwnFolder::open(&root, "s", "").unwrap();
        assert!(!root.join(".new-left").exists());
        assert!(own.has(5) && own.has(9) && !own.has(6));
        assert_eq!((own.synced("two"), own.synced("three")), (77, 0));
        own.add(&image(3), 6, (12, 22), "none").unwrap();
        let queue = root.join("queue");
        let mut names: Vec<String> = fs::read_dir(&queue)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let starts = [
            "id:000000,orig:000005,",
            "id:000001,",
            "id:000002,orig:000006,",
        ];
        assert_eq!(names.len(), 3);
        assert!(
            names
                .iter()
                .zip(starts)
                .all(|(name, start)| name.starts_with(start)),
            "{names:?}"
        );
        assert_eq!(fs::read(queue.join(&names[2])).unwrap(), [3; 10]);
    }

    #[test]
    fn a_folder_of_others_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let error =
            |root: &Path, seed: &str| OwnFolder::open(root, seed, "").unwrap_err().to_string();
        let afl = dir.path().join("afl");
        fs::create_dir_all(afl.join("queue")).unwrap();
        assert!(error(&afl, "s").contains("belongs to another fuzzer"));
        assert_eq!(fs::read_dir(&afl).unwrap().count(), 1);
        let ours = dir.path().join("ours");
        OwnFolder::open(&ours, "one", "").unwrap();
        let said = error(&ours, "two");
        assert!(said.contains("the campaign with the seed 'one'"), "{said}");
    }
}
