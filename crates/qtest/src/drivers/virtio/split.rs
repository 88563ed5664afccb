//! The split layout: virtio 1.2, section 2.7.

use std::collections::BTreeMap;

use super::Areas;
use super::queue::{Options, Segment, Used, passed};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::{Op, Width};

/// Flags of a descriptor: section 2.7.5.
mod flag {
    pub(super) const NEXT: u16 = 1;
    pub(super) const WRITE: u16 = 2;
    pub(super) const INDIRECT: u16 = 4;
}

/// The device wants no notifications: section 2.7.10, in the flags of the used ring.
const NO_NOTIFY: u64 = 1;

/// A table of descriptors, a ring of what is available, and a ring of what is used.
#[derive(Debug)]
pub struct SplitQueue {
    /// Where the three are.
    pub areas: Areas,
    /// What the driver and the device agreed on.
    pub options: Options,
    /// How many requests were made available, modulo 2^16.
    pub available: u16,
    /// How many used ones were taken, modulo 2^16.
    pub taken: u16,
    /// `available` at the last notification.
    notified: u16,
    /// The descriptors that no request has.
    unused: Vec<u16>,
    /// The descriptors of each request, and its table outside.
    chains: BTreeMap<u16, (Vec<u16>, Option<u64>)>,
}

impl SplitQueue {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// As [`Guest::allocate`].
    pub fn new(guest: &mut Guest, size: u16, options: Options) -> Result<Self> {
        // Legacy devices know no other way to arrange it.
        const ALIGN: u64 = 4096;
        let n = u64::from(size);
        let used = (16 * n + 6 + 2 * n).next_multiple_of(ALIGN);
        let at = guest.allocate(used + 6 + 8 * n, ALIGN)?;
        let areas = Areas {
            size,
            descriptors: at,
            driver: at + 16 * n,
            device: at + used,
        };
        Ok(Self {
            areas,
            options,
            available: 0,
            taken: 0,
            notified: 0,
            unused: (0..size).rev().collect(),
            chains: BTreeMap::new(),
        })
    }

    /// As [`super::Virtqueue::add`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn add(&mut self, guest: &mut Guest, segments: &[Segment]) -> Result<u16> {
        let outside = self.options.indirect && segments.len() > 1;
        let count = if outside { 1 } else { segments.len() };
        if count == 0 || count > self.unused.len() {
            return Err(Error::device("virtio", "no descriptors are left"));
        }
        let chain = self.unused.split_off(self.unused.len() - count);
        let mut table = None;
        if outside {
            let numbers: Vec<u16> = (0..).take(segments.len()).collect();
            let bytes: Vec<u8> = encode(segments, &numbers).into_iter().flatten().collect();
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let at = guest.allocate(length.into(), 16)?;
            guest.label("virtio indirect descriptors");
            guest.write_block(at, &bytes)?;
            table = Some(at);
            let mut whole = Segment::readable(at, length).head();
            whole.extend(flag::INDIRECT.to_le_bytes());
            whole.extend([0, 0]);
            guest.label("virtio descriptor");
            guest.write_block(self.descriptor(chain[0]), &whole)?;
        } else {
            let descriptors = encode(segments, &chain).into_iter();
            let write = |(number, bytes): (&u16, Vec<u8>)| Op::WriteBlock {
                address: self.descriptor(*number),
                bytes,
            };
            let ops = chain.iter().zip(descriptors).map(write).collect();
            guest.label("virtio descriptor");
            guest.run_all(ops)?;
        }
        let id = chain[0];
        self.chains.insert(id, (chain, table));
        self.offer(guest, id)?;
        Ok(id)
    }

    /// Makes the descriptor with this number, and those that it leads to, available.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub fn offer(&mut self, guest: &mut Guest, id: u16) -> Result<()> {
        let slot = u64::from(self.available % self.areas.size);
        guest.label("virtio available ring entry");
        guest.write(Width::W, self.areas.driver + 4 + 2 * slot, id.into())?;
        self.available = self.available.wrapping_add(1);
        guest.label("virtio available ring index");
        guest.write(Width::W, self.areas.driver + 2, self.available.into())
    }

    /// As [`super::Virtqueue::wants_notification`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn wants_notification(&mut self, guest: &mut Guest) -> Result<bool> {
        let old = std::mem::replace(&mut self.notified, self.available);
        if self.options.event_index {
            let at = self.areas.device + 4 + 8 * u64::from(self.areas.size);
            #[expect(clippy::cast_possible_truncation, reason = "two bytes were read")]
            let event = guest.read(Width::W, at)? as u16;
            return Ok(passed(event, self.available, old));
        }
        Ok(guest.read(Width::W, self.areas.device)? & NO_NOTIFY == 0)
    }

    /// As [`super::Virtqueue::take_used`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn take_used(&mut self, guest: &mut Guest) -> Result<Vec<Used>> {
        // The next entry is read at once with the index; it means something if there is one.
        let (width, address) = (Width::W, self.areas.device + 2);
        let index = Op::Read { width, address };
        let (width, address) = (Width::Q, self.used_entry());
        let answers = guest.run_all(vec![index, Op::Read { width, address }])?;
        let (index, mut next) = match &answers[..] {
            #[expect(clippy::cast_possible_truncation, reason = "two bytes were read")]
            [index, entry] => (index.value() as u16, Some(entry.value())),
            _ => (self.taken, None),
        };
        let mut all = Vec::new();
        if index.wrapping_sub(self.taken) > self.areas.size {
            let what = "the index of the used ring went too far";
            return Err(Error::device("virtio", what));
        }
        while self.taken != index {
            let entry = match next.take() {
                Some(entry) => entry,
                None => guest.read(Width::Q, self.used_entry())?,
            };
            self.taken = self.taken.wrapping_add(1);
            let id = u16::try_from(entry & 0xffff_ffff).ok();
            let chain = id.and_then(|id| self.chains.remove(&id));
            let (Some(id), Some((chain, table))) = (id, chain) else {
                let what = "the used ring has what was not available";
                return Err(Error::device("virtio", what));
            };
            self.unused.extend(chain);
            if let Some(table) = table {
                guest.free(table);
            }
            let length = (entry >> 32) as u32;
            all.push(Used { id, length });
        }
        if self.options.event_index && !all.is_empty() {
            // The device interrupts for the next one.
            let at = self.areas.driver + 4 + 2 * u64::from(self.areas.size);
            guest.label("virtio used event");
            guest.write(Width::W, at, self.taken.into())?;
        }
        Ok(all)
    }

    /// The address of the used entry that is taken next.
    fn used_entry(&self) -> u64 {
        let slot = u64::from(self.taken % self.areas.size);
        self.areas.device + 4 + 8 * slot
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

    /// The address of a descriptor.
    #[must_use]
    pub fn descriptor(&self, number: u16) -> u64 {
        self.areas.descriptors + 16 * u64::from(number)
    }
}

/// A chain of descriptors with these numbers.
fn encode(segments: &[Segment], numbers: &[u16]) -> Vec<Vec<u8>> {
    let one = |(index, segment): (usize, &Segment)| {
        let next = numbers.get(index + 1);
        let mut flags = if segment.writable { flag::WRITE } else { 0 };
        if next.is_some() {
            flags |= flag::NEXT;
        }
        let mut bytes = segment.head();
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.copied().unwrap_or(0).to_le_bytes());
        bytes
    };
    segments.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_lead_to_each_other() {
        let segments = [Segment::readable(0x1000, 16), Segment::writable(0x2000, 1)];
        let chain = encode(&segments, &[7, 3]);
        assert_eq!(
            chain[0],
            [0, 0x10, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 1, 0, 3, 0]
        );
        assert_eq!(
            chain[1],
            [0, 0x20, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]
        );
    }
}
