//! Where data are: physical region pages and scatter gather lists (sections 4.3 and 4.4).

use crate::error::Result;
use crate::guest::{Buffer, Guest};

/// How a command names memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// By pages.
    Prp,
    /// By descriptors of any length.
    Sgl,
}

/// SGL descriptor types (figure 112).
const DATA_BLOCK: u8 = 0x00;
const SEGMENT: u8 = 0x20;
const LAST_SEGMENT: u8 = 0x30;

/// How many descriptors the first segment has. Longer lists have a second one with all the rest:
/// QEMU 10.0 refuses a chain of three of the same length, since it looks at a descriptor that it
/// has overwritten.
const SEGMENT_ENTRIES: usize = 16;

/// The data pointer of a command, and the memory that its lists take.
#[derive(Debug, Default)]
pub(super) struct Data {
    /// Both quadwords of the data pointer: PRP entries 1 and 2, or an SGL descriptor.
    pub(super) pointer: [u64; 2],
    lists: Vec<u64>,
}

/// Whether pages can name the pieces: all but the first start at a page, all but the last end
/// at one, and the first is aligned to four bytes.
pub(super) fn fits_prp(buffer: &Buffer, page: u64) -> bool {
    let last = buffer.pieces.len().saturating_sub(1);
    buffer.pieces.iter().enumerate().all(|(i, &(start, n))| {
        let end = start + u64::from(n);
        let starts = i > 0 && !start.is_multiple_of(page);
        let ends = i < last && !end.is_multiple_of(page);
        start.is_multiple_of(4) && !starts && !ends
    })
}

/// The address of each page, the first with its offset.
fn pages(buffer: &Buffer, page: u64) -> Vec<u64> {
    let mut pages = Vec::new();
    for &(start, n) in &buffer.pieces {
        let (mut at, end) = (start, start + u64::from(n));
        while at < end {
            pages.push(at);
            at = (at / page + 1) * page;
        }
    }
    pages
}

fn descriptor(address: u64, length: u32, kind: u8) -> [u64; 2] {
    [address, u64::from(length) | u64::from(kind) << 56]
}

fn bytes(words: impl IntoIterator<Item = u64>) -> Vec<u8> {
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

impl Data {
    /// Of which nothing but the memory is known, to be given back.
    pub(super) fn owned(memory: u64) -> Self {
        Self {
            pointer: [0; 2],
            lists: vec![memory],
        }
    }

    /// Writes the lists that name a buffer.
    ///
    /// # Errors
    ///
    /// As [`Guest::allocate`].
    pub(super) fn describe(
        guest: &mut Guest,
        method: Method,
        buffer: &Buffer,
        page: u64,
    ) -> Result<Self> {
        let mut data = Self::default();
        data.pointer = match method {
            Method::Prp => data.prp(guest, &pages(buffer, page), page)?,
            Method::Sgl => data.sgl(guest, buffer)?,
        };
        Ok(data)
    }

    fn prp(&mut self, guest: &mut Guest, pages: &[u64], page: u64) -> Result<[u64; 2]> {
        let (first, rest) = match pages {
            [] => return Ok([0; 2]),
            [first, rest @ ..] => (*first, rest),
        };
        if rest.len() < 2 {
            return Ok([first, rest.first().copied().unwrap_or(0)]);
        }
        // The last entry of a list that is full names the next list.
        let entries = (page / 8) as usize;
        let mut lists: Vec<&[u64]> = Vec::new();
        let mut left = rest;
        while left.len() > entries {
            let (now, later) = left.split_at(entries - 1);
            lists.push(now);
            left = later;
        }
        lists.push(left);
        let mut next = None;
        for list in lists.into_iter().rev() {
            let memory = guest.allocate(page, page)?;
            self.lists.push(memory);
            guest.label("nvme PRP list");
            guest.write_block(memory, &bytes(list.iter().copied().chain(next)))?;
            next = Some(memory);
        }
        Ok([first, next.unwrap_or(0)])
    }

    fn sgl(&mut self, guest: &mut Guest, buffer: &Buffer) -> Result<[u64; 2]> {
        let blocks: Vec<[u64; 2]> = buffer
            .pieces
            .iter()
            .map(|&(address, n)| descriptor(address, n, DATA_BLOCK))
            .collect();
        if let [block] = blocks[..] {
            return Ok(block);
        }
        let (first, rest) = if blocks.len() > SEGMENT_ENTRIES {
            blocks.split_at(SEGMENT_ENTRIES - 1)
        } else {
            (&blocks[..0], &blocks[..])
        };
        let last = self.segment(guest, rest, LAST_SEGMENT)?;
        if first.is_empty() {
            return Ok(last);
        }
        let chained: Vec<_> = first.iter().copied().chain([last]).collect();
        self.segment(guest, &chained, SEGMENT)
    }

    /// Writes a segment; the descriptor that names it.
    fn segment(&mut self, guest: &mut Guest, list: &[[u64; 2]], kind: u8) -> Result<[u64; 2]> {
        let list = bytes(list.iter().copied().flatten());
        let memory = guest.allocate(list.len() as u64, 16)?;
        self.lists.push(memory);
        guest.label("nvme SGL segment");
        guest.write_block(memory, &list)?;
        let length = u32::try_from(list.len()).unwrap_or(0);
        Ok(descriptor(memory, length, kind))
    }

    /// Gives the memory of the lists back.
    pub(super) fn free(self, guest: &mut Guest) {
        for list in self.lists {
            guest.free(list);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_name_what_is_aligned() {
        let buffer = |pieces: &[(u64, u32)]| Buffer {
            pieces: pieces.to_vec(),
        };
        let good = buffer(&[(0x1200, 0xe00), (0x4000, 0x2000), (0x8000, 16)]);
        assert!(fits_prp(&good, 0x1000));
        assert_eq!(pages(&good, 0x1000), [0x1200, 0x4000, 0x5000, 0x8000]);
        assert!(!fits_prp(&buffer(&[(0x1000, 512), (0x2000, 512)]), 0x1000));
        assert!(!fits_prp(&buffer(&[(0x1000, 0x1000), (0x2200, 8)]), 0x1000));
    }

    #[test]
    fn a_descriptor_has_its_type_in_the_last_byte() {
        let [address, rest] = descriptor(0x1234, 16, LAST_SEGMENT);
        assert_eq!((address, rest), (0x1234, 0x3000_0000_0000_0010));
    }
}
