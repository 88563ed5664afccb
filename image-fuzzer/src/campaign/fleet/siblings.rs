//! The folders of the other instances of a fleet, AFL++'s or ours: which of their entries are
//! new. Nothing is ever written there, and nothing in them is trusted: entries vanish, are
//! half written, or are no files at all.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use image_formats::ReadAt as _;

use super::entry::EntryName;
use super::exchange::{Import, Source};
use super::own_folder::{MARKER, OwnFolder};
use crate::files::read_image;
use image_mutations::base::ImportedBase;
use image_mutations::rng::{FNV_START, fnv};

/// Images with more data than this, in bytes, are passed over: all that are kept are in memory.
const MOST_DATA: u64 = 4 << 20;

/// The other instances of a fleet.
#[derive(Debug)]
pub(in crate::campaign) struct Siblings {
    /// The folder of the fleet.
    dir: PathBuf,
    /// Our own name in it.
    name: String,
    known: BTreeMap<String, Sibling>,
    /// Hashes of the images that were read: instances copy each other's.
    seen: HashSet<u64>,
    /// How many entries were passed over, since they could not be read or used.
    pub(in crate::campaign) passed_over: u64,
}

/// What is known of another instance.
#[derive(Debug, Default)]
struct Sibling {
    /// The number of the first entry that is not known yet.
    next: u32,
    /// The number up to which it is stored that all was read.
    stored: u32,
    /// Entries to be read, by rising number.
    waiting: VecDeque<EntryName>,
    /// Numbers of entries that are being run.
    running: BTreeSet<u32>,
    /// The number, length and time of the last entry, where its writer may not be done with it.
    last: Option<(u32, u64, i64)>,
}

impl Sibling {
    /// The number below which all entries were read and run.
    fn done(&self) -> u32 {
        let waiting = self.waiting.front().map(|entry| entry.id);
        let running = self.running.first().copied();
        [waiting, running]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.next)
    }

    /// Takes in the entries of its queue. One that another fuzzer than ours may still be
    /// writing waits until it is the same as the last time.
    fn list(&mut self, queue: &Path, is_ours: bool) {
        let mut entries = entries(queue);
        let Some(last) = entries.last() else {
            return;
        };
        if last.id.saturating_add(1) < self.next && self.running.is_empty() {
            // It was begun anew.
            self.next = 0;
            self.waiting.clear();
        }
        if !is_ours {
            let meta = fs::symlink_metadata(queue.join(&last.name)).ok();
            let now = meta.map(|meta| (last.id, meta.len(), meta.mtime_nsec() ^ meta.mtime()));
            let is_done = now.is_some_and(|(_, len, _)| len > 0) && now == self.last;
            self.last = now;
            if !is_done {
                entries.pop();
            }
        }
        for entry in entries {
            if entry.id >= self.next {
                self.next = entry.id.saturating_add(1);
                self.waiting.push_back(entry);
            }
        }
    }
}

impl Siblings {
    /// Those in the folder `dir`, but for `name`, of which none is known yet.
    pub(in crate::campaign) fn new(dir: &Path, name: &str) -> Self {
        Self {
            dir: dir.to_owned(),
            name: name.to_owned(),
            known: BTreeMap::new(),
            seen: HashSet::new(),
            passed_over: 0,
        }
    }

    /// How many there are.
    pub(in crate::campaign) fn len(&self) -> usize {
        self.known.len()
    }

    /// Looks for instances and entries that are new. What cannot be read now is there the next
    /// time, or never.
    pub(in crate::campaign) fn scan(&mut self, own: &OwnFolder) {
        let Ok(folders) = fs::read_dir(&self.dir) else {
            return;
        };
        for folder in folders.flatten() {
            let Ok(name) = folder.file_name().into_string() else {
                continue;
            };
            let queue = folder.path().join("queue");
            if name.starts_with('.') || name == self.name || !queue.is_dir() {
                continue;
            }
            let is_ours = folder.path().join(MARKER).exists();
            let sibling = self.known.entry(name).or_insert_with_key(|name| {
                let next = own.synced(name);
                Sibling {
                    next,
                    stored: next,
                    ..Sibling::default()
                }
            });
            sibling.list(&queue, is_ours);
        }
    }

    /// Up to `room` images that are to be run, of each instance in turn.
    pub(in crate::campaign) fn take(&mut self, room: usize) -> Vec<Import> {
        let mut taken = Vec::new();
        let names: Vec<String> = self.known.keys().cloned().collect();
        let mut is_empty = false;
        while !is_empty {
            is_empty = true;
            for name in &names {
                if taken.len() == room {
                    return taken;
                }
                let sibling = self.known.get_mut(name);
                let Some(entry) = sibling.and_then(|it| it.waiting.pop_front()) else {
                    continue;
                };
                is_empty = false;
                if let Some(base) = self.read(name, &entry) {
                    let id = entry.id;
                    if let Some(sibling) = self.known.get_mut(name) {
                        sibling.running.insert(id);
                    }
                    let sibling = name.clone();
                    let source = Source { sibling, id };
                    taken.push(Import { base, source });
                }
            }
        }
        taken
    }

    /// The image of an entry; `None` where it is not to be run.
    fn read(&mut self, sibling: &str, entry: &EntryName) -> Option<ImportedBase> {
        let is_here = |name: &str| name == self.name || self.known.contains_key(name);
        if entry.copied_from().is_some_and(is_here) {
            // Read where it was made.
            return None;
        }
        let path = self.dir.join(sibling).join("queue").join(&entry.name);
        let base = read_image(&path).ok().and_then(|bytes| {
            let base = ImportedBase::new(&bytes).ok()?;
            let data: u64 = base.data().iter().map(|it| it.end - it.start).sum();
            (base.file().len() > 0 && data <= MOST_DATA).then_some(base)
        });
        let Some(base) = base else {
            self.passed_over += 1;
            return None;
        };
        let mut hash = fnv(FNV_START, &base.file().len().to_le_bytes());
        hash = fnv(hash, &base.file().to_vec());
        self.seen.insert(hash).then_some(base)
    }

    /// Takes in that an image was run.
    pub(in crate::campaign) fn finish(&mut self, source: &Source) {
        if let Some(sibling) = self.known.get_mut(&source.sibling) {
            sibling.running.remove(&source.id);
        }
    }

    /// Notes how far each instance was read.
    ///
    /// # Errors
    ///
    /// Our own folder cannot be written.
    pub(in crate::campaign) fn store(&mut self, own: &OwnFolder) -> anyhow::Result<()> {
        for (name, sibling) in &mut self.known {
            let done = sibling.done();
            if done != sibling.stored {
                own.set_synced(name, done)?;
                sibling.stored = done;
            }
        }
        Ok(())
    }
}

/// The entries of a queue, by rising number; none where it cannot be read.
fn entries(queue: &Path) -> Vec<EntryName> {
    let listed = fs::read_dir(queue).into_iter().flatten().flatten();
    let names = listed.filter_map(|entry| entry.file_name().into_string().ok());
    let mut entries: Vec<EntryName> = names.filter_map(|name| EntryName::parse(&name)).collect();
    entries.sort();
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fleet with our folder `own`.
    struct Fleet {
        dir: tempfile::TempDir,
        own: OwnFolder,
        siblings: Siblings,
    }

    impl Fleet {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let own = OwnFolder::open(&dir.path().join("own"), "s", "").unwrap();
            let siblings = Siblings::new(dir.path(), "own");
            Self { dir, own, siblings }
        }

        fn write(&self, sibling: &str, name: &str, bytes: &[u8]) {
            let queue = self.dir.path().join(sibling).join("queue");
            fs::create_dir_all(&queue).unwrap();
            fs::write(queue.join(name), bytes).unwrap();
        }

        /// What is taken at the next look.
        fn take(&mut self) -> Vec<(String, u32)> {
            self.siblings.scan(&self.own);
            let taken = self.siblings.take(100).into_iter();
            taken.map(|it| (it.source.sibling, it.source.id)).collect()
        }

        fn finish(&mut self, sibling: &str, id: u32) {
            let sibling = sibling.to_owned();
            self.siblings.finish(&Source { sibling, id });
            self.siblings.store(&self.own).unwrap();
        }
    }

    #[test]
    fn the_last_entry_of_another_fuzzer_waits_until_it_is_whole() {
        let mut fleet = Fleet::new();
        fleet.write("afl", "id:000000,time:0,execs:0,orig:a", b"one");
        fleet.write("afl", "id:000001,src:000000", b"");
        assert_eq!(fleet.take(), [("afl".to_owned(), 0)]);
        // Still empty.
        assert_eq!(fleet.take(), []);
        fleet.write("afl", "id:000001,src:000000", b"half");
        assert_eq!(fleet.take(), []);
        fleet.write("afl", "id:000001,src:000000", b"half and half");
        assert_eq!(fleet.take(), []);
        assert_eq!(fleet.take(), [("afl".to_owned(), 1)]);
        // An empty one with another behind it stays empty, and is passed over.
        fleet.write("afl", "id:000002,src:000000", b"");
        fleet.write("afl", "id:000003,src:000000", b"four");
        assert_eq!(fleet.take(), []);
        assert_eq!(fleet.take(), [("afl".to_owned(), 3)]);
        assert_eq!(fleet.siblings.passed_over, 1);
    }

    #[test]
    fn what_was_read_is_stored_once_it_was_run() {
        let mut fleet = Fleet::new();
        fleet.write("ours", MARKER, b"");
        fs::write(fleet.dir.path().join("ours").join(MARKER), "").unwrap();
        for id in 0..4 {
            fleet.write("ours", &format!("id:00000{id},orig:000000"), &[id; 5]);
        }
        assert_eq!(fleet.take().len(), 4);
        fleet.finish("ours", 1);
        assert_eq!(fleet.own.synced("ours"), 0);
        fleet.finish("ours", 0);
        assert_eq!(fleet.own.synced("ours"), 2);
        // Another run goes on there.
        let mut again = Siblings::new(fleet.dir.path(), "own");
        again.scan(&fleet.own);
        let ids: Vec<u32> = again.take(9).iter().map(|it| it.source.id).collect();
        assert_eq!(ids, [2, 3]);
        fleet.finish("ours", 2);
        fleet.finish("ours", 3);
        assert_eq!(fleet.own.synced("ours"), 4);
    }

    #[test]
    fn copies_and_what_is_no_image_file_are_passed_over() {
        let mut fleet = Fleet::new();
        let names = [
            "README.txt",
            "id:1",
            "id:000000,src:1",
            "id:000001,sync:own,src:2",
        ];
        for name in names {
            fleet.write("a", name, name.as_bytes());
        }
        fleet.write("a", "id:000002,sync:b,src:2", b"from b");
        fleet.write("a", "id:000003,sync:gone,src:2", b"from one that is gone");
        fleet.write("a", "id:000004,src:3", names[2].as_bytes());
        let queue = fleet.dir.path().join("a/queue");
        fs::create_dir(queue.join("id:000005,folder")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", queue.join("id:000006,link")).unwrap();
        nix::unistd::mkfifo(&queue.join("id:000007,pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let long = fs::File::create(queue.join("id:000008,long")).unwrap();
        long.set_len(1 << 40).unwrap();
        fleet.write("a", "id:000009,last", b"last");
        fleet.write("b", "id:000000,src:1", b"one of b");
        fleet.write("b", "id:000001,src:1", b"last of b");
        fs::create_dir(fleet.dir.path().join("no-queue")).unwrap();
        fs::write(fleet.dir.path().join("a-file"), "").unwrap();
        let mut taken = fleet.take();
        taken.extend(fleet.take());
        taken.sort();
        let expected = [("a", 0), ("a", 3), ("a", 9), ("b", 0), ("b", 1)];
        let expected = expected.map(|(name, id)| (name.to_owned(), id));
        assert_eq!(taken, expected);
        assert_eq!(fleet.siblings.passed_over, 4);
        assert_eq!(fleet.siblings.len(), 2);
    }

    #[test]
    fn an_instance_that_vanishes_or_is_begun_anew_harms_nothing() {
        let mut fleet = Fleet::new();
        for id in 0..3 {
            fleet.write("a", &format!("id:00000{id},src:1"), &[id; 9]);
        }
        let mut taken = fleet.take();
        taken.extend(fleet.take());
        for (name, id) in &taken {
            fleet.finish(name, *id);
        }
        assert_eq!(fleet.own.synced("a"), 3);
        fs::remove_dir_all(fleet.dir.path().join("a")).unwrap();
        assert_eq!(fleet.take(), []);
        assert_eq!(fleet.own.synced("a"), 3);
        for id in 0..2 {
            fleet.write("a", &format!("id:00000{id},src:1"), &[7 + id; 9]);
        }
        let mut taken = fleet.take();
        taken.extend(fleet.take());
        assert_eq!(taken, [("a".to_owned(), 0), ("a".to_owned(), 1)]);
    }
}
