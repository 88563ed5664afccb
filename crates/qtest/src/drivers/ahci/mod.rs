//! AHCI: a port of a host bus adapter with a SATA disk or CD drive.
//!
//! Serial ATA AHCI 1.3.1.

mod packets;
mod port;

use std::collections::{BTreeMap, VecDeque};

use crate::block::{Disk, Features, Request, Status, Tag};
use crate::drivers::ata::{self, Identity, TaskFile, command};
use crate::drivers::scsi::ScsiDisk;
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};
use crate::op::Width;
use crate::pci::Pci;
use packets::Packets;
use port::Port;

const NAME: &str = "ahci";

/// Mass storage, serial ATA, AHCI 1.0.
const CLASS: u32 = 0x01_06_01;

/// BAR 5: the registers (section 2.1.11).
const BAR: usize = 5;

/// The number of command slots that ports of this driver use.
const SLOTS: u8 = 32;

/// Finds a disk on an adapter and sets it up.
///
/// # Errors
///
/// Fails if there is no adapter with a disk, or it does not answer.
pub fn open(guest: &mut Guest) -> Result<Box<dyn Disk>> {
    let port = find(guest, port::DISK)?;
    Ok(Box::new(Ahci::open(guest, port)?))
}

/// Finds a CD drive on an adapter and sets it up.
///
/// # Errors
///
/// Fails if there is no adapter with one, or it does not answer.
pub fn open_cd(guest: &mut Guest) -> Result<Box<dyn Disk>> {
    let port = find(guest, port::PACKETS)?;
    Ok(Box::new(ScsiDisk::open(guest, Packets::new(port))?))
}

/// The first port with what has this signature.
fn find(guest: &mut Guest, signature: u32) -> Result<Port> {
    let pci = Pci::enumerate(guest)?;
    let adapters = pci.functions.iter().filter(|f| f.class == CLASS);
    for adapter in adapters {
        let registers = adapter.memory(NAME, BAR)?;
        if let Some(port) = Port::find(guest, registers, signature)? {
            return Ok(port);
        }
    }
    Err(Error::device(NAME, "no adapter with a drive was found"))
}

/// How a command is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// Queued by the disk (NCQ), whose tag is the slot.
    Queued { fua: bool, lba: u64, sectors: u64 },
    /// Not queued: it is alone on its way.
    Alone(TaskFile),
}

/// A command that is ready to be sent.
#[derive(Debug)]
struct Prepared {
    tag: Tag,
    method: Method,
    /// Whether data go to the disk.
    write: bool,
    data: Buffer,
    /// Memory that is given back when it ends.
    owned: Vec<u64>,
}

/// A disk at a port.
#[derive(Debug)]
struct Ahci {
    port: Port,
    identity: Identity,
    features: Features,
    next_tag: u64,
    /// What is on its way, by slot.
    slots: BTreeMap<u8, Prepared>,
    /// What waits: queued commands and others are not sent together (section 1.6.2).
    waiting: VecDeque<Prepared>,
}

impl Ahci {
    fn open(guest: &mut Guest, port: Port) -> Result<Self> {
        let mut disk = Self {
            port,
            identity: Identity::default(),
            features: Features::default(),
            next_tag: 0,
            slots: BTreeMap::new(),
            waiting: VecDeque::new(),
        };
        disk.port.start(guest)?;
        disk.identify(guest)?;
        Ok(disk)
    }

    /// Asks the disk what it is, while nothing is on its way.
    fn identify(&mut self, guest: &mut Guest) -> Result<()> {
        let data = guest.buffer(&[ata::SECTOR], 512)?;
        let file = TaskFile::plain(command::IDENTIFY_DEVICE);
        let table = self.port.issue(guest, 0, &file, false, &data)?;
        let port = &self.port;
        let ended = guest.wait(NAME, "the end of a command", |guest| {
            let state = port.state(guest)?;
            Ok((state.failed || state.busy & 1 == 0).then_some(state))
        })?;
        if ended.failed {
            return Err(Error::device(NAME, "the disk is not identified"));
        }
        self.identity = Identity::parse(NAME, &guest.buffer_bytes(&data)?)?;
        guest.free_buffer(&data);
        guest.free(table);
        let identity = &self.identity;
        let most = if identity.wide { 1 << 16 } else { 256 };
        self.features = Features {
            flush: identity.flush || identity.flush_wide,
            fua: identity.queued.is_some() || identity.fua,
            discard: identity.trim,
            write_zeroes: false,
            scatter: true,
            depth: identity.queued.unwrap_or(1).into(),
            queues: 1,
            longest: most * u64::from(identity.sector_size),
            read_only: false,
        };
        Ok(())
    }

    fn transfer(&self, write: bool, fua: bool, offset: u64, length: u64) -> Result<Method> {
        let (lba, sectors) = self.identity.sectors(NAME, offset, length)?;
        if sectors > self.features.longest / u64::from(self.identity.sector_size) {
            return Err(Error::device(NAME, "a command cannot express the length"));
        }
        // All ways to carry it out are used in turn.
        let queued = self.identity.queued.is_some();
        let turn = self.next_tag % 4;
        if queued && (turn < 2 || fua && !self.identity.fua) {
            return Ok(Method::Queued { fua, lba, sectors });
        }
        let pio = turn == 3 && !fua && sectors <= 256;
        let code = match (write, self.identity.wide, pio) {
            (false, true, false) => command::READ_DMA_EXT,
            (false, true, true) => command::READ_SECTORS_EXT,
            (false, false, false) => command::READ_DMA,
            (false, false, true) => command::READ_SECTORS,
            (true, true, false) if fua && self.identity.fua => command::WRITE_DMA_FUA_EXT,
            (true, _, _) if fua => return Err(Error::device(NAME, "the disk has no FUA")),
            (true, true, false) => command::WRITE_DMA_EXT,
            (true, true, true) => command::WRITE_SECTORS_EXT,
            (true, false, false) => command::WRITE_DMA,
            (true, false, true) => command::WRITE_SECTORS,
        };
        Ok(Method::Alone(if self.identity.wide {
            TaskFile::wide(NAME, code, lba, sectors)?
        } else {
            TaskFile::narrow(NAME, code, lba, sectors)?
        }))
    }

    fn prepare(&self, guest: &mut Guest, request: &Request) -> Result<Prepared> {
        let mut prepared = Prepared {
            tag: Tag(self.next_tag),
            method: Method::Alone(TaskFile::plain(command::FLUSH_CACHE_EXT)),
            write: false,
            data: Buffer::default(),
            owned: Vec::new(),
        };
        match request {
            Request::Read { offset, buffer } => {
                prepared.method = self.transfer(false, false, *offset, buffer.len())?;
                prepared.data = buffer.clone();
            }
            Request::Write {
                offset,
                buffer,
                fua,
            } => {
                prepared.method = self.transfer(true, *fua, *offset, buffer.len())?;
                prepared.data = buffer.clone();
                prepared.write = true;
            }
            Request::Flush if self.identity.flush_wide => {}
            Request::Flush => {
                prepared.method = Method::Alone(TaskFile::plain(command::FLUSH_CACHE));
            }
            Request::Discard { offset, length } => {
                let (lba, sectors) = self.identity.sectors(NAME, *offset, *length)?;
                let ranges = ata::trim_ranges(NAME, lba, sectors)?;
                let length = u32::try_from(ranges.len()).unwrap_or(0);
                prepared.data = guest.buffer(&[length], 512)?;
                guest.label("ata trim ranges");
                guest.fill_buffer(&prepared.data, &ranges)?;
                let count = u16::try_from(length / ata::SECTOR).unwrap_or(0);
                prepared.method = Method::Alone(TaskFile::trim(count));
                prepared.write = true;
                prepared.owned = prepared.data.pieces.iter().map(|p| p.0).collect();
            }
            Request::WriteZeroes { .. } => {
                return Err(Error::device(NAME, "a disk has no command for zeroes"));
            }
        }
        Ok(prepared)
    }

    /// Sends what waits and may be sent.
    fn send(&mut self, guest: &mut Guest) -> Result<()> {
        let depth = self.identity.queued.unwrap_or(1).min(SLOTS);
        while let Some(first) = self.waiting.front() {
            let queued = |p: &Prepared| matches!(p.method, Method::Queued { .. });
            let together = queued(first) && self.slots.values().all(queued);
            let free = (0..depth).find(|slot| !self.slots.contains_key(slot));
            let Some(slot) = free.filter(|_| together || self.slots.is_empty()) else {
                break;
            };
            let Some(mut next) = self.waiting.pop_front() else {
                break;
            };
            let file = match next.method {
                Method::Queued { fua, lba, sectors } => {
                    self.port.activate(guest, slot)?;
                    TaskFile::queued(NAME, next.write, fua, slot, lba, sectors)?
                }
                Method::Alone(file) => file,
            };
            let table = self
                .port
                .issue(guest, slot, &file, next.write, &next.data)?;
            next.owned.push(table);
            self.slots.insert(slot, next);
        }
        Ok(())
    }

    /// Brings the port back after an error (section 6.2.2): what is on its way is lost.
    fn recover(&mut self, guest: &mut Guest, why: &str) -> Result<Vec<(Tag, Status)>> {
        let several = self.slots.len() > 1;
        // A disk stops queued commands until it is asked for its log or is reset; and that of QEMU
        // reports the error of a command that was not queued again with the next one that is.
        self.port.reset(guest)?;
        let mut ended = Vec::new();
        for prepared in std::mem::take(&mut self.slots).into_values() {
            prepared.owned.iter().for_each(|&memory| guest.free(memory));
            let why = if several {
                format!("one of the queued commands failed: {why}")
            } else {
                why.to_owned()
            };
            ended.push((prepared.tag, Status::Failed { why }));
        }
        Ok(ended)
    }
}

impl Disk for Ahci {
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
        let prepared = self.prepare(guest, request)?;
        self.next_tag += 1;
        let tag = prepared.tag;
        self.waiting.push_back(prepared);
        self.send(guest)?;
        Ok(tag)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Status)>> {
        let mut ended = Vec::new();
        if self.slots.is_empty() {
            return Ok(ended);
        }
        let state = self.port.state(guest)?;
        let done: Vec<u8> = self.slots.keys().copied().collect();
        for slot in done.into_iter().filter(|s| state.busy & 1 << s == 0) {
            if let Some(prepared) = self.slots.remove(&slot) {
                prepared.owned.iter().for_each(|&memory| guest.free(memory));
                ended.push((prepared.tag, Status::Done));
            }
        }
        if state.failed {
            let why = match ata::outcome(state.status | ata::status::ERROR, state.error) {
                Status::Failed { why } => why,
                Status::Done => String::new(),
            };
            ended.extend(self.recover(guest, &why)?);
        }
        self.send(guest)?;
        Ok(ended)
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        let slots = std::mem::take(&mut self.slots).into_values();
        let waiting = std::mem::take(&mut self.waiting);
        for prepared in slots.chain(waiting) {
            prepared.owned.iter().for_each(|&memory| guest.free(memory));
        }
        self.port.reset(guest)?;
        self.identify(guest)
    }

    fn refresh_size(&mut self, guest: &mut Guest) -> Result<u64> {
        if !self.slots.is_empty() {
            let what = "the disk is identified while nothing is on its way";
            return Err(Error::device(NAME, what));
        }
        self.identify(guest)?;
        Ok(self.size())
    }
}

/// Reads a register.
#[expect(clippy::cast_possible_truncation, reason = "four bytes were read")]
fn register(guest: &mut Guest, address: u64) -> Result<u32> {
    Ok(guest.read(Width::L, address)? as u32)
}

/// Writes a register.
fn set(guest: &mut Guest, label: &'static str, address: u64, value: u32) -> Result<()> {
    guest.label(label);
    guest.write(Width::L, address, value.into())
}
