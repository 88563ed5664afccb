//! A disk or CD drive of any transport.

use std::collections::BTreeMap;

use super::sense::{self, Sense};
use super::{Command, Data, Outcome, ScsiTransport, cdb};
use crate::block::{Disk, Features, Request, Status, Tag};
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};

/// A disk or CD drive behind a transport. A drive without a medium has a size of 0.
#[derive(Debug)]
pub struct ScsiDisk<T> {
    transport: T,
    /// Whether it is a CD drive.
    removable: bool,
    features: Features,
    block_size: u32,
    size: u64,
    /// The commands on their way whose data are the disk's own.
    owned: BTreeMap<Tag, Buffer>,
    /// The commands that ask for the sense data of others.
    senses: BTreeMap<Tag, (Tag, Buffer)>,
    /// What ended while something else was waited for.
    ended: Vec<(Tag, Outcome)>,
}

/// How often TEST UNIT READY is sent to a device that has something to say: a few unit
/// attentions are waiting after a reset.
const ATTENTIONS: usize = 16;

/// The type of a CD or DVD drive, SPC-4 6.6.2.
const CD_DRIVE: u8 = 5;

/// The size of a CD's blocks in bytes.
const CD_BLOCK: u32 = 2048;

/// The largest number of blocks of READ(10) and WRITE(10).
const BLOCKS_10: u64 = 0xffff;

/// Pages of vital product data, SBC-3 6.5.
const SUPPORTED_PAGES: u8 = 0x00;
const BLOCK_LIMITS: u8 = 0xb0;
const PROVISIONING: u8 = 0xb2;

/// The mode page with all pages, of which only the header is looked at.
const ALL_MODE_PAGES: u8 = 0x3f;

fn be<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..at + N).unwrap_or_default();
    field.iter().fold(0, |value, &b| value << 8 | u64::from(b))
}

impl<T: ScsiTransport> ScsiDisk<T> {
    /// Asks the device behind the transport what it is.
    ///
    /// # Errors
    ///
    /// Fails if there is no disk, it is not ready, or has no size.
    pub fn open(guest: &mut Guest, transport: T) -> Result<Self> {
        let mut disk = Self {
            transport,
            removable: false,
            features: Features::default(),
            block_size: 512,
            size: 0,
            owned: BTreeMap::new(),
            senses: BTreeMap::new(),
            ended: Vec::new(),
        };
        disk.identify(guest)?;
        Ok(disk)
    }

    /// What carries the commands.
    pub const fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Carries out one command, whatever the device says of it.
    ///
    /// # Errors
    ///
    /// Fails if it does not end in time, and as [`ScsiTransport::start`].
    pub fn execute(&mut self, guest: &mut Guest, command: &Command) -> Result<Outcome> {
        let name = self.transport.name();
        let tag = self.transport.start(guest, 0, command)?;
        guest.wait(name, "the end of a command", |guest| {
            let mut found = None;
            for (ended, outcome) in self.collect(guest)? {
                if ended == tag {
                    found = Some(outcome);
                } else {
                    self.ended.push((ended, outcome));
                }
            }
            Ok(found)
        })
    }

    /// Asks for data; what the device said if it refuses.
    ///
    /// # Errors
    ///
    /// As [`Self::execute`].
    pub fn ask(
        &mut self,
        guest: &mut Guest,
        cdb: Vec<u8>,
        length: u32,
    ) -> Result<Result<Vec<u8>, String>> {
        let buffer = guest.buffer(&[length], 64)?;
        let data = if length == 0 {
            Data::None
        } else {
            Data::In(buffer.clone())
        };
        let outcome = self.execute(guest, &Command { cdb, data })?;
        let bytes = guest.buffer_bytes(&buffer)?;
        guest.free_buffer(&buffer);
        Ok(match status(&outcome) {
            Status::Done => Ok(bytes),
            Status::Failed { why } => Err(why),
        })
    }

    /// What ended, with sense data where there are any.
    fn collect(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Outcome)>> {
        let mut all = std::mem::take(&mut self.ended);
        for (tag, outcome) in self.transport.poll(guest)? {
            if let Some((asker, buffer)) = self.senses.remove(&tag) {
                let sense = guest.buffer_bytes(&buffer)?;
                guest.free_buffer(&buffer);
                let status = sense::CHECK_CONDITION;
                all.push((asker, Outcome::Ended { status, sense }));
                continue;
            }
            if let Some(buffer) = self.owned.remove(&tag) {
                guest.free_buffer(&buffer);
            }
            if outcome == Outcome::CHECK_CONDITION {
                let buffer = guest.buffer(&[sense::LENGTH.into()], 64)?;
                let command = Command {
                    cdb: cdb::request_sense(),
                    data: Data::In(buffer.clone()),
                };
                let asks = self.transport.start(guest, 0, &command)?;
                self.senses.insert(asks, (tag, buffer));
            } else {
                all.push((tag, outcome));
            }
        }
        Ok(all)
    }

    /// Hears what the device has to say since it was reset or changed. Whether it is ready: a
    /// drive without a medium is not.
    fn settle(&mut self, guest: &mut Guest) -> Result<bool> {
        let command = Command {
            cdb: cdb::test_unit_ready(),
            data: Data::None,
        };
        let mut said = String::new();
        for _ in 0..ATTENTIONS {
            let outcome = self.execute(guest, &command)?;
            match status(&outcome) {
                Status::Done => return Ok(true),
                Status::Failed { why } => said = why,
            }
            match key(&outcome) {
                Some(sense::UNIT_ATTENTION) => {}
                Some(sense::NOT_READY) if self.removable => return Ok(false),
                _ => break,
            }
        }
        Err(Error::device(self.transport.name(), said))
    }

    fn identify(&mut self, guest: &mut Guest) -> Result<()> {
        let name = self.transport.name();
        let standard = self
            .ask(guest, cdb::inquiry(None, 36), 36)?
            .map_err(|why| Error::device(name, format!("INQUIRY: {why}")))?;
        // The qualifier and the type of the device, SPC-4 6.6.2; 0 is a disk that is there.
        self.removable = match standard[0] {
            0 => false,
            CD_DRIVE => true,
            other => {
                let what = format!("INQUIRY: the device is of type {other:#04x}, no disk");
                return Err(Error::device(name, what));
            }
        };
        let provisioned = self.capacity(guest)?;
        let mut features = Features {
            flush: true,
            scatter: self.transport.scatter(),
            depth: self.transport.depth(),
            queues: self.transport.queues(),
            longest: self.transport.longest(),
            ..Features::default()
        };
        if self.removable {
            features.flush = false;
            features.read_only = true;
        } else {
            self.mode(guest, &mut features)?;
            self.limits(guest, &mut features, provisioned)?;
        }
        let block = u64::from(self.block_size);
        if !self.transport.long_commands() {
            features.longest = features.longest.min(BLOCKS_10 * block);
        }
        features.longest = (features.longest - features.longest % block).max(block);
        self.features = features;
        Ok(())
    }

    /// Whether it may be written, and whether writes can be forced to the medium: SPC-4 7.5.5
    /// and SBC-3 6.4.1.
    fn mode(&mut self, guest: &mut Guest, features: &mut Features) -> Result<()> {
        const WRITE_PROTECTED: u8 = 1 << 7;
        const DPOFUA: u8 = 1 << 4;
        let header = self.ask(guest, cdb::mode_sense(ALL_MODE_PAGES, 192), 192)?;
        let flags = header.map_or(0, |bytes| bytes[2]);
        features.read_only = flags & WRITE_PROTECTED != 0;
        features.fua = flags & DPOFUA != 0;
        Ok(())
    }

    /// What can be unmapped: SBC-3 6.5.3 and 6.5.4.
    fn limits(
        &mut self,
        guest: &mut Guest,
        features: &mut Features,
        provisioned: bool,
    ) -> Result<()> {
        const LENGTH: u8 = 64;
        const LBPU: u8 = 1 << 7;
        let page = |page| cdb::inquiry(Some(page), LENGTH.into());
        let pages = self.ask(guest, page(SUPPORTED_PAGES), LENGTH.into())?;
        let pages = pages.unwrap_or_default();
        let count = usize::try_from(be::<2>(&pages, 2)).unwrap_or(0);
        let pages: Vec<u8> = pages.into_iter().skip(4).take(count).collect();
        if pages.contains(&BLOCK_LIMITS) {
            let limits = self.ask(guest, page(BLOCK_LIMITS), LENGTH.into())?;
            let limits = limits.unwrap_or_default();
            let longest = be::<4>(&limits, 8) * u64::from(self.block_size);
            if longest != 0 {
                features.longest = features.longest.min(longest);
            }
            features.write_zeroes = be::<8>(&limits, 36) != 0;
        }
        if provisioned && pages.contains(&PROVISIONING) {
            let provisioning = self.ask(guest, page(PROVISIONING), LENGTH.into())?;
            features.discard = provisioning.is_ok_and(|page| page[5] & LBPU != 0);
        }
        Ok(())
    }

    /// How large it is when it has settled; whether it can give blocks up.
    fn capacity(&mut self, guest: &mut Guest) -> Result<bool> {
        const LENGTH: u32 = 32;
        const LBPME: u8 = 1 << 7;
        if !self.settle(guest)? {
            (self.block_size, self.size) = (CD_BLOCK, 0);
            return Ok(false);
        }
        let command = cdb::read_capacity_16(LENGTH);
        let long = if command.len() <= self.transport.longest_command() {
            self.ask(guest, command, LENGTH)?
        } else {
            Err("the command is too long for the transport".to_owned())
        };
        let (last, block, provisioned) = if let Ok(bytes) = long {
            (
                be::<8>(&bytes, 0),
                be::<4>(&bytes, 8),
                bytes[14] & LBPME != 0,
            )
        } else {
            let name = self.transport.name();
            let bytes = self
                .ask(guest, cdb::read_capacity_10(), 8)?
                .map_err(|why| Error::device(name, format!("READ CAPACITY(10): {why}")))?;
            (be::<4>(&bytes, 0), be::<4>(&bytes, 4), false)
        };
        let sane = (256..=65536).contains(&block) && block.is_power_of_two();
        let size = last.checked_add(1).and_then(|n| n.checked_mul(block));
        let (true, Some(size)) = (sane, size) else {
            let what = format!("READ CAPACITY: blocks of {block} bytes, the last is {last}");
            return Err(Error::device(self.transport.name(), what));
        };
        self.block_size = u32::try_from(block).unwrap_or(512);
        self.size = size;
        Ok(provisioned)
    }

    /// A range in blocks.
    fn blocks(&self, offset: u64, length: u64) -> Result<(u64, u32)> {
        let block = u64::from(self.block_size);
        let blocks = u32::try_from(length / block).ok();
        match blocks {
            Some(blocks) if offset.is_multiple_of(block) && length.is_multiple_of(block) => {
                Ok((offset / block, blocks))
            }
            _ => {
                let what = format!("{length} bytes at {offset} are no range of SCSI blocks");
                Err(Error::device(self.transport.name(), what))
            }
        }
    }

    /// A transfer as a command of 10 or 16 bytes.
    fn transfer(&self, offset: u64, length: u64, write: bool, fua: bool) -> Result<Vec<u8>> {
        let (lba, blocks) = self.blocks(offset, length)?;
        let short = (u32::try_from(lba), u16::try_from(blocks));
        Ok(match short {
            (Ok(lba), Ok(blocks)) if !self.transport.long_commands() => {
                if write {
                    cdb::write_10(lba, blocks, fua)
                } else {
                    cdb::read_10(lba, blocks)
                }
            }
            _ if write => cdb::write_16(lba, blocks, fua),
            _ => cdb::read_16(lba, blocks),
        })
    }

    /// The command of a request, and a buffer of its own.
    fn command(&self, guest: &mut Guest, request: &Request) -> Result<(Command, Option<Buffer>)> {
        let (cdb, bytes) = match request {
            Request::Read { offset, buffer } => {
                let cdb = self.transfer(*offset, buffer.len(), false, false)?;
                let data = Data::In(buffer.clone());
                return Ok((Command { cdb, data }, None));
            }
            Request::Write {
                offset,
                buffer,
                fua,
            } => {
                let cdb = self.transfer(*offset, buffer.len(), true, *fua)?;
                let data = Data::Out(buffer.clone());
                return Ok((Command { cdb, data }, None));
            }
            Request::Flush => {
                let cdb = cdb::synchronize_cache_10(0, 0);
                let data = Data::None;
                return Ok((Command { cdb, data }, None));
            }
            Request::Discard { offset, length } => {
                let list = cdb::unmap_parameters(&[self.blocks(*offset, *length)?]);
                guest.label("scsi unmap parameters");
                (
                    cdb::unmap(u16::try_from(list.len()).unwrap_or(u16::MAX)),
                    list,
                )
            }
            Request::WriteZeroes {
                offset,
                length,
                unmap,
            } => {
                let (lba, blocks) = self.blocks(*offset, *length)?;
                guest.label("scsi write same block");
                let block = vec![0; self.block_size as usize];
                (cdb::write_same_16(lba, blocks, *unmap), block)
            }
        };
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let buffer = guest.buffer(&[length], 64)?;
        guest.fill_buffer(&buffer, &bytes)?;
        let data = Data::Out(buffer.clone());
        Ok((Command { cdb, data }, Some(buffer)))
    }
}

/// The sense key, if there is one.
fn key(outcome: &Outcome) -> Option<u8> {
    match outcome {
        Outcome::Ended { sense, .. } => Sense::decode(sense).map(|sense| sense.key),
        Outcome::Lost { .. } => None,
    }
}

/// What became of the request of a command.
fn status(outcome: &Outcome) -> Status {
    const CONDITION_MET: u8 = 4;
    let why = match outcome {
        Outcome::Ended {
            status: 0 | CONDITION_MET,
            ..
        } => return Status::Done,
        Outcome::Ended { status, sense } => match Sense::decode(sense) {
            Some(sense) if *status == sense::CHECK_CONDITION => sense.words(),
            _ => sense::status_words(*status),
        },
        Outcome::Lost { why } => why.clone(),
    };
    Status::Failed { why }
}

impl<T: ScsiTransport> Disk for ScsiDisk<T> {
    fn name(&self) -> &'static str {
        self.transport.name()
    }

    fn block_size(&self) -> u32 {
        self.block_size
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn features(&self) -> &Features {
        &self.features
    }

    fn submit(&mut self, guest: &mut Guest, queue: usize, request: &Request) -> Result<Tag> {
        let (command, owned) = self.command(guest, request)?;
        let started = self.transport.start(guest, queue, &command);
        match (&started, owned) {
            (Ok(tag), Some(buffer)) => drop(self.owned.insert(*tag, buffer)),
            (Err(_), Some(buffer)) => guest.free_buffer(&buffer),
            (_, None) => {}
        }
        started
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Status)>> {
        let ended = self.collect(guest)?;
        Ok(ended.iter().map(|(tag, o)| (*tag, status(o))).collect())
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        self.transport.reset(guest)?;
        let senses = std::mem::take(&mut self.senses).into_values();
        let buffers = senses.map(|(_, buffer)| buffer);
        for buffer in buffers.chain(std::mem::take(&mut self.owned).into_values()) {
            guest.free_buffer(&buffer);
        }
        self.ended.clear();
        self.identify(guest)
    }

    fn scsi(
        &mut self,
        guest: &mut Guest,
        cdb: Vec<u8>,
        length: u32,
    ) -> Result<Result<Vec<u8>, String>> {
        self.ask(guest, cdb, length)
    }

    fn refresh_size(&mut self, guest: &mut Guest) -> Result<u64> {
        // A device whose size changed says so to the next command.
        self.capacity(guest)?;
        Ok(self.size)
    }
}
