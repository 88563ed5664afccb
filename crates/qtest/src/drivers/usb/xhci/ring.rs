//! Rings of transfer request blocks (xHCI 1.2, section 4.9).

use crate::error::{Error, Result};
use crate::guest::Guest;

use super::NAME;

/// The length of a block in bytes, and how many a ring has; the last leads to the first.
const BLOCK: u64 = 16;
const LENGTH: u64 = 256;

/// Types of blocks (table 6-91).
pub(super) mod kind {
    pub(in super::super) const NORMAL: u32 = 1;
    pub(in super::super) const SETUP: u32 = 2;
    pub(in super::super) const DATA: u32 = 3;
    pub(in super::super) const STATUS: u32 = 4;
    pub(super) const LINK: u32 = 6;
    pub(in super::super) const ENABLE_SLOT: u32 = 9;
    pub(in super::super) const ADDRESS_DEVICE: u32 = 11;
    pub(in super::super) const CONFIGURE_ENDPOINT: u32 = 12;
    pub(in super::super) const RESET_ENDPOINT: u32 = 14;
    pub(in super::super) const SET_DEQUEUE: u32 = 16;
    pub(in super::super) const TRANSFER_EVENT: u32 = 32;
    pub(in super::super) const COMMAND_COMPLETION: u32 = 33;
}

/// Flags of blocks (section 6.4).
pub(super) mod flag {
    pub(super) const CYCLE: u32 = 1;
    pub(super) const TOGGLE: u32 = 1 << 1;
    pub(in super::super) const INTERRUPT_ON_SHORT: u32 = 1 << 2;
    pub(in super::super) const CHAIN: u32 = 1 << 4;
    pub(in super::super) const INTERRUPT: u32 = 1 << 5;
    pub(in super::super) const IMMEDIATE: u32 = 1 << 6;
}

/// A block without its cycle bit: parameter, status, and control.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) parameter: u64,
    pub(super) status: u32,
    pub(super) control: u32,
}

impl Block {
    pub(super) const fn new(kind: u32, parameter: u64, status: u32, control: u32) -> Self {
        Self {
            parameter,
            status,
            control: control | kind << 10,
        }
    }

    fn encode(self, cycle: bool) -> Vec<u8> {
        let control = self.control | if cycle { flag::CYCLE } else { 0 };
        let mut bytes = self.parameter.to_le_bytes().to_vec();
        bytes.extend(self.status.to_le_bytes());
        bytes.extend(control.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let word = |at: usize| {
            let field = bytes.get(at..at + 4).unwrap_or(&[0; 4]);
            u32::from_le_bytes([field[0], field[1], field[2], field[3]])
        };
        Self {
            parameter: u64::from(word(0)) | u64::from(word(4)) << 32,
            status: word(8),
            control: word(12),
        }
    }

    /// The type of a block that was read.
    pub(super) const fn kind(self) -> u32 {
        self.control >> 10 & 63
    }

    /// The completion code of an event.
    pub(super) const fn code(self) -> u32 {
        self.status >> 24
    }
}

/// A ring that the driver writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    memory: u64,
    next: u64,
    cycle: bool,
    /// How many blocks are on their way.
    used: u64,
}

impl Ring {
    /// Takes memory for one.
    ///
    /// # Errors
    ///
    /// As [`Guest::allocate`].
    pub(super) fn new(guest: &mut Guest) -> Result<Self> {
        Ok(Self {
            memory: guest.allocate(BLOCK * LENGTH, 4096)?,
            next: 0,
            cycle: true,
            used: 0,
        })
    }

    /// Where the next block will be, with the cycle bit that it will have: the dequeue pointer
    /// of a ring on which nothing is on its way.
    pub(super) fn pointer(&self) -> u64 {
        (self.memory + BLOCK * self.next) | u64::from(self.cycle)
    }

    /// Writes blocks that belong together; their addresses.
    ///
    /// # Errors
    ///
    /// Fails if they do not fit.
    pub(super) fn push(
        &mut self,
        guest: &mut Guest,
        label: &'static str,
        blocks: &[Block],
    ) -> Result<Vec<u64>> {
        if self.used + blocks.len() as u64 >= LENGTH - 1 {
            return Err(Error::device(NAME, "a ring is full"));
        }
        let mut writes = Vec::new();
        let mut addresses = Vec::new();
        for block in blocks {
            let address = self.memory + BLOCK * self.next;
            addresses.push(address);
            writes.push((address, block.encode(self.cycle)));
            self.next += 1;
            if self.next == LENGTH - 1 {
                let chain = block.control & flag::CHAIN;
                let link = Block::new(kind::LINK, self.memory, 0, flag::TOGGLE | chain);
                writes.push((self.memory + BLOCK * self.next, link.encode(self.cycle)));
                self.next = 0;
                self.cycle = !self.cycle;
            }
        }
        self.used += blocks.len() as u64;
        // The first is written last, so that the controller sees all or none.
        guest.label(label);
        for (address, bytes) in writes.iter().rev() {
            guest.write_block(*address, bytes)?;
        }
        Ok(addresses)
    }

    /// So many blocks are not on their way any more.
    pub(super) const fn ended(&mut self, count: u64) {
        self.used = self.used.saturating_sub(count);
    }

    /// Nothing is on its way any more.
    pub(super) const fn all_ended(&mut self) {
        self.used = 0;
    }

    /// Gives its memory back.
    pub(super) fn free(self, guest: &mut Guest) {
        guest.free(self.memory);
    }
}

/// The ring that the controller writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Events {
    memory: u64,
    /// The table with its only segment.
    pub(super) table: u64,
    next: u64,
    cycle: bool,
}

impl Events {
    /// Takes memory for it.
    ///
    /// # Errors
    ///
    /// As [`Guest::allocate`].
    pub(super) fn new(guest: &mut Guest) -> Result<Self> {
        let memory = guest.allocate(BLOCK * LENGTH, 4096)?;
        let table = guest.allocate(16, 64)?;
        let mut entry = memory.to_le_bytes().to_vec();
        entry.extend(LENGTH.to_le_bytes());
        guest.label("xhci event ring segment table");
        guest.write_block(table, &entry)?;
        Ok(Self {
            memory,
            table,
            next: 0,
            cycle: true,
        })
    }

    /// The address of the next event.
    pub(super) const fn pointer(&self) -> u64 {
        self.memory + BLOCK * self.next
    }

    /// The next event, if it has come.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn take(&mut self, guest: &mut Guest) -> Result<Option<Block>> {
        let block = Block::decode(&guest.read_block(self.pointer(), BLOCK)?);
        if (block.control & flag::CYCLE != 0) != self.cycle {
            return Ok(None);
        }
        self.next += 1;
        if self.next == LENGTH {
            self.next = 0;
            self.cycle = !self.cycle;
        }
        Ok(Some(block))
    }

    /// Gives its memory back.
    pub(super) fn free(self, guest: &mut Guest) {
        guest.free(self.memory);
        guest.free(self.table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_back() {
        let block = Block::new(kind::NORMAL, 0x1_2345_6780, 512, flag::INTERRUPT);
        let bytes = block.encode(true);
        assert_eq!(bytes[12..], [0x21, 0x04, 0, 0]);
        let back = Block::decode(&bytes);
        assert_eq!((back.parameter, back.status), (0x1_2345_6780, 512));
        assert_eq!(back.kind(), kind::NORMAL);
        assert_eq!(Block::decode(&[]), Block::default());
    }
}
