//! Pairs of a submission and a completion queue (section 4).

use super::NAME;
use super::data::Method;
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;

/// The lengths of entries in bytes, as powers of two.
pub(super) const SUBMISSION_SHIFT: u32 = 6;
pub(super) const COMPLETION_SHIFT: u32 = 4;

/// A command (figure 104).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) opcode: u8,
    pub(super) namespace: u32,
    /// How data are named, and the data pointer.
    pub(super) data: Option<(Method, [u64; 2])>,
    /// Command dwords 10 to 15.
    pub(super) dwords: [u32; 6],
}

/// What ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Completion {
    /// The identifier of the command.
    pub(super) id: u16,
    /// The status field, without the phase.
    pub(super) status: u16,
    /// Dword 0, which means something else for each command.
    pub(super) result: u32,
}

impl Command {
    pub(super) const fn new(opcode: u8, namespace: u32) -> Self {
        Self {
            opcode,
            namespace,
            data: None,
            dwords: [0; 6],
        }
    }

    fn encode(&self, id: u16) -> Vec<u8> {
        const SGL: u32 = 1 << 14;
        let mut flags = 0;
        let mut pointer = [0; 2];
        if let Some((method, words)) = self.data {
            pointer = words;
            if method == Method::Sgl {
                flags = SGL;
            }
        }
        let first = u32::from(self.opcode) | flags | u32::from(id) << 16;
        let mut bytes = Vec::with_capacity(1 << SUBMISSION_SHIFT);
        bytes.extend(first.to_le_bytes());
        bytes.extend(self.namespace.to_le_bytes());
        // Two reserved dwords, and the metadata pointer.
        bytes.extend([0; 16]);
        bytes.extend(pointer.iter().flat_map(|w| w.to_le_bytes()));
        bytes.extend(self.dwords.iter().flat_map(|d| d.to_le_bytes()));
        bytes
    }
}

impl Completion {
    /// An entry (figure 121), if its phase is this one.
    fn decode(bytes: &[u8], phase: bool) -> Option<Self> {
        let &[a, b, c, d, _, _, _, _, _, _, _, _, e, f, g, h] = bytes else {
            return None;
        };
        let status = u16::from_le_bytes([g, h]);
        (status & 1 == u16::from(phase)).then(|| Self {
            id: u16::from_le_bytes([e, f]),
            status: status >> 1,
            result: u32::from_le_bytes([a, b, c, d]),
        })
    }
}

/// A submission and a completion queue of the same length.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    /// Where the two are in memory.
    pub(super) submission: u64,
    pub(super) completion: u64,
    /// In entries.
    pub(super) length: u16,
    /// The doorbells: of the tail of the one and of the head of the other.
    tail_doorbell: u64,
    head_doorbell: u64,
    tail: u16,
    head: u16,
    phase: bool,
    next_id: u16,
    on_their_way: u16,
}

impl Queue {
    /// Takes memory for the queues with a number whose doorbells start at `doorbells`, each
    /// `stride` bytes from the one before.
    ///
    /// # Errors
    ///
    /// As [`Guest::allocate`].
    pub(super) fn new(
        guest: &mut Guest,
        number: u16,
        length: u16,
        doorbells: u64,
        stride: u64,
    ) -> Result<Self> {
        let number = u64::from(number);
        Ok(Self {
            submission: guest.allocate(u64::from(length) << SUBMISSION_SHIFT, 4096)?,
            completion: guest.allocate(u64::from(length) << COMPLETION_SHIFT, 4096)?,
            length,
            tail_doorbell: doorbells + 2 * number * stride,
            head_doorbell: doorbells + (2 * number + 1) * stride,
            tail: 0,
            head: 0,
            phase: true,
            next_id: 0,
            on_their_way: 0,
        })
    }

    /// Empties both, as a reset of the controller does.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn clear(&mut self, guest: &mut Guest) -> Result<()> {
        (self.tail, self.head, self.phase, self.on_their_way) = (0, 0, true, 0);
        guest.label("nvme completion queue");
        let length = u64::from(self.length) << COMPLETION_SHIFT;
        guest.fill(self.completion, length, 0)
    }

    /// Sends a command; its identifier.
    ///
    /// # Errors
    ///
    /// Fails if the queue is full.
    pub(super) fn submit(&mut self, guest: &mut Guest, command: &Command) -> Result<u16> {
        if self.on_their_way + 1 >= self.length {
            return Err(Error::device(NAME, "the submission queue is full"));
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let entry = self.submission + (u64::from(self.tail) << SUBMISSION_SHIFT);
        guest.label("nvme submission entry");
        guest.write_block(entry, &command.encode(id))?;
        self.tail = (self.tail + 1) % self.length;
        self.on_their_way += 1;
        guest.label("nvme submission doorbell");
        guest.write(Width::L, self.tail_doorbell, self.tail.into())?;
        Ok(id)
    }

    /// What ended since the last call.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn completions(&mut self, guest: &mut Guest) -> Result<Vec<Completion>> {
        let mut ended = Vec::new();
        if self.on_their_way == 0 {
            return Ok(ended);
        }
        loop {
            let entry = self.completion + (u64::from(self.head) << COMPLETION_SHIFT);
            let bytes = guest.read_block(entry, 1 << COMPLETION_SHIFT)?;
            let Some(completion) = Completion::decode(&bytes, self.phase) else {
                break;
            };
            self.head = (self.head + 1) % self.length;
            self.phase ^= self.head == 0;
            self.on_their_way = self.on_their_way.saturating_sub(1);
            ended.push(completion);
        }
        if !ended.is_empty() {
            guest.label("nvme completion doorbell");
            guest.write(Width::L, self.head_doorbell, self.head.into())?;
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_64_bytes() {
        let mut command = Command::new(2, 1);
        command.data = Some((Method::Sgl, [0x1000, 0x200]));
        command.dwords[0] = 7;
        let bytes = command.encode(0x1234);
        assert_eq!(bytes.len(), 64);
        assert_eq!(bytes[..8], [2, 0x40, 0x34, 0x12, 1, 0, 0, 0]);
        assert_eq!((bytes[25], bytes[33], bytes[40]), (0x10, 0x02, 7));
    }

    #[test]
    fn a_completion_counts_with_its_phase() {
        let mut bytes = [0; 16];
        (bytes[0], bytes[12], bytes[14]) = (9, 5, 0x05);
        let expected = Completion {
            id: 5,
            status: 2,
            result: 9,
        };
        assert_eq!(Completion::decode(&bytes, true), Some(expected));
        assert_eq!(Completion::decode(&bytes, false), None);
    }
}
