//! The packed layout: virtio 1.2, section 2.8.

use std::collections::BTreeMap;

use super::Areas;
use super::queue::{Options, Segment, Used, passed};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::{Op, Width};

/// Flags of a descriptor: section 2.8.1.
mod flag {
    pub(super) const NEXT: u16 = 1;
    pub(super) const WRITE: u16 = 2;
    pub(super) const INDIRECT: u16 = 4;
    pub(super) const AVAILABLE: u16 = 1 << 7;
    pub(super) const USED: u16 = 1 << 15;
}

/// What the structures for the suppression of events say: section 2.8.10.
mod event {
    pub(super) const ENABLE: u64 = 0;
    pub(super) const DESCRIPTOR: u64 = 2;
}

/// A place in the ring, and how often the end was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The number of a descriptor.
    pub index: u16,
    /// The wrap counter, 0 or 1, at first 1.
    pub wrap: bool,
}

impl Position {
    const START: Self = Self {
        index: 0,
        wrap: true,
    };

    const fn advance(&mut self, count: u16, size: u16) {
        self.index += count;
        if self.index >= size {
            self.index -= size;
            self.wrap = !self.wrap;
        }
    }
}

/// One ring of descriptors.
#[derive(Debug)]
pub struct PackedQueue {
    /// Where it and the two structures for the suppression of events are.
    pub areas: Areas,
    /// What the driver and the device agreed on.
    pub options: Options,
    /// Where the next descriptor is made available.
    pub next_available: Position,
    /// Where the next one is used.
    pub next_used: Position,
    /// How many descriptors no request has.
    unused: u16,
    /// As many descriptors were made available since the last notification.
    since: u16,
    /// Numbers that no request has.
    ids: Vec<u16>,
    /// How many descriptors each request has, and its table outside.
    chains: BTreeMap<u16, (u16, Option<u64>)>,
}

impl PackedQueue {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// As [`Guest::allocate`].
    pub fn new(guest: &mut Guest, size: u16, options: Options) -> Result<Self> {
        let ring = 16 * u64::from(size);
        let at = guest.allocate(ring + 8, 4096)?;
        let areas = Areas {
            size,
            descriptors: at,
            driver: at + ring,
            device: at + ring + 4,
        };
        Ok(Self {
            areas,
            options,
            next_available: Position::START,
            next_used: Position::START,
            unused: size,
            since: 0,
            ids: (0..size).rev().collect(),
            chains: BTreeMap::new(),
        })
    }

    /// As [`super::Virtqueue::add`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn add(&mut self, guest: &mut Guest, segments: &[Segment]) -> Result<u16> {
        let full = || Error::device("virtio", "no descriptors are left");
        let outside = self.options.indirect && segments.len() > 1;
        let count = if outside { 1 } else { segments.len() };
        let count = u16::try_from(count).map_err(|_| full())?;
        if count == 0 || count > self.unused {
            return Err(full());
        }
        let id = self.ids.pop().ok_or_else(full)?;
        let mut table = None;
        let mut ops = Vec::new();
        if outside {
            // In a table outside, neither numbers nor chains have a meaning.
            let mut bytes = Vec::new();
            for segment in segments {
                let flags = if segment.writable { flag::WRITE } else { 0 };
                bytes.extend(descriptor(segment, 0, flags));
            }
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let at = guest.allocate(length.into(), 16)?;
            guest.label("virtio indirect descriptors");
            guest.write_block(at, &bytes)?;
            table = Some(at);
            let whole = Segment::readable(at, length);
            ops.push(self.make(&whole, id, flag::INDIRECT));
        } else {
            for (left, segment) in (0..segments.len()).rev().zip(segments) {
                let write = if segment.writable { flag::WRITE } else { 0 };
                let next = if left > 0 { flag::NEXT } else { 0 };
                ops.push(self.make(segment, id, write | next));
            }
        }
        // The device looks at the first one, and finds the others in place then.
        ops.reverse();
        guest.label("virtio packed descriptor");
        guest.run_all(ops)?;
        self.unused -= count;
        self.since = self.since.saturating_add(count);
        self.chains.insert(id, (count, table));
        Ok(id)
    }

    /// A descriptor at the next place.
    fn make(&mut self, segment: &Segment, id: u16, mut flags: u16) -> Op {
        let at = self.next_available;
        flags |= if at.wrap { flag::AVAILABLE } else { flag::USED };
        self.next_available.advance(1, self.areas.size);
        Op::WriteBlock {
            address: self.areas.descriptors + 16 * u64::from(at.index),
            bytes: descriptor(segment, id, flags),
        }
    }

    /// As [`super::Virtqueue::wants_notification`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn wants_notification(&mut self, guest: &mut Guest) -> Result<bool> {
        let since = std::mem::take(&mut self.since);
        let event = guest.read(Width::L, self.areas.device)?;
        let (at, flags) = (event & 0xffff, event >> 16 & 3);
        if flags != event::DESCRIPTOR {
            return Ok(flags == event::ENABLE);
        }
        let mut index = (at & 0x7fff) as u16;
        let new = self.next_available;
        if (at >> 15 == 1) != new.wrap {
            index = index.wrapping_sub(self.areas.size);
        }
        Ok(passed(index, new.index, new.index.wrapping_sub(since)))
    }

    /// As [`super::Virtqueue::take_used`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn take_used(&mut self, guest: &mut Guest) -> Result<Vec<Used>> {
        let mut all = Vec::new();
        while !self.chains.is_empty() {
            let at = self.areas.descriptors + 16 * u64::from(self.next_used.index);
            let rest = guest.read(Width::Q, at + 8)?;
            #[expect(clippy::cast_possible_truncation, reason = "parts of eight bytes")]
            let (length, id, flags) = (rest as u32, (rest >> 32) as u16, (rest >> 48) as u16);
            let used = flags & flag::USED != 0;
            if used != (flags & flag::AVAILABLE != 0) || used != self.next_used.wrap {
                break;
            }
            let Some((count, table)) = self.chains.remove(&id) else {
                let what = "the ring has a used descriptor that was not available";
                return Err(Error::device("virtio", what));
            };
            if let Some(table) = table {
                guest.free(table);
            }
            self.unused += count;
            self.ids.push(id);
            self.next_used.advance(count, self.areas.size);
            all.push(Used { id, length });
        }
        if self.options.event_index && !all.is_empty() {
            // The device interrupts for the next one.
            let at = u64::from(self.next_used.index) | u64::from(self.next_used.wrap) << 15;
            guest.label("virtio driver event");
            guest.write(Width::L, self.areas.driver, at | event::DESCRIPTOR << 16)?;
        }
        Ok(all)
    }

    /// How many requests the device is not done with.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.chains.len()
    }

    /// Gives its memory back.
    pub fn free(self, guest: &mut Guest) {
        for table in self.chains.values().filter_map(|(_, table)| *table) {
            guest.free(table);
        }
        guest.free(self.areas.descriptors);
    }
}

fn descriptor(segment: &Segment, id: u16, flags: u16) -> Vec<u8> {
    let mut bytes = segment.head();
    bytes.extend(id.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_changes_where_the_ring_begins_again() {
        let mut at = Position::START;
        at.advance(3, 4);
        assert_eq!((at.index, at.wrap), (3, true));
        at.advance(2, 4);
        assert_eq!((at.index, at.wrap), (1, false));
    }

    #[test]
    fn fields_are_where_the_specification_has_them() {
        let segment = Segment::writable(0x1000, 512);
        assert_eq!(
            descriptor(&segment, 5, flag::WRITE | flag::AVAILABLE),
            [0, 0x10, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 5, 0, 0x82, 0]
        );
    }
}
