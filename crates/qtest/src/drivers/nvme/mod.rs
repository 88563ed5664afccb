//! NVMe: a controller with several I/O queues, and its first namespace.
//!
//! NVM Express Base Specification 1.4.

mod controller;
mod data;
mod identify;
mod queue;
mod status;

use std::collections::BTreeMap;

use crate::block::{Disk, Features, Request, Status, Tag};
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};
use controller::Controller;
use data::{Data, Method};
use identify::Namespace;
use queue::Command;

const NAME: &str = "nvme";

/// Opcodes of the NVM command set (section 6).
mod opcode {
    pub(super) const FLUSH: u8 = 0x00;
    pub(super) const WRITE: u8 = 0x01;
    pub(super) const READ: u8 = 0x02;
    pub(super) const WRITE_ZEROES: u8 = 0x08;
    pub(super) const DATASET_MANAGEMENT: u8 = 0x09;
}

/// Command dword 12 of read, write and write zeroes (sections 6.9, 6.15, 6.16).
const FORCE_UNIT_ACCESS: u32 = 1 << 30;
const DEALLOCATE: u32 = 1 << 25;

/// Command dword 11 of dataset management: deallocate (section 6.7).
const ATTRIBUTE_DEALLOCATE: u32 = 1 << 2;

/// The most blocks that a command names: its field of 16 bits holds one less.
const MAX_BLOCKS: u64 = 1 << 16;

/// Finds a controller and sets its first namespace up.
///
/// # Errors
///
/// Fails if there is no controller with an active namespace, or it does not answer.
pub fn open(guest: &mut Guest) -> Result<Box<dyn Disk>> {
    Ok(Box::new(Nvme::open(guest)?))
}

/// A namespace of a controller.
#[derive(Debug)]
pub struct Nvme {
    controller: Controller,
    namespace: Namespace,
    features: Features,
    next_tag: u64,
    /// What is on its way, by queue and command identifier.
    pending: BTreeMap<(usize, u16), (Tag, Data)>,
}

impl Nvme {
    /// Finds a controller and sets its first namespace up.
    ///
    /// # Errors
    ///
    /// As [`open`].
    pub fn open(guest: &mut Guest) -> Result<Self> {
        let mut controller = Controller::open(guest)?;
        let namespace = controller.namespace(guest)?;
        let identity = &controller.identity;
        let by_field = MAX_BLOCKS * u64::from(namespace.block_size);
        let features = Features {
            flush: true,
            fua: true,
            discard: identity.dataset_management,
            write_zeroes: identity.write_zeroes,
            scatter: identity.sgl,
            depth: controller.depth(),
            queues: controller.queues(),
            longest: identity.longest.map_or(by_field, |n| n.min(by_field)),
            read_only: false,
        };
        Ok(Self {
            controller,
            namespace,
            features,
            next_tag: 0,
            pending: BTreeMap::new(),
        })
    }

    /// Asks the controller to give a request up (Abort, section 5.1). Whether it could still be
    /// aborted; the request ends in any case, and [`Disk::poll`] says how.
    ///
    /// # Errors
    ///
    /// Fails if there is no such request, or the controller does not answer.
    pub fn abort(&mut self, guest: &mut Guest, tag: Tag) -> Result<bool> {
        let found = self.pending.iter().find(|(_, (other, _))| *other == tag);
        let Some((&(queue, id), _)) = found else {
            return Err(Error::device(NAME, "the request is not on its way"));
        };
        self.controller.abort(guest, queue, id)
    }

    /// The number of blocks of a part of the disk, and the first.
    fn blocks(&self, offset: u64, length: u64) -> Result<(u64, u64)> {
        let size = u64::from(self.namespace.block_size);
        if !offset.is_multiple_of(size) || !length.is_multiple_of(size) || length == 0 {
            return Err(Error::device(NAME, "a command is for whole blocks"));
        }
        Ok((offset / size, length / size))
    }

    /// Command dwords 10 to 12 for a part of the disk.
    fn extent(&self, offset: u64, length: u64, flags: u32) -> Result<[u32; 3]> {
        let (first, count) = self.blocks(offset, length)?;
        if count > MAX_BLOCKS {
            return Err(Error::device(NAME, "a command is for 65536 blocks at most"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "halves, and 16 bits")]
        Ok([
            first as u32,
            (first >> 32) as u32,
            (count - 1) as u32 | flags,
        ])
    }

    fn transfer(
        &self,
        guest: &mut Guest,
        opcode: u8,
        buffer: &Buffer,
        extent: [u32; 3],
    ) -> Result<(Command, Data)> {
        // Both ways to name memory are used in turn, where the memory allows.
        let preferred = if self.controller.identity.sgl && self.next_tag % 2 == 1 {
            Method::Sgl
        } else {
            Method::Prp
        };
        let method = if data::fits_prp(buffer, self.controller.page) {
            preferred
        } else if self.controller.identity.sgl {
            Method::Sgl
        } else {
            return Err(Error::device(NAME, "the buffer cannot be named by pages"));
        };
        let data = Data::describe(guest, method, buffer, self.controller.page)?;
        let mut command = Command::new(opcode, self.namespace.id);
        command.data = Some((method, data.pointer));
        command.dwords[..3].copy_from_slice(&extent);
        Ok((command, data))
    }

    fn deallocate(&self, guest: &mut Guest, offset: u64, length: u64) -> Result<(Command, Data)> {
        const MAX_RANGES: usize = 256;
        let (first, count) = self.blocks(offset, length)?;
        let mut ranges = Vec::new();
        let mut done = 0;
        while done < count {
            let now = u32::try_from(count - done).unwrap_or(u32::MAX);
            ranges.extend(0u32.to_le_bytes());
            ranges.extend(now.to_le_bytes());
            ranges.extend((first + done).to_le_bytes());
            done += u64::from(now);
        }
        let number = ranges.len() / 16;
        if number > MAX_RANGES {
            return Err(Error::device(NAME, "a command has 256 ranges at most"));
        }
        let memory = guest.allocate(ranges.len() as u64, 4096)?;
        guest.label("nvme dataset management range");
        guest.write_block(memory, &ranges)?;
        let mut command = Command::new(opcode::DATASET_MANAGEMENT, self.namespace.id);
        command.data = Some((Method::Prp, [memory, 0]));
        command.dwords[0] = u32::try_from(number - 1).unwrap_or(0);
        command.dwords[1] = ATTRIBUTE_DEALLOCATE;
        Ok((command, Data::owned(memory)))
    }

    fn command(&self, guest: &mut Guest, request: &Request) -> Result<(Command, Data)> {
        match request {
            Request::Read { offset, buffer } => {
                let extent = self.extent(*offset, buffer.len(), 0)?;
                self.transfer(guest, opcode::READ, buffer, extent)
            }
            Request::Write {
                offset,
                buffer,
                fua,
            } => {
                let flags = if *fua { FORCE_UNIT_ACCESS } else { 0 };
                let extent = self.extent(*offset, buffer.len(), flags)?;
                self.transfer(guest, opcode::WRITE, buffer, extent)
            }
            Request::Flush => {
                let command = Command::new(opcode::FLUSH, self.namespace.id);
                Ok((command, Data::default()))
            }
            Request::Discard { offset, length } => self.deallocate(guest, *offset, *length),
            Request::WriteZeroes {
                offset,
                length,
                unmap,
            } => {
                let flags = if *unmap { DEALLOCATE } else { 0 };
                let mut command = Command::new(opcode::WRITE_ZEROES, self.namespace.id);
                let extent = self.extent(*offset, *length, flags)?;
                command.dwords[..3].copy_from_slice(&extent);
                Ok((command, Data::default()))
            }
        }
    }
}

impl Disk for Nvme {
    fn name(&self) -> &'static str {
        NAME
    }

    fn block_size(&self) -> u32 {
        self.namespace.block_size
    }

    fn size(&self) -> u64 {
        self.namespace.size()
    }

    fn features(&self) -> &Features {
        &self.features
    }

    fn submit(&mut self, guest: &mut Guest, queue: usize, request: &Request) -> Result<Tag> {
        let (command, data) = self.command(guest, request)?;
        let id = self.controller.submit(guest, queue, &command)?;
        let tag = Tag(self.next_tag);
        self.next_tag += 1;
        self.pending.insert((queue, id), (tag, data));
        Ok(tag)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Status)>> {
        let mut ended = Vec::new();
        for queue in 0..self.controller.queues() {
            for completion in self.controller.completions(guest, queue)? {
                let Some((tag, data)) = self.pending.remove(&(queue, completion.id)) else {
                    let what = format!("command {} ended but was not sent", completion.id);
                    return Err(Error::device(NAME, what));
                };
                data.free(guest);
                ended.push((tag, status::status(completion.status)));
            }
        }
        Ok(ended)
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        for (_, data) in std::mem::take(&mut self.pending).into_values() {
            data.free(guest);
        }
        self.controller.reset(guest)?;
        self.namespace = self.controller.namespace(guest)?;
        Ok(())
    }

    fn refresh_size(&mut self, guest: &mut Guest) -> Result<u64> {
        self.namespace = self.controller.namespace(guest)?;
        Ok(self.namespace.size())
    }
}
