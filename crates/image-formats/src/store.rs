//! Bytes with changes laid over them.

use crate::io::{ReadAt, WriteAt, read_padded};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

const PAGE: usize = 512;
const PAGE_BYTES: u64 = PAGE as u64;

/// A sparse image in memory: the bytes of a source, and over them the pages that
/// were written. Memory grows with what was written, never with the length.
#[derive(Clone, Default)]
pub struct Store {
    base: Option<Arc<dyn ReadAt>>,
    /// How far the base shows through; what was cut off stays cut off.
    base_len: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
    len: u64,
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
    /// No bytes, nothing below.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes of `base`, unchanged so far.
    #[must_use]
    pub fn over(base: Arc<dyn ReadAt>) -> Self {
        let len = base.len();
        Self {
            base: Some(base),
            base_len: len,
            pages: BTreeMap::new(),
            len,
        }
    }

    /// Writes `data` at byte `offset`, growing the image where it has to. What would
    /// lie past the last offset there is, is left out.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let within = usize::try_from(at % PAGE_BYTES).unwrap_or(0);
            let count = rest.len().min(PAGE - within);
            let (now, later) = rest.split_at(count);
            // Zeros where nothing is yet stay a hole.
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

    /// Sets the length in bytes; new bytes read as zeros, cut ones are forgotten.
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

    /// Length in bytes of what was written over the base, in whole pages.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.pages.len() as u64 * PAGE_BYTES
    }

    /// All bytes in one piece.
    ///
    /// # Errors
    /// When the image is longer than `limit` bytes, or memory runs out.
    pub fn to_vec(&self, limit: u64) -> io::Result<Vec<u8>> {
        if self.len > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("image of {} bytes is longer than {limit} bytes", self.len),
            ));
        }
        let mut out = Vec::new();
        self.copy_to(&mut out)?;
        Ok(out)
    }

    /// Writes everything to `out`, which is empty; holes are left out.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn copy_to(&self, out: &mut dyn WriteAt) -> io::Result<()> {
        const CHUNK: u64 = 256 * 1024;
        out.set_len(self.len)?;
        let mut buf = Vec::new();
        let mut at = 0;
        while let Some(range) = self.next_data(at) {
            at = range.start;
            while at < range.end {
                let count = (range.end - at).min(CHUNK);
                buf.resize(usize::try_from(count).unwrap_or(PAGE), 0);
                read_padded(self, at, &mut buf);
                out.write_at(at, &buf)?;
                at += count;
            }
        }
        Ok(())
    }

    fn page(&mut self, index: u64) -> &mut [u8; PAGE] {
        let (base, base_len) = (&self.base, self.base_len);
        self.pages.entry(index).or_insert_with(|| {
            let mut page = Box::new([0; PAGE]);
            read_base(base.as_deref(), base_len, index * PAGE_BYTES, &mut page[..]);
            page
        })
    }
}

/// Reads what shows through of the base; zeros past that.
fn read_base(base: Option<&dyn ReadAt>, base_len: u64, offset: u64, buf: &mut [u8]) {
    let there = base_len.saturating_sub(offset).min(buf.len() as u64);
    let there = usize::try_from(there).unwrap_or(0);
    let (front, back) = buf.split_at_mut(there);
    back.fill(0);
    match base {
        Some(base) => read_padded(base, offset, front),
        None => front.fill(0),
    }
}

impl ReadAt for Store {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize {
        let count = self.len.saturating_sub(offset).min(buf.len() as u64);
        let count = usize::try_from(count).unwrap_or(0);
        let buf = &mut buf[..count];
        if count == 0 {
            return 0;
        }
        read_base(self.base.as_deref(), self.base_len, offset, buf);
        let last = offset + (count as u64 - 1);
        for (&index, page) in self.pages.range(offset / PAGE_BYTES..=last / PAGE_BYTES) {
            let start = index * PAGE_BYTES;
            let from = start.max(offset);
            let until = (start + (PAGE_BYTES - 1)).min(last);
            let (into, out_of) = ((from - offset) as usize, (from - start) as usize);
            let span = (until - from) as usize + 1;
            buf[into..into + span].copy_from_slice(&page[out_of..out_of + span]);
        }
        count
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
            .and_then(|base| base.next_data(offset))
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

impl WriteAt for Store {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write(offset, data);
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.resize(len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a store is asked to do.
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
                        WriteAt::write_at(&mut plain, at.into(), &data).unwrap();
                    }
                    Step::Resize(len) => {
                        store.resize(len.into());
                        plain.resize(len.into(), 0);
                    }
                }
            }
            prop_assert_eq!(&store.to_vec(10_000).unwrap(), &plain);
            let (mut one, mut two) = (vec![1; len], vec![1; len]);
            prop_assert_eq!(store.read_at(at, &mut one), plain.read_at(at, &mut two));
            prop_assert_eq!(one, two);
        }
    }

    #[test]
    fn writes_at_the_very_end_of_the_address_space() {
        let mut store = Store::new();
        store.write(u64::MAX - 3, &[7; 16]);
        assert_eq!(store.len(), u64::MAX);
        let mut buf = [0; 8];
        assert_eq!(store.read_at(u64::MAX - 3, &mut buf), 3);
        assert_eq!(buf[..3], [7; 3]);
    }
}
