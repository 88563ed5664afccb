//! Bytes with changes laid over them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::io::{ReadAt, ReadError, read_padded};

const PAGE: usize = 512;
const PAGE_BYTES: u64 = PAGE as u64;

/// A sparse image in memory: the bytes of a source, and over them the pages that
/// were written. Memory grows with what was written, never with the length.
///
/// Reading a store does not fail: what cannot be read of its source reads as zeros, and
/// the first error is kept, see [`Store::check_reads`].
#[derive(Clone, Default)]
pub struct Store {
    base: Option<Arc<Base>>,
    /// Bytes of the base that are visible; what was truncated stays truncated.
    base_len: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
    len: u64,
}

/// The source below a store, and the first failed read of it.
struct Base {
    source: Arc<dyn ReadAt>,
    failed: OnceLock<ReadError>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("len", &self.len)
            .field("base_len", &self.base_len)
            .field("pages", &self.pages.len())
            .finish()
    }
}

impl Store {
    /// An empty image.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes of `source`, unchanged so far.
    #[must_use]
    pub fn over(source: Arc<dyn ReadAt>) -> Self {
        let len = source.len();
        let failed = OnceLock::new();
        Self {
            base: Some(Arc::new(Base { source, failed })),
            base_len: len,
            pages: BTreeMap::new(),
            len,
        }
    }

    /// Whether all reads of the source succeeded so far, those of this store and of its
    /// clones.
    ///
    /// # Errors
    ///
    /// The first read that failed; values that were read since then may be wrong.
    pub fn check_reads(&self) -> Result<(), ReadError> {
        let failed = self.base.as_ref().and_then(|base| base.failed.get());
        failed.map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Fills `buf` from byte `offset` on; what the image does not have reads as zeros.
    pub fn read(&self, offset: u64, buf: &mut [u8]) {
        let read = read_padded(self, offset, buf);
        if let Some(base) = &self.base {
            base.keep(read);
        }
    }

    /// The `len` bytes at `offset`, zeros past the end. The caller bounds `len`.
    pub(crate) fn read_vec(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut buf = vec![0; len];
        self.read(offset, &mut buf);
        buf
    }

    /// The big-endian 64-bit number at `offset`, zeros past the end.
    pub(crate) fn read_u64(&self, offset: u64) -> u64 {
        let mut buf = [0; 8];
        self.read(offset, &mut buf);
        u64::from_be_bytes(buf)
    }

    /// Writes `data` at byte `offset`, growing the image where it has to. What would be
    /// past the last possible offset is left out.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let within = usize::try_from(at % PAGE_BYTES).unwrap_or(0);
            let count = rest.len().min(PAGE - within);
            let (now, later) = rest.split_at(count);
            // Zeros in a hole keep it a hole.
            let index = at / PAGE_BYTES;
            let hole = self.base.is_none() && !self.pages.contains_key(&index);
            if !hole || now.iter().any(|byte| *byte != 0) {
                self.page(index)[within..within + count].copy_from_slice(now);
            }
            let Some(next) = at.checked_add(count as u64) else {
                self.len = u64::MAX;
                return;
            };
            self.len = self.len.max(next);
            at = next;
            rest = later;
        }
    }

    /// Sets the length in bytes; new bytes read as zeros, truncated ones are dropped.
    pub fn resize(&mut self, len: u64) {
        if len < self.len {
            self.base_len = self.base_len.min(len);
            self.pages.split_off(&len.div_ceil(PAGE_BYTES));
            let within = usize::try_from(len % PAGE_BYTES).unwrap_or(0);
            if within > 0
                && let Some(page) = self.pages.get_mut(&(len / PAGE_BYTES))
            {
                page[within..].fill(0);
            }
        }
        self.len = len;
    }

    /// Bytes in the pages that were written over the base.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.pages.len() as u64 * PAGE_BYTES
    }

    /// All bytes in one piece.
    ///
    /// # Errors
    ///
    /// The image is longer than `limit` bytes, memory runs out, or the source cannot be
    /// read.
    pub fn to_vec(&self, limit: u64) -> io::Result<Vec<u8>> {
        if self.len > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("image of {} bytes is longer than {limit} bytes", self.len),
            ));
        }
        let mut bytes = Vec::new();
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        bytes.try_reserve_exact(len)?;
        bytes.resize(len, 0);
        self.read(0, &mut bytes);
        self.check_reads()?;
        Ok(bytes)
    }

    /// Writes everything to `out`, which is empty; holes are left out.
    ///
    /// # Errors
    ///
    /// Those of `out`, or the source cannot be read.
    pub fn copy_to(&self, out: &mut (impl Write + Seek + ?Sized)) -> io::Result<()> {
        const CHUNK: u64 = 256 * 1024;
        let mut buf = Vec::new();
        let mut at = 0;
        while let Some(range) = self.next_data(at) {
            at = range.start;
            out.seek(SeekFrom::Start(at))?;
            while at < range.end {
                let count = (range.end - at).min(CHUNK);
                buf.resize(usize::try_from(count).unwrap_or(PAGE), 0);
                self.read(at, &mut buf);
                self.check_reads()?;
                out.write_all(&buf)?;
                at += count;
            }
        }
        if at < self.len {
            out.seek(SeekFrom::Start(self.len - 1))?;
            out.write_all(&[0])?;
        }
        Ok(())
    }

    fn page(&mut self, index: u64) -> &mut [u8; PAGE] {
        let (base, base_len) = (&self.base, self.base_len);
        self.pages.entry(index).or_insert_with(|| {
            let mut page = Box::new([0; PAGE]);
            if let Some(base) = base {
                base.keep(base.read(base_len, index * PAGE_BYTES, &mut page[..]));
            }
            page
        })
    }
}

impl Base {
    /// Fills `buf` from the first `len` bytes of the source; zeros past those.
    fn read(&self, len: u64, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let there = len.saturating_sub(offset).min(buf.len() as u64);
        let (front, back) = buf.split_at_mut(usize::try_from(there).unwrap_or(0));
        back.fill(0);
        read_padded(&*self.source, offset, front)
    }

    /// Keeps the error of the first read that failed.
    fn keep(&self, read: Result<(), ReadError>) {
        if let Err(error) = read {
            let _ = self.failed.set(error);
        }
    }
}

impl ReadAt for Store {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.len.saturating_sub(offset).min(buf.len() as u64);
        let count = usize::try_from(count).unwrap_or(0);
        let buf = &mut buf[..count];
        if count == 0 {
            return Ok(0);
        }
        match &self.base {
            Some(base) => base.read(self.base_len, offset, buf)?,
            None => buf.fill(0),
        }
        let last = offset + (count as u64 - 1);
        for (&index, page) in self.pages.range(offset / PAGE_BYTES..=last / PAGE_BYTES) {
            let start = index * PAGE_BYTES;
            let from = start.max(offset);
            let until = (start + (PAGE_BYTES - 1)).min(last);
            let (into, out_of) = ((from - offset) as usize, (from - start) as usize);
            let span = (until - from) as usize + 1;
            buf[into..into + span].copy_from_slice(&page[out_of..out_of + span]);
        }
        Ok(count)
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn next_data(&self, offset: u64) -> Option<Range<u64>> {
        if offset >= self.len {
            return None;
        }
        let base = self.base.as_ref().filter(|_| offset < self.base_len);
        let base = base
            .and_then(|base| base.source.next_data(offset))
            .map(|range| range.start.max(offset)..range.end.min(self.base_len))
            .filter(|range| range.start < range.end);
        let page = self.pages.range(offset / PAGE_BYTES..).next();
        let page = page.map(|(&index, _)| {
            let start = index * PAGE_BYTES;
            start.max(offset)..start.saturating_add(PAGE_BYTES).min(self.len)
        });
        match (base, page) {
            (Some(base), Some(page)) if page.start < base.start => Some(page),
            (Some(base), _) => Some(base),
            (None, page) => page.filter(|page| page.start < page.end),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// An operation on a store.
    #[derive(Clone, Debug)]
    enum Step {
        Write(u16, Vec<u8>),
        Resize(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..5000u16, prop::collection::vec(any::<u8>(), 0..1500))
                .prop_map(|(at, data)| Step::Write(at, data)),
            (0..6000u16).prop_map(Step::Resize),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_vector(
            base in prop::collection::vec(any::<u8>(), 0..3000),
            steps in prop::collection::vec(step(), 0..12),
            at in 0..7000u64, len in 0..2000usize,
        ) {
            let mut plain = base.clone();
            let mut store = Store::over(Arc::new(base));
            for step in steps {
                match step {
                    Step::Write(_, data) if data.is_empty() => {}
                    Step::Write(at, data) => {
                        store.write(at.into(), &data);
                        let at = usize::from(at);
                        plain.resize(plain.len().max(at + data.len()), 0);
                        plain[at..at + data.len()].copy_from_slice(&data);
                    }
                    Step::Resize(len) => {
                        store.resize(len.into());
                        plain.resize(len.into(), 0);
                    }
                }
            }
            prop_assert_eq!(&store.to_vec(10_000).unwrap(), &plain);
            let (mut one, mut two) = (vec![1; len], vec![1; len]);
            prop_assert_eq!(store.read_at(at, &mut one).unwrap(), plain.read_at(at, &mut two).unwrap());
            prop_assert_eq!(one, two);
            let mut copy = Cursor::new(Vec::new());
            store.copy_to(&mut copy).unwrap();
            prop_assert_eq!(copy.into_inner(), plain);
        }
    }

    #[test]
    fn writes_at_the_very_end_of_the_address_space() {
        let mut store = Store::new();
        store.write(u64::MAX - 3, &[7; 16]);
        assert_eq!(store.len(), u64::MAX);
        let mut buf = [0; 8];
        assert_eq!(store.read_at(u64::MAX - 3, &mut buf).unwrap(), 3);
        assert_eq!(buf[..3], [7; 3]);
    }

    /// A medium of 4 KiB that fails from byte 2048 on.
    struct Failing;

    impl ReadAt for Failing {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            if offset + buf.len() as u64 > 2048 {
                return Err(io::Error::other("bad sector"));
            }
            buf.fill(7);
            Ok(buf.len())
        }

        fn len(&self) -> u64 {
            4096
        }
    }

    #[test]
    fn a_failed_read_is_not_a_hole() {
        let store = Store::over(Arc::new(Failing));
        let mut buf = [1; 4];
        store.read(2044, &mut buf);
        assert_eq!((buf, store.check_reads()), ([7; 4], Ok(())));
        // As base of another one it fails the same.
        let mut above = Store::over(Arc::new(store.clone()));
        above.write(3000, &[1]);
        let error = above.check_reads().unwrap_err();
        assert_eq!(error.offset, 2560);
        assert!(error.to_string().ends_with("bad sector"), "{error}");
        assert_eq!(store.check_reads(), Ok(()));
        assert!(store.to_vec(4096).is_err());
        assert!(store.copy_to(&mut Cursor::new(Vec::new())).is_err());
        assert!(store.check_reads().is_err());
    }
}
