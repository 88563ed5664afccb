//! UFS: a logical unit behind a host controller.
//!
//! UFSHCI 4.0 (JESD223E) for the controller, UFS 3.1 (JESD220E) for the units of the protocol.
//! Requests go by doorbells, or by several queues in memory where the controller has those.

mod controller;
mod queues;
mod upiu;

use crate::block::{Disk, Tag};
use crate::drivers::scsi::Slots;
use crate::drivers::scsi::{Command, Data, Outcome, ScsiDisk, ScsiTransport};
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};
use controller::Controller;
use queues::Queues;

const NAME: &str = "ufs";

/// A transfer request: the length of its descriptor in bytes.
const DESCRIPTOR: u64 = 32;

/// The parts of what a descriptor leads to, in bytes: the request, the response, and the
/// entries of memory.
const RESPONSE: u64 = 0x100;
const RESPONSE_LENGTH: u64 = 0x100;
const ENTRIES: u64 = 0x200;
const WHOLE: u64 = 0x1000;

/// The most that an entry of memory names in bytes (UFSHCI, section 6.1.2).
const ENTRY_LONGEST: u32 = 256 << 10;

/// Finds a controller and sets its first logical unit up.
///
/// # Errors
///
/// Fails if there is no controller with a unit, or they do not answer.
pub fn open(guest: &mut Guest) -> Result<Box<dyn Disk>> {
    let transport = Ufs::open(guest)?;
    Ok(Box::new(ScsiDisk::open(guest, transport)?))
}

/// A logical unit.
#[derive(Debug)]
pub struct Ufs {
    controller: Controller,
    queues: Queues,
    slots: Slots,
}

impl Ufs {
    /// Finds a controller and sets it up.
    ///
    /// # Errors
    ///
    /// As [`open`].
    pub fn open(guest: &mut Guest) -> Result<Self> {
        let controller = Controller::find(guest)?;
        let queues = Queues::new(guest, &controller)?;
        let mut ufs = Self {
            controller,
            queues,
            slots: Slots::default(),
        };
        ufs.set_up(guest)?;
        Ok(ufs)
    }

    fn set_up(&mut self, guest: &mut Guest) -> Result<()> {
        self.slots.renew(guest, self.queues.depth(), WHOLE)?;
        self.controller.enable(guest)?;
        self.queues.start(guest, &self.controller)?;
        let response = self.ask(guest, &upiu::nop_out())?;
        if response[0] != upiu::NOP_IN {
            return Err(Error::device(NAME, "the device does not answer NOP OUT"));
        }
        self.ask(guest, &upiu::query(upiu::SET_FLAG, upiu::DEVICE_INIT))?;
        guest.wait(NAME, "a device that is initialised", |guest| {
            let response = self.ask(guest, &upiu::query(upiu::READ_FLAG, upiu::DEVICE_INIT))?;
            Ok((upiu::flag(&response) == 0).then_some(()))
        })
    }

    /// Carries a request without data out, while nothing is on its way; its response.
    fn ask(&mut self, guest: &mut Guest, request: &[u8]) -> Result<Vec<u8>> {
        let slot = self.send(guest, 0, request, &Data::None)?;
        self.slots.started(slot);
        guest.wait(NAME, "the response to a request", |guest| {
            let ended = self.queues.ended(guest, &self.controller, &self.slots)?;
            Ok(ended.contains(&slot).then_some(()))
        })?;
        self.slots.ended(NAME, slot.into())?;
        match self.response(guest, slot)? {
            Ok(response) if response[upiu::RESPONSE_CODE] == 0 => Ok(response),
            Ok(response) => {
                let code = response[upiu::RESPONSE_CODE];
                Err(Error::device(NAME, format!("response code {code:#04x}")))
            }
            Err(why) => Err(Error::device(NAME, why)),
        }
    }

    /// Sends a request on a queue; its slot.
    fn send(
        &mut self,
        guest: &mut Guest,
        queue: usize,
        request: &[u8],
        data: &Data,
    ) -> Result<u16> {
        const LONGEST_LIST: u64 = WHOLE - ENTRIES;
        let entries = match data.buffer() {
            Some(buffer) => entries(buffer)?,
            None => Vec::new(),
        };
        if entries.len() as u64 > LONGEST_LIST {
            return Err(Error::device(NAME, "too many pieces of memory"));
        }
        let slot = self.slots.take(NAME)?;
        let memory = self.slots.address(slot);
        let mut request = request.to_vec();
        // The number of the request is in the header too.
        request[upiu::TASK_TAG] = u8::try_from(slot).unwrap_or(u8::MAX);
        guest.label("ufs request UPIU");
        guest.write_block(memory, &request)?;
        guest.label("ufs response UPIU");
        guest.fill(memory + RESPONSE, RESPONSE_LENGTH, 0)?;
        guest.label("ufs physical region descriptors");
        guest.write_block(memory + ENTRIES, &entries)?;
        let descriptor = descriptor(memory, data, entries.len());
        self.queues
            .send(guest, &self.controller, queue, slot, &descriptor)?;
        Ok(slot)
    }

    /// The response to a request that ended, or what the controller says instead.
    fn response(&self, guest: &mut Guest, slot: u16) -> Result<Result<Vec<u8>, String>> {
        if let Some(why) = self.queues.problem(slot) {
            return Ok(Err(why));
        }
        let at = self.slots.address(slot) + RESPONSE;
        Ok(Ok(guest.read_block(at, RESPONSE_LENGTH)?))
    }

    fn outcome(&self, guest: &mut Guest, slot: u16) -> Result<Outcome> {
        Ok(match self.response(guest, slot)? {
            Err(why) => Outcome::Lost { why },
            Ok(response) => upiu::outcome(&response),
        })
    }
}

/// A transfer request descriptor (UFSHCI, section 6.1.1) for a request in this memory.
fn descriptor(memory: u64, data: &Data, entries_length: usize) -> Vec<u8> {
    const UFS_STORAGE: u32 = 1 << 28;
    const TO_DEVICE: u32 = 1 << 25;
    const FROM_DEVICE: u32 = 2 << 25;
    const INTERRUPT: u32 = 1 << 24;
    let direction = match data {
        Data::None => 0,
        Data::In(_) => FROM_DEVICE,
        Data::Out(_) => TO_DEVICE,
    };
    // Lengths and offsets are in words of four bytes, that of the entries is their number.
    let word = |bytes: u64| u16::try_from(bytes / 4).unwrap_or(u16::MAX);
    let mut bytes = (UFS_STORAGE | direction | INTERRUPT).to_le_bytes().to_vec();
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(queues::NOT_ENDED.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(memory.to_le_bytes());
    bytes.extend(word(RESPONSE_LENGTH).to_le_bytes());
    bytes.extend(word(RESPONSE).to_le_bytes());
    let count = u16::try_from(entries_length / 16).unwrap_or(u16::MAX);
    bytes.extend(count.to_le_bytes());
    bytes.extend(word(ENTRIES).to_le_bytes());
    bytes
}

/// The entries that name memory (UFSHCI, section 6.1.2).
fn entries(data: &Buffer) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for &(start, length) in &data.pieces {
        if start % 4 != 0 || length % 4 != 0 {
            return Err(Error::device(
                NAME,
                "memory is named by words of four bytes",
            ));
        }
        let mut done = 0;
        while done < length {
            let now = (length - done).min(ENTRY_LONGEST);
            bytes.extend((start + u64::from(done)).to_le_bytes());
            bytes.extend(0u32.to_le_bytes());
            bytes.extend((now - 1).to_le_bytes());
            done += now;
        }
    }
    Ok(bytes)
}

impl ScsiTransport for Ufs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn depth(&self) -> usize {
        self.queues.depth().into()
    }

    fn queues(&self) -> usize {
        self.queues.count()
    }

    fn longest(&self) -> u64 {
        8 << 20
    }

    fn start(&mut self, guest: &mut Guest, queue: usize, command: &Command) -> Result<Tag> {
        let request = upiu::command(command)?;
        let slot = self.send(guest, queue, &request, &command.data)?;
        Ok(self.slots.started(slot))
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Outcome)>> {
        let mut all = Vec::new();
        for slot in self.queues.ended(guest, &self.controller, &self.slots)? {
            let outcome = self.outcome(guest, slot)?;
            let (_, tag) = self.slots.ended(NAME, slot.into())?;
            all.push((tag, outcome));
        }
        Ok(all)
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        self.queues.stop(guest, &self.controller)?;
        self.set_up(guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_leads_to_its_parts() {
        let data = Data::In(Buffer {
            pieces: vec![(0x1000, 512)],
        });
        let bytes = descriptor(0x1_0000_2000, &data, 16);
        assert_eq!(bytes.len(), 32);
        assert_eq!(bytes[..4], [0, 0, 0, 0x15]);
        assert_eq!(bytes[16..24], [0, 0x20, 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[24..], [0x40, 0, 0x40, 0, 1, 0, 0x80, 0]);
    }

    #[test]
    fn long_pieces_take_several_entries() {
        let buffer = |start, length| Buffer {
            pieces: vec![(start, length)],
        };
        let bytes = entries(&buffer(0x1000, (256 << 10) + 4)).unwrap();
        assert_eq!(bytes[12..16], [0xff, 0xff, 3, 0]);
        assert_eq!(bytes[16..20], [0, 0x10, 4, 0]);
        assert_eq!(bytes[28..], [3, 0, 0, 0]);
        assert!(entries(&buffer(0x1002, 4)).is_err());
    }
}
