//! The log: its entries, the active sequence of them, and what replaying it gives.

use super::layout::{Header, MIB, guid_at};
use crate::disk::DiskError;
use crate::guid::Guid;
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// Bytes in a sector of the log.
pub(super) const SECTOR: u64 = 4 << 10;
/// Bytes in the header of an entry.
const ENTRY_HEADER: u64 = 64;
/// Bytes in a descriptor.
const DESCRIPTOR: u64 = 32;
/// The most bytes of a log that are looked at.
const LONGEST: u64 = 16 * MIB;
/// The most bytes of entries that are checked, those that are checked twice counted twice.
const MOST_CHECKED: u64 = 64 * MIB;
/// The most bytes that a replay writes.
const MOST_WRITTEN: u64 = 16 * MIB;

/// The log as a ring buffer; positions are byte offsets in it.
#[derive(Clone, Copy)]
pub(super) struct Ring<'a> {
    source: &'a Store,
    offset: u64,
    length: u64,
}

/// An entry of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) position: u64,
    pub(super) length: u64,
    pub(super) tail: u64,
    pub(super) sequence: u64,
    pub(super) descriptors: u64,
    pub(super) reserved: u64,
    pub(super) guid: Guid,
    /// What the file's length was at least, in bytes.
    pub(super) flushed: u64,
    /// The length of the file that all structures fit into, in bytes.
    pub(super) last: u64,
}

/// A descriptor of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    /// Where it is in the log.
    pub(super) position: u64,
    pub(super) is_data: bool,
    pub(super) is_zero: bool,
    /// What is written: where, and how many bytes.
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) sequence: u64,
    /// Of a data descriptor, where its sector is in the log.
    pub(super) data: u64,
}

impl Entry {
    /// Where descriptor `index` is in the log.
    fn descriptor(&self, index: u64) -> u64 {
        self.position + ENTRY_HEADER + index * DESCRIPTOR
    }

    /// Sectors of header and descriptors.
    fn descriptor_sectors(&self) -> u64 {
        (ENTRY_HEADER + self.descriptors * DESCRIPTOR).div_ceil(SECTOR)
    }

    /// Bytes of an entry with so many descriptors, and data sectors.
    pub(super) fn length_of(descriptors: u64, data: u64) -> u64 {
        ((ENTRY_HEADER + descriptors * DESCRIPTOR).div_ceil(SECTOR) + data) * SECTOR
    }
}

impl<'a> Ring<'a> {
    /// The log that a header names, as far as it is in the file.
    pub(super) fn of(source: &'a Store, header: &Header) -> Option<Self> {
        let (offset, length) = (header.log_offset, header.log_length);
        let aligned = offset.is_multiple_of(MIB) && length.is_multiple_of(MIB);
        let inside = offset.checked_add(length)? <= source.len();
        let there = aligned && inside && offset > 0 && length > 0;
        there.then(|| Self {
            source,
            offset,
            length: length.min(LONGEST),
        })
    }

    /// Where a position is in the file.
    pub(super) fn at(&self, position: u64) -> u64 {
        self.offset + position % self.length
    }

    fn number(&self, position: u64, bytes: usize) -> u64 {
        number(self.source, self.at(position), bytes, Little)
    }

    /// What an entry that begins at a position says of itself, where it is one at all.
    pub(super) fn entry(&self, position: u64) -> Option<Entry> {
        if self.number(position, 4) != Little.number(b"loge") {
            return None;
        }
        let entry = Entry {
            position,
            length: self.number(position + 8, 4),
            tail: self.number(position + 12, 4),
            sequence: self.number(position + 16, 8),
            descriptors: self.number(position + 24, 4),
            reserved: self.number(position + 28, 4),
            guid: guid_at(self.source, self.at(position + 32)),
            flushed: self.number(position + 48, 8),
            last: self.number(position + 56, 8),
        };
        let whole = entry.length.is_multiple_of(SECTOR)
            && entry.length <= self.length
            && entry.descriptor_sectors() * SECTOR <= entry.length;
        whole.then_some(entry)
    }

    /// The descriptors of an entry, at most `most` of them.
    pub(super) fn descriptors(&self, entry: &Entry, most: u64) -> Vec<Descriptor> {
        let mut data = entry.position + entry.descriptor_sectors() * SECTOR;
        let descriptor = |index: u64| {
            let position = entry.descriptor(index);
            let signature = self.number(position, 4);
            let is_data = signature == Little.number(b"desc");
            let found = Descriptor {
                position,
                is_data,
                is_zero: signature == Little.number(b"zero"),
                length: match is_data {
                    true => SECTOR,
                    false => self.number(position + 8, 8),
                },
                offset: self.number(position + 16, 8),
                sequence: self.number(position + 24, 8),
                data,
            };
            data += if is_data { SECTOR } else { 0 };
            found
        };
        (0..entry.descriptors.min(most)).map(descriptor).collect()
    }

    /// All that an entry consists of.
    fn bytes(&self, entry: &Entry) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(entry.length as usize);
        for sector in 0..entry.length / SECTOR {
            let at = self.at(entry.position + sector * SECTOR);
            bytes.extend(self.source.read_vec(at, SECTOR as usize));
        }
        bytes
    }

    /// The checksum that an entry should have.
    pub(super) fn checksum(&self, entry: &Entry) -> u32 {
        let mut bytes = self.bytes(entry);
        bytes[4..8].fill(0);
        crc32c::crc32c(&bytes)
    }

    /// The valid entry at a position, one with this GUID. `budget` is what may still be
    /// checked, in bytes.
    fn valid(&self, position: u64, guid: &Guid, budget: &mut u64) -> Option<Entry> {
        let entry = self.entry(position)?;
        *budget = budget.checked_sub(entry.length)?;
        let sane = entry.sequence > 0 && entry.guid == *guid && entry.tail.is_multiple_of(SECTOR);
        if !sane {
            return None;
        }
        let descriptors = self.descriptors(&entry, u64::MAX);
        let data = descriptors.iter().filter(|found| found.is_data).count() as u64;
        if Entry::length_of(entry.descriptors, data) != entry.length {
            return None;
        }
        let valid = |found: &Descriptor| {
            let signed = found.is_zero || found.is_data && self.is_data_sector(found);
            let aligned =
                found.offset.is_multiple_of(SECTOR) && found.length.is_multiple_of(SECTOR);
            signed && aligned && found.sequence == entry.sequence
        };
        let intact = || u64::from(self.checksum(&entry)) == self.number(position + 4, 4);
        (descriptors.iter().all(valid) && intact()).then_some(entry)
    }

    fn is_data_sector(&self, found: &Descriptor) -> bool {
        let signature = self.number(found.data, 4) == Little.number(b"data");
        let (high, low) = (
            self.number(found.data + 4, 4),
            self.number(found.data + SECTOR - 4, 4),
        );
        signature && high << 32 | low == found.sequence
    }

    /// The active sequence: the valid one with the largest sequence number, tail first.
    fn active(&self, guid: &Guid) -> Option<Vec<Entry>> {
        let mut budget = MOST_CHECKED;
        let mut candidate: Option<Vec<Entry>> = None;
        let mut tail = 0;
        while tail < self.length {
            let (entries, length) = self.sequence(tail, guid, &mut budget);
            let Some(entries) = entries else {
                tail += SECTOR;
                continue;
            };
            tail += length;
            let newest = |entries: &[Entry]| entries.last().map_or(0, |entry| entry.sequence);
            let known = candidate.as_deref().map_or(0, newest);
            if newest(&entries) > known {
                candidate = Some(entries);
            }
        }
        candidate
    }

    /// The valid sequence of entries from a position on, without those before the tail of the
    /// last one, and the bytes of all of them.
    fn sequence(&self, tail: u64, guid: &Guid, budget: &mut u64) -> (Option<Vec<Entry>>, u64) {
        let mut entries: Vec<Entry> = Vec::new();
        let mut length = 0;
        while length < self.length
            && let Some(entry) = self.valid(tail + length, guid, budget)
            && entries
                .last()
                .is_none_or(|last| last.sequence.checked_add(1) == Some(entry.sequence))
        {
            length += entry.length;
            entries.push(entry);
        }
        let oldest = entries.last().map(|last| last.tail);
        let is_tail = |entry: &Entry| Some(entry.position % self.length) == oldest;
        let first = entries.iter().position(is_tail);
        (first.map(|first| entries.split_off(first)), length)
    }

    /// The entries in the order of their positions, valid or not, at most `most` of them.
    pub(super) fn listed(&self, most: usize) -> Vec<Entry> {
        let mut found = Vec::new();
        let mut position = 0;
        while position < self.length && found.len() < most {
            match self.entry(position) {
                Some(entry) => {
                    position += entry.length;
                    found.push(entry);
                }
                None => position += SECTOR,
            }
        }
        found
    }
}

/// What is to be done about the log before anything else is read.
pub(super) enum Replay {
    /// Nothing: it is empty.
    Empty,
    /// It was replayed in memory.
    Done(Replayed),
    /// It cannot be.
    Failed(Problem),
}

/// A file whose log was replayed.
pub(super) struct Replayed {
    bytes: Store,
    /// What was written: byte offset and bytes.
    writes: Vec<(u64, u64)>,
}

/// Why a log cannot be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("the version of the log is {0}, not 0")]
    Version(u64),
    #[error("the log is not within the file, or not aligned to 1 MiB")]
    Place,
    #[error("the log has no valid sequence of entries")]
    NoSequence,
    #[error("the file was truncated: it had at least {0} bytes")]
    Truncated(u64),
    #[error("the log has or writes more than {} MiB", MOST_WRITTEN / MIB)]
    TooLarge,
}

impl From<Problem> for DiskError {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::TooLarge => Self::Unsupported(problem.to_string()),
            _ => Self::Damaged(problem.to_string()),
        }
    }
}

impl Replay {
    /// Replays the log of a file in memory, where there is something to replay.
    pub(super) fn of(source: &Store) -> Self {
        let header = Header::best(source);
        if !header.has_log() {
            return Self::Empty;
        }
        match replay(source, &header) {
            Ok(replayed) => Self::Done(replayed),
            Err(problem) => Self::Failed(problem),
        }
    }

    /// The file after that; as it is where that failed.
    pub(super) fn bytes(&self, source: &Store) -> Store {
        match self {
            Self::Done(replayed) => replayed.bytes.clone(),
            Self::Empty | Self::Failed(_) => source.clone(),
        }
    }

    /// Whether the log writes any of these bytes.
    pub(super) fn writes(&self, at: u64, len: u64) -> bool {
        let Self::Done(replayed) = self else {
            return false;
        };
        let mut writes = replayed.writes.iter();
        writes.any(|(from, count)| *from < at + len && at < from.saturating_add(*count))
    }
}

fn replay(source: &Store, header: &Header) -> Result<Replayed, Problem> {
    if header.log_version != 0 {
        return Err(Problem::Version(header.log_version));
    }
    if header.log_length > LONGEST {
        return Err(Problem::TooLarge);
    }
    let ring = Ring::of(source, header).ok_or(Problem::Place)?;
    let entries = ring.active(&header.log_guid).ok_or(Problem::NoSequence)?;
    let head = entries.last().ok_or(Problem::NoSequence)?;
    if head.flushed > source.len() {
        return Err(Problem::Truncated(head.flushed));
    }
    let (mut bytes, mut writes) = (source.clone(), Vec::new());
    let mut left = MOST_WRITTEN;
    for entry in &entries {
        for found in ring.descriptors(entry, u64::MAX) {
            let end = found.offset.checked_add(found.length);
            let end = end.ok_or(Problem::TooLarge)?;
            // What is behind the end of the file is zeros already.
            let there = end.min(bytes.len()).saturating_sub(found.offset);
            let written = if found.is_data { SECTOR } else { there };
            left = left.checked_sub(written).ok_or(Problem::TooLarge)?;
            if found.is_data {
                bytes.write(found.offset, &ring.update(&found));
            } else {
                bytes.write(found.offset, &vec![0; there as usize]);
                bytes.resize(bytes.len().max(end));
            }
            writes.push((found.offset, found.length));
        }
    }
    bytes.resize(bytes.len().max(head.last));
    Ok(Replayed { bytes, writes })
}

impl Ring<'_> {
    /// The sector that a data descriptor writes: its ends are in the descriptor.
    fn update(&self, found: &Descriptor) -> Vec<u8> {
        let mut sector = self.source.read_vec(self.at(found.data), SECTOR as usize);
        let ends = self.source.read_vec(self.at(found.position + 4), 12);
        let end = sector.len() - 4;
        sector[..8].copy_from_slice(&ends[4..]);
        sector[end..].copy_from_slice(&ends[..4]);
        sector
    }
}

/// The bytes of an entry whose updates are data of one sector, or zeros of some length, at
/// places in the file. The checksum is right.
pub(super) fn entry_bytes(entry: &Entry, updates: &[(u64, Update)]) -> Vec<u8> {
    let data = updates
        .iter()
        .filter(|(_, update)| update.is_data())
        .count();
    let length = Entry::length_of(updates.len() as u64, data as u64);
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend_from_slice(b"loge\0\0\0\0");
    bytes.extend_from_slice(&(length as u32).to_le_bytes());
    bytes.extend_from_slice(&(entry.tail as u32).to_le_bytes());
    bytes.extend_from_slice(&entry.sequence.to_le_bytes());
    bytes.extend_from_slice(&(updates.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&entry.guid);
    bytes.extend_from_slice(&entry.flushed.to_le_bytes());
    bytes.extend_from_slice(&entry.last.to_le_bytes());
    for (offset, update) in updates {
        match update {
            Update::Zero(length) => {
                bytes.extend_from_slice(b"zero\0\0\0\0");
                bytes.extend_from_slice(&length.to_le_bytes());
            }
            Update::Data(sector) => {
                bytes.extend_from_slice(b"desc");
                bytes.extend_from_slice(&sector[sector.len() - 4..]);
                bytes.extend_from_slice(&sector[..8]);
            }
        }
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes.extend_from_slice(&entry.sequence.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
    for (_, update) in updates {
        if let Update::Data(sector) = update {
            bytes.extend_from_slice(b"data");
            bytes.extend_from_slice(&((entry.sequence >> 32) as u32).to_le_bytes());
            bytes.extend_from_slice(&sector[8..sector.len() - 4]);
            bytes.extend_from_slice(&(entry.sequence as u32).to_le_bytes());
        }
    }
    let checksum = crc32c::crc32c(&bytes);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// An update that goes through the log.
#[derive(Clone, Debug)]
pub(super) enum Update {
    /// So many bytes of zeros, a multiple of [`SECTOR`].
    Zero(u64),
    /// One sector.
    Data(Vec<u8>),
}

impl Update {
    pub(super) fn is_data(&self) -> bool {
        matches!(self, Self::Data(_))
    }
}
