//! IDE: a disk or CD drive at the ports that PCs have for it, with or without a bus master.
//!
//! ATA8-ACS for commands, ATA/ATAPI-7 volume 2 for the protocols, and the Programming Interface
//! for Bus Master IDE Controller 1.0.

mod channel;
mod packets;

use crate::block::{Disk, Features, Request, Status, Tag};
use crate::drivers::ata::{self, Identity, TaskFile, command, status};
use crate::drivers::scsi::ScsiDisk;
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};
use crate::op::Width;
use crate::pci::{Bar, Pci};
use channel::Channel;
use packets::Packets;

const NAME: &str = "ide";

/// Mass storage, IDE, whatever the interface.
const CLASS: u32 = 0x01_01_00;
const CLASS_MASK: u32 = 0xff_ff_00;

/// The registers of the bus master.
const BAR: usize = 4;

/// The most sectors that the processor transfers, where there is another way.
const MOST_BY_PROCESSOR: u64 = 32;

/// Finds a disk and sets it up.
///
/// # Errors
///
/// Fails if there is none, or it does not answer.
pub fn open(guest: &mut Guest) -> Result<Box<dyn Disk>> {
    let channel = find(guest, command::IDENTIFY_DEVICE)?;
    Ok(Box::new(Ide::open(guest, channel)?))
}

/// Finds a CD drive and sets it up.
///
/// # Errors
///
/// Fails if there is none, or it does not answer.
pub fn open_cd(guest: &mut Guest) -> Result<Box<dyn Disk>> {
    let channel = find(guest, command::IDENTIFY_PACKET_DEVICE)?;
    Ok(Box::new(ScsiDisk::open(guest, Packets::new(channel))?))
}

/// The first place with what this command identifies.
fn find(guest: &mut Guest, command: u8) -> Result<Channel> {
    let pci = Pci::enumerate(guest)?;
    let controller = pci.find_class(NAME, CLASS, CLASS_MASK).ok();
    let master = match controller.map(|f| f.bars[BAR]) {
        Some(Some(Bar::Io { base, .. })) => Some(base),
        _ => None,
    };
    for channel in Channel::all(master) {
        if channel.identifies(guest, command)? {
            return Ok(channel);
        }
    }
    Err(Error::device(NAME, "no drive was found"))
}

/// How data get to the disk and from it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Transfer {
    /// There are none.
    None,
    /// By the bus master.
    Dma,
    /// By the processor, in pieces of so many bytes.
    Processor {
        write: bool,
        data: Buffer,
        /// In bytes.
        done: u64,
        step: u64,
        width: Width,
    },
}

/// What is on its way.
#[derive(Debug)]
struct Current {
    tag: Tag,
    transfer: Transfer,
    /// Memory that is given back when it ends.
    owned: Vec<u64>,
}

/// A disk at a channel.
#[derive(Debug)]
struct Ide {
    channel: Channel,
    identity: Identity,
    features: Features,
    next_tag: u64,
    current: Option<Current>,
}

impl Ide {
    fn open(guest: &mut Guest, channel: Channel) -> Result<Self> {
        let mut disk = Self {
            channel,
            identity: Identity::default(),
            features: Features::default(),
            next_tag: 0,
            current: None,
        };
        disk.identify(guest)?;
        Ok(disk)
    }

    /// Carries a command without an end of its own out, while nothing is on its way.
    fn execute(&mut self, guest: &mut Guest, file: &TaskFile, transfer: Transfer) -> Result<()> {
        self.channel.command(guest, file)?;
        self.current = Some(Current {
            tag: Tag(u64::MAX),
            transfer,
            owned: Vec::new(),
        });
        let ended = guest.wait(NAME, "the end of a command", |guest| {
            Ok(self.poll(guest)?.pop())
        })?;
        crate::block::done(NAME, &ended.1)
    }

    fn identify(&mut self, guest: &mut Guest) -> Result<()> {
        let data = guest.buffer(&[ata::SECTOR], 512)?;
        let file = TaskFile::plain(command::IDENTIFY_DEVICE);
        let transfer = Transfer::Processor {
            write: false,
            data: data.clone(),
            done: 0,
            step: ata::SECTOR.into(),
            width: Width::W,
        };
        self.execute(guest, &file, transfer)?;
        self.identity = Identity::parse(NAME, &guest.buffer_bytes(&data)?)?;
        guest.free_buffer(&data);
        let identity = &self.identity;
        let dma = self.channel.has_master();
        let most = if identity.wide && dma { 1 << 16 } else { 256 };
        self.features = Features {
            flush: identity.flush || identity.flush_wide,
            fua: identity.fua && dma,
            discard: identity.trim && dma,
            write_zeroes: false,
            scatter: true,
            depth: 1,
            queues: 1,
            longest: most * u64::from(identity.sector_size),
            read_only: false,
        };
        if identity.multiple > 0 {
            let mut file = TaskFile::plain(command::SET_MULTIPLE_MODE);
            file.count = identity.multiple.into();
            self.execute(guest, &file, Transfer::None)?;
        }
        Ok(())
    }

    /// Sends a command by which the bus master transfers data.
    fn by_master(
        &self,
        guest: &mut Guest,
        file: &TaskFile,
        write: bool,
        data: &Buffer,
    ) -> Result<Vec<u64>> {
        let table = self.channel.prepare_master(guest, write, data)?;
        self.channel.command(guest, file)?;
        self.channel.start_master(guest, write)?;
        Ok(vec![table])
    }

    fn transfer(
        &self,
        guest: &mut Guest,
        write: bool,
        fua: bool,
        offset: u64,
        data: &Buffer,
    ) -> Result<(Transfer, Vec<u64>)> {
        let (lba, sectors) = self.identity.sectors(NAME, offset, data.len())?;
        if fua && !self.features.fua {
            return Err(Error::device(NAME, "the disk has no FUA"));
        }
        // All ways to carry it out are used in turn.
        let dma = self.channel.has_master();
        let by_processor = !dma || self.next_tag % 4 >= 2 && sectors <= MOST_BY_PROCESSOR;
        let wide = self.identity.wide && (self.next_tag.is_multiple_of(2) || sectors > 256 || fua);
        if dma && (fua || !by_processor) {
            let code = match (write, wide) {
                (true, _) if fua => command::WRITE_DMA_FUA_EXT,
                (false, false) => command::READ_DMA,
                (false, true) => command::READ_DMA_EXT,
                (true, false) => command::WRITE_DMA,
                (true, true) => command::WRITE_DMA_EXT,
            };
            let file = task_file(code, wide, lba, sectors)?;
            let owned = self.by_master(guest, &file, write, data)?;
            return Ok((Transfer::Dma, owned));
        }
        let multiple = self.identity.multiple;
        let several = multiple > 0 && !self.next_tag.is_multiple_of(3);
        let code = match (write, wide, several) {
            (false, false, false) => command::READ_SECTORS,
            (false, true, false) => command::READ_SECTORS_EXT,
            (true, false, false) => command::WRITE_SECTORS,
            (true, true, false) => command::WRITE_SECTORS_EXT,
            (false, false, true) => command::READ_MULTIPLE,
            (false, true, true) => command::READ_MULTIPLE_EXT,
            (true, false, true) => command::WRITE_MULTIPLE,
            (true, true, true) => command::WRITE_MULTIPLE_EXT,
        };
        self.channel
            .command(guest, &task_file(code, wide, lba, sectors)?)?;
        let at_a_time = if several { multiple.into() } else { 1 };
        let transfer = Transfer::Processor {
            write,
            data: data.clone(),
            done: 0,
            step: at_a_time * u64::from(self.identity.sector_size),
            width: if several { Width::L } else { Width::W },
        };
        Ok((transfer, Vec::new()))
    }

    fn send(&self, guest: &mut Guest, request: &Request) -> Result<(Transfer, Vec<u64>)> {
        match request {
            Request::Read { offset, buffer } => self.transfer(guest, false, false, *offset, buffer),
            Request::Write {
                offset,
                buffer,
                fua,
            } => self.transfer(guest, true, *fua, *offset, buffer),
            Request::Flush => {
                let code = if self.identity.flush_wide {
                    command::FLUSH_CACHE_EXT
                } else {
                    command::FLUSH_CACHE
                };
                self.channel.command(guest, &TaskFile::plain(code))?;
                Ok((Transfer::None, Vec::new()))
            }
            Request::Discard { offset, length } => {
                let (lba, sectors) = self.identity.sectors(NAME, *offset, *length)?;
                let ranges = ata::trim_ranges(NAME, lba, sectors)?;
                let length = u32::try_from(ranges.len()).unwrap_or(0);
                let data = guest.buffer(&[length], 512)?;
                guest.label("ata trim ranges");
                guest.fill_buffer(&data, &ranges)?;
                let count = u16::try_from(length / ata::SECTOR).unwrap_or(0);
                let mut owned = self.by_master(guest, &TaskFile::trim(count), true, &data)?;
                owned.extend(data.pieces.iter().map(|p| p.0));
                Ok((Transfer::Dma, owned))
            }
            Request::WriteZeroes { .. } => {
                Err(Error::device(NAME, "a disk has no command for zeroes"))
            }
        }
    }

    /// What became of the command: its end, if it has ended.
    fn progress(&self, guest: &mut Guest, transfer: &mut Transfer) -> Result<Option<Status>> {
        if *transfer == Transfer::Dma && !self.channel.master_ended(guest)? {
            return Ok(None);
        }
        let state = self.channel.status(guest)?;
        if state & status::BUSY != 0 {
            return Ok(None);
        }
        if state & (status::ERROR | status::FAULT) != 0 {
            if *transfer == Transfer::Dma {
                self.channel.stop_master(guest)?;
            }
            let error = self.channel.error(guest)?;
            return Ok(Some(ata::outcome(state, error)));
        }
        let Transfer::Processor {
            write,
            data,
            done,
            step,
            width,
        } = transfer
        else {
            if *transfer == Transfer::Dma {
                self.channel.stop_master(guest)?;
            }
            return Ok(Some(Status::Done));
        };
        if *done == data.len() {
            return Ok(Some(Status::Done));
        }
        if state & status::DATA_REQUEST == 0 {
            return Ok(None);
        }
        let now = (*step).min(data.len() - *done);
        let part = data.part(*done, now);
        if *write {
            let bytes = guest.buffer_bytes(&part)?;
            self.channel.send_data(guest, *width, &bytes)?;
        } else {
            let bytes = self.channel.take_data(guest, *width, now)?;
            guest.label("data");
            guest.fill_buffer(&part, &bytes)?;
        }
        *done += now;
        let read_all = !*write && *done == data.len();
        Ok(read_all.then_some(Status::Done))
    }
}

fn task_file(code: u8, wide: bool, lba: u64, sectors: u64) -> Result<TaskFile> {
    if wide {
        TaskFile::wide(NAME, code, lba, sectors)
    } else {
        TaskFile::narrow(NAME, code, lba, sectors)
    }
}

impl Disk for Ide {
    fn name(&self) -> &'static str {
        NAME
    }

    fn block_size(&self) -> u32 {
        self.identity.sector_size
    }

    fn size(&self) -> u64 {
        self.identity.size()
    }

    fn features(&self) -> &Features {
        &self.features
    }

    fn submit(&mut self, guest: &mut Guest, _queue: usize, request: &Request) -> Result<Tag> {
        if self.current.is_some() {
            return Err(Error::device(NAME, "one request at a time"));
        }
        let (transfer, owned) = self.send(guest, request)?;
        let tag = Tag(self.next_tag);
        self.next_tag += 1;
        self.current = Some(Current {
            tag,
            transfer,
            owned,
        });
        Ok(tag)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Status)>> {
        let Some(mut current) = self.current.take() else {
            return Ok(Vec::new());
        };
        match self.progress(guest, &mut current.transfer)? {
            Some(status) => {
                current.owned.iter().for_each(|&memory| guest.free(memory));
                Ok(vec![(current.tag, status)])
            }
            None => {
                self.current = Some(current);
                Ok(Vec::new())
            }
        }
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        if let Some(current) = self.current.take() {
            current.owned.iter().for_each(|&memory| guest.free(memory));
        }
        self.channel.reset(guest)?;
        self.identify(guest)
    }

    fn refresh_size(&mut self, guest: &mut Guest) -> Result<u64> {
        if self.current.is_some() {
            return Err(Error::device(NAME, "one request at a time"));
        }
        self.identify(guest)?;
        Ok(self.size())
    }
}
