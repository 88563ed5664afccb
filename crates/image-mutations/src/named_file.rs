//! A file in memory, of which only the parts that hold data are stored.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use image_formats::{ReadAt, Store};

/// The granularity of holes, in bytes.
const PAGE: u64 = 4096;

/// A page of a hole.
const NOTHING: [u8; PAGE as usize] = [0; PAGE as usize];

/// The most bytes that are reserved for a piece before its length is known.
const MAX_RESERVED: u64 = 256 << 10;

/// The most bytes of a file that are kept; the rest of a longer one is a hole.
pub const MOST_BYTES: u64 = 64 << 20;

/// A file with a name, in memory. It takes the memory of its data, however long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Its name in the scratch folder.
    pub name: String,
    /// Its length in bytes.
    len: u64,
    /// Its data, in whole pages (except for the last of the file), by offset.
    pieces: Arc<Vec<Piece>>,
}

/// Bytes at an offset.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    offset: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl NamedFile {
    /// A file with the bytes of `source`, which are in memory; past [`MOST_BYTES`] only the
    /// length is kept.
    pub fn new(name: &str, source: &Store) -> Self {
        let len = source.len();
        let most = len.min(MOST_BYTES);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut page = NOTHING;
        let mut at = 0;
        while let Some(data) = source.next_data(at).filter(|data| data.start < most) {
            at = data.start / PAGE * PAGE;
            while at < data.end.min(most) {
                let page = &mut page[..PAGE.min(most - at) as usize];
                source.read(at, page);
                if *page != NOTHING[..page.len()] {
                    match pieces.last_mut().filter(|last| last.end() == at) {
                        Some(last) => last.bytes.extend_from_slice(page),
                        None => {
                            let most = (data.end.min(most) - at).min(MAX_RESERVED);
                            let mut bytes = Vec::with_capacity(most as usize);
                            bytes.extend_from_slice(page);
                            pieces.push(Piece { offset: at, bytes });
                        }
                    }
                }
                at += page.len() as u64;
            }
        }
        Self {
            name: name.into(),
            len,
            pieces: pieces.into(),
        }
    }

    /// The same file under another name.
    pub fn named(&self, name: String) -> Self {
        Self {
            name,
            ..self.clone()
        }
    }

    /// All bytes up to [`MOST_BYTES`], in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len.min(MOST_BYTES) as usize];
        self.read(0, &mut bytes);
        bytes
    }

    /// Writes it into `folder`, with holes where it has them.
    ///
    /// # Errors
    ///
    /// The file cannot be created, or there is no space for it.
    pub fn write_into(&self, folder: &Path) -> io::Result<()> {
        self.write_to(&fs::File::create(folder.join(&self.name))?)
    }

    /// Writes it into an empty file, with holes where it has them.
    ///
    /// # Errors
    ///
    /// There is no space for it.
    pub fn write_to(&self, file: &fs::File) -> io::Result<()> {
        self.pieces
            .iter()
            .try_for_each(|piece| file.write_all_at(&piece.bytes, piece.offset))?;
        // Most files end with data, and so have their length already.
        match self.pieces.last() {
            Some(last) if last.end() == self.len => Ok(()),
            _ => file.set_len(self.len),
        }
    }

    /// The offsets, up to [`MOST_BYTES`], at which the bytes differ from those of `other`.
    pub fn differences(&self, other: &Store) -> Vec<u64> {
        let mut found = Vec::new();
        let (mut ours, mut theirs) = ([0; PAGE as usize], [0; PAGE as usize]);
        let end = self.len.min(MOST_BYTES);
        for at in (0..end).step_by(PAGE as usize) {
            let count = PAGE.min(end - at) as usize;
            self.read(at, &mut ours[..count]);
            other.read(at, &mut theirs[..count]);
            let pairs = ours[..count].iter().zip(&theirs[..count]);
            found.extend(
                (at..)
                    .zip(pairs)
                    .filter(|(_, (our, their))| our != their)
                    .map(|(at, _)| at),
            );
        }
        found
    }

    /// The pieces that end after `offset`.
    fn pieces_from(&self, offset: u64) -> &[Piece] {
        let first = self.pieces.partition_point(|piece| piece.end() <= offset);
        &self.pieces[first..]
    }
}

impl NamedFile {
    /// Reads bytes from `offset` on, and returns how many there are.
    fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let count = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..count];
        buf.fill(0);
        let end = offset.saturating_add(count as u64);
        for piece in self.pieces_from(offset) {
            let (from, until) = (piece.offset.max(offset), piece.end().min(end));
            if from >= until {
                break;
            }
            let bytes = &piece.bytes[(from - piece.offset) as usize..];
            let span = (until - from) as usize;
            buf[(from - offset) as usize..][..span].copy_from_slice(&bytes[..span]);
        }
        count
    }
}

impl ReadAt for NamedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.read(offset, buf))
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn next_data(&self, offset: u64) -> Option<Range<u64>> {
        let piece = self.pieces_from(offset).first()?;
        Some(piece.offset.max(offset)..piece.end())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_the_bytes_of_its_source(
            writes in prop::collection::vec((0..40_000_u64, 1..9000_usize, any::<u8>()), 0..6),
            len in 0..50_000_u64,
            at in 0..50_000_u64,
            count in 0..10_000_usize,
        ) {
            let mut store = Store::new();
            for (at, count, byte) in writes {
                store.write(at, &vec![byte; count]);
            }
            store.resize(len);
            let file = NamedFile::new("a", &store);
            let bytes = store.to_vec(1 << 20).unwrap();
            prop_assert_eq!(file.to_vec(), bytes.clone());
            prop_assert_eq!(&file, &NamedFile::new("a", &Store::over(Arc::new(bytes.clone()))));
            prop_assert_eq!(&file, &NamedFile::new("a", &Store::over(Arc::new(file.clone()))));
            let (mut ours, mut theirs) = (vec![1; count], vec![1; count]);
            prop_assert_eq!(file.read(at, &mut ours), store.read_at(at, &mut theirs).unwrap());
            prop_assert_eq!(ours, theirs);
            let folder = tempfile::tempdir().unwrap();
            file.write_into(folder.path()).unwrap();
            prop_assert_eq!(fs::read(folder.path().join("a")).unwrap(), bytes);
        }
    }

    #[test]
    fn a_long_file_takes_the_memory_of_its_data() {
        let mut store = Store::new();
        store.write(MOST_BYTES - 1, &[1, 2]);
        store.resize(1 << 40);
        let file = NamedFile::new("long", &store);
        assert_eq!(file.next_data(0), Some(MOST_BYTES - PAGE..MOST_BYTES));
        assert_eq!(file.differences(&Store::new()), [MOST_BYTES - 1]);
        let folder = tempfile::tempdir().unwrap();
        file.named("short".into())
            .write_into(folder.path())
            .unwrap();
        let made = fs::metadata(folder.path().join("short")).unwrap();
        assert_eq!(made.len(), 1 << 40);
        assert!(made.blocks() * 512 < 1 << 20);
    }
}
