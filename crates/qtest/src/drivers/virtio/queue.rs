//! What queues of both layouts have in common: virtio 1.2, section 2.6.

use crate::guest::Buffer;

/// A part of a request: one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// In the guest's memory.
    pub address: u64,
    /// In bytes.
    pub length: u32,
    /// Whether the device writes it.
    pub writable: bool,
}

impl Segment {
    /// One that the device reads.
    #[must_use]
    pub const fn readable(address: u64, length: u32) -> Self {
        Self {
            address,
            length,
            writable: false,
        }
    }

    /// One that the device writes.
    #[must_use]
    pub const fn writable(address: u64, length: u32) -> Self {
        Self {
            address,
            length,
            writable: true,
        }
    }

    /// Those of a buffer.
    pub fn of(buffer: &Buffer, writable: bool) -> impl Iterator<Item = Self> + '_ {
        buffer.pieces.iter().map(move |&(address, length)| Self {
            address,
            length,
            writable,
        })
    }

    /// The descriptor without its last four bytes: address and length.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut bytes = self.address.to_le_bytes().to_vec();
        bytes.extend(self.length.to_le_bytes());
        bytes
    }
}

/// A request that the device is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// The number that adding it gave.
    pub id: u16,
    /// How many bytes the device wrote.
    pub length: u32,
}

/// Which options of queues the driver and the device agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// [`super::feature::PACKED`]
    pub packed: bool,
    /// [`super::feature::INDIRECT`]
    pub indirect: bool,
    /// [`super::feature::EVENT_INDEX`]
    pub event_index: bool,
}

/// Whether the index goes past `event` on its way from `old` to `new`: section 2.7.7.1.
pub(super) const fn passed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_passed_once() {
        assert!(passed(4, 5, 4));
        assert!(!passed(5, 5, 4));
        assert!(!passed(3, 5, 4));
        assert!(passed(0xffff, 1, 0xfffe));
        assert!(!passed(1, 1, 0xfffe));
    }
}
