//! The host adapter LSI MegaRAID SAS, of the generations 1078 and 2108: MFI frames.
//!
//! There is no public specification: registers and frames are those of the headers of the
//! drivers of Linux (`megaraid_sas.h`) and FreeBSD (`mfireg.h`), which LSI wrote.

use crate::block::Tag;
use crate::drivers::scsi::cdb::opcode;
use crate::drivers::scsi::{Command, Data, Outcome, ScsiDisk, ScsiTransport, Slots};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;
use crate::pci::Pci;

const NAME: &str = "megasas";

/// SAS 1078, and its successor.
const SAS1078: (u16, u16) = (0x1000, 0x0060);
const SAS2108: (u16, u16) = (0x1000, 0x0079);

/// Registers.
mod register {
    pub(super) const INBOUND_DOORBELL: u64 = 0x20;
    pub(super) const OUTBOUND_MASK: u64 = 0x34;
    pub(super) const INBOUND_QUEUE: u64 = 0x40;
    pub(super) const DOORBELL_CLEAR: u64 = 0xa0;
    pub(super) const SCRATCH_PAD: u64 = 0xb0;
}

/// The state of the firmware, in the scratch pad.
mod state {
    pub(super) const MASK: u64 = 0xf000_0000;
    pub(super) const READY: u64 = 0xb000_0000;
    pub(super) const FAULT: u64 = 0xf000_0000;
}

/// Back to the state ready, and all commands are given up.
const INIT_READY: u64 = 3;

/// Kinds of frames.
mod frame {
    pub(super) const INIT: u8 = 0;
    pub(super) const LD_READ: u8 = 1;
    pub(super) const LD_WRITE: u8 = 2;
    pub(super) const LD_SCSI_IO: u8 = 3;
}

/// Flags of a frame.
mod flag {
    pub(super) const SGL64: u16 = 2;
    pub(super) const SENSE64: u16 = 4;
    pub(super) const DIR_WRITE: u16 = 8;
    pub(super) const DIR_READ: u16 = 16;
    pub(super) const IEEE_SGL: u16 = 32;
}

/// The status in a frame until the adapter writes one.
const NO_STATUS: u8 = 0xff;

const DEPTH: u16 = 64;

/// A command's memory: the frame with its scatter list, then the sense data, and eight bytes
/// for commands without data.
const SLOT: u64 = 2048;
const SENSE: u64 = 1536;
const SENSE_LENGTH: u8 = 96;
const NOTHING: u64 = 1792;

/// A host adapter, as the way to its target 0.
#[derive(Debug)]
pub struct Megasas {
    base: u64,
    /// Whether it is of the second generation. That one gets scatter lists as IEEE has them, and
    /// reads and writes of 10 bytes as frames of their own.
    second: bool,
    /// The most pieces of a scatter list.
    pieces: usize,
    /// As many entries has the queue of replies; as many commands there may be.
    entries: u32,
    queue: u64,
    indices: u64,
    consumed: u32,
    slots: Slots,
}

impl Megasas {
    /// The disk of the first one of the first generation on the PCI bus.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or as [`ScsiDisk::open`].
    pub fn first(guest: &mut Guest) -> Result<ScsiDisk<Self>> {
        let pci = Pci::enumerate(guest)?;
        let base = pci.find(NAME, &[SAS1078])?.memory(NAME, 0)?;
        Self::open(guest, base, false)
    }

    /// The disk of the first one of the second generation.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or as [`ScsiDisk::open`].
    pub fn second(guest: &mut Guest) -> Result<ScsiDisk<Self>> {
        let pci = Pci::enumerate(guest)?;
        let base = pci.find(NAME, &[SAS2108])?.memory(NAME, 1)?;
        Self::open(guest, base, true)
    }

    fn open(guest: &mut Guest, base: u64, second: bool) -> Result<ScsiDisk<Self>> {
        let mut adapter = Self {
            base,
            second,
            pieces: 1,
            entries: 0,
            queue: 0,
            indices: guest.allocate(64, 64)?,
            consumed: 0,
            slots: Slots::default(),
        };
        adapter.set_up(guest)?;
        ScsiDisk::open(guest, adapter)
    }

    fn set(&self, guest: &mut Guest, register: u64, value: u64) -> Result<()> {
        guest.label("megasas register");
        guest.write(Width::L, self.base + register, value)
    }

    fn set_up(&mut self, guest: &mut Guest) -> Result<()> {
        /// In a frame, with its end: kind, number and length of the scatter list.
        const SGES: u64 = 0xff_0000;
        const COMMANDS: u64 = 0xffff;
        self.set(guest, register::INBOUND_DOORBELL, INIT_READY)?;
        let pad = self.base + register::SCRATCH_PAD;
        let firmware = guest.wait(NAME, "the state READY of the firmware", |guest| {
            let value = guest.read(Width::L, pad)?;
            match value & state::MASK {
                state::READY => Ok(Some(value)),
                state::FAULT => Err(Error::device(NAME, "the firmware has the state FAULT")),
                _ => Ok(None),
            }
        })?;
        let most = usize::from(if self.second { 90u8 } else { 120 });
        self.pieces = usize::try_from((firmware & SGES) >> 16)
            .unwrap_or(1)
            .clamp(1, most);
        self.entries = u32::try_from(firmware & COMMANDS).unwrap_or(1).max(1);
        if self.queue != 0 {
            guest.free(self.queue);
        }
        self.queue = guest.allocate(4 * u64::from(self.entries), 64)?;
        guest.fill(self.indices, 64, 0)?;
        self.consumed = 0;
        self.slots.renew(guest, DEPTH, SLOT)?;
        // All interrupts come, else there are no replies.
        self.set(guest, register::OUTBOUND_MASK, 0)?;
        self.init(guest)
    }

    fn send(&self, guest: &mut Guest, slot: u16, command: &Command) -> Result<()> {
        let frame = self.frame(slot, command)?;
        let at = self.slots.address(slot);
        guest.label("megasas frame");
        guest.write_block(at, &frame)?;
        self.set(guest, register::INBOUND_QUEUE, at)
    }

    /// Tells the firmware where the queue of replies is.
    fn init(&mut self, guest: &mut Guest) -> Result<()> {
        let slot = self.slots.take(NAME)?;
        let at = self.slots.address(slot);
        let information = at + 64;
        let mut bytes = vec![0; 4];
        bytes.extend(self.entries.to_le_bytes());
        for address in [self.queue, self.indices, self.indices + 4] {
            bytes.extend(address.to_le_bytes());
        }
        guest.label("megasas queue information");
        guest.write_block(information, &bytes)?;
        let mut frame = header(frame::INIT, slot, (0, 0), 0, 32);
        frame.extend(information.to_le_bytes());
        frame.resize(64, 0);
        guest.label("megasas init frame");
        guest.write_block(at, &frame)?;
        self.set(guest, register::INBOUND_QUEUE, at)?;
        let status = guest.wait(NAME, "the end of the frame INIT", |guest| {
            let status = guest.read(Width::B, at + 2)?;
            Ok((status != u64::from(NO_STATUS)).then_some(status))
        })?;
        if status != 0 {
            let what = format!("INIT: status {status:#04x}");
            return Err(Error::device(NAME, what));
        }
        // Whether it ends in the queue too depends on the firmware.
        self.consumed = self.producer(guest)?;
        self.set_consumer(guest)?;
        self.slots.give_back(slot);
        Ok(())
    }

    fn producer(&self, guest: &mut Guest) -> Result<u32> {
        let index = guest.read(Width::L, self.indices)?;
        match u32::try_from(index) {
            Ok(index) if index < self.entries => Ok(index),
            _ => Err(Error::device(
                NAME,
                format!("the queue's producer is {index}"),
            )),
        }
    }

    fn set_consumer(&self, guest: &mut Guest) -> Result<()> {
        guest.label("megasas queue index");
        guest.write(Width::L, self.indices + 4, self.consumed.into())
    }

    /// The scatter list of a frame.
    fn list(&self, slot: u16, data: &Data) -> Vec<u8> {
        // A frame without a list is refused, even if there are no data.
        let nothing = [(self.slots.address(slot) + NOTHING, 8)];
        let pieces = if data.pieces().is_empty() {
            &nothing
        } else {
            data.pieces()
        };
        let mut list = Vec::new();
        for (address, length) in pieces {
            list.extend(address.to_le_bytes());
            list.extend(length.to_le_bytes());
            if self.second {
                list.extend([0; 4]);
            }
        }
        list
    }

    fn frame(&self, slot: u16, command: &Command) -> Result<Vec<u8>> {
        let too_long = |what: String| Error::device(NAME, what);
        let pieces = command.data.pieces().len();
        if pieces > self.pieces || command.cdb.len() > 16 {
            let length = command.cdb.len();
            let what = format!("a command of {length} bytes with {pieces} pieces");
            return Err(too_long(what));
        }
        let length = u32::try_from(command.data.len());
        let length = length.map_err(|_| too_long("a transfer of 4 GiB".to_owned()))?;
        let mut flags = flag::SENSE64;
        flags |= if self.second {
            flag::IEEE_SGL
        } else {
            flag::SGL64
        };
        flags |= match &command.data {
            Data::None => 0,
            Data::In(_) => flag::DIR_READ,
            Data::Out(_) => flag::DIR_WRITE,
        };
        #[expect(clippy::cast_possible_truncation, reason = "there are no more pieces")]
        let count = pieces.max(1) as u8;
        let sense = self.slots.address(slot) + SENSE;
        let mut frame;
        if let Some((kind, lba, blocks)) = self.transfer(&command.cdb) {
            frame = header(kind, slot, (0, count), flags, blocks);
            frame.extend(sense.to_le_bytes());
            frame.extend(u64::from(lba).to_le_bytes());
        } else {
            #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
            let cdb_length = command.cdb.len() as u8;
            frame = header(frame::LD_SCSI_IO, slot, (cdb_length, count), flags, length);
            frame.extend(sense.to_le_bytes());
            frame.extend(&command.cdb);
            frame.resize(48, 0);
        }
        frame.extend(self.list(slot, &command.data));
        Ok(frame)
    }

    /// Kind, first block and number of blocks of a frame that is a transfer by itself.
    fn transfer(&self, cdb: &[u8]) -> Option<(u8, u32, u32)> {
        let kind = match cdb {
            [opcode::READ_10, 0, ..] => frame::LD_READ,
            [opcode::WRITE_10, 0, ..] => frame::LD_WRITE,
            _ => return None,
        };
        let lba = u32::from_be_bytes(cdb.get(2..6)?.try_into().ok()?);
        let blocks = u16::from_be_bytes(cdb.get(7..9)?.try_into().ok()?);
        self.second.then_some((kind, lba, blocks.into()))
    }

    fn outcome(&self, guest: &mut Guest, slot: u16) -> Result<Outcome> {
        const OK: u8 = 0;
        const SCSI_DONE_WITH_ERROR: u8 = 0x2d;
        let at = self.slots.address(slot);
        let header = guest.read_block(at, 4)?;
        let (sense_length, status) = (header[1].min(SENSE_LENGTH), header[3]);
        match header[2] {
            OK | SCSI_DONE_WITH_ERROR => {}
            code => {
                let why = status_words(code);
                return Ok(Outcome::Lost { why });
            }
        }
        let sense = if status == crate::drivers::scsi::sense::CHECK_CONDITION {
            guest.read_block(at + SENSE, sense_length.into())?
        } else {
            Vec::new()
        };
        Ok(Outcome::Ended { status, sense })
    }
}

/// The header of a frame: kind, command, lengths of command and scatter list.
fn header(kind: u8, slot: u16, (cdb, list): (u8, u8), flags: u16, length: u32) -> Vec<u8> {
    let mut bytes = vec![kind, SENSE_LENGTH, NO_STATUS, 0, 0, 0, cdb, list];
    bytes.extend(u64::from(slot).to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend(length.to_le_bytes());
    bytes
}

/// What the adapter says: `MFI_STAT_...`.
fn status_words(status: u8) -> String {
    let name = match status {
        0x01 => "INVALID_CMD",
        0x03 => "INVALID_PARAMETER",
        0x0c => "DEVICE_NOT_FOUND",
        0x19 => "LD_LBA_OUT_OF_RANGE",
        0x20 => "MEMORY_NOT_AVAILABLE",
        0x2e => "SCSI_IO_FAILED",
        0x2f => "SCSI_RESERVATION_CONFLICT",
        0x33 => "LD_OFFLINE",
        0x3c => "INVALID_SGL",
        NO_STATUS => return "the adapter wrote no status".to_owned(),
        _ => return format!("MFI status {status:#04x}"),
    };
    format!("MFI_STAT_{name}")
}

impl ScsiTransport for Megasas {
    fn name(&self) -> &'static str {
        NAME
    }

    fn depth(&self) -> usize {
        DEPTH.into()
    }

    fn longest(&self) -> u64 {
        8 << 20
    }

    fn start(&mut self, guest: &mut Guest, _queue: usize, command: &Command) -> Result<Tag> {
        let slot = self.slots.take(NAME)?;
        let sent = self.send(guest, slot, command);
        self.slots.sent(slot, sent)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Outcome)>> {
        let produced = self.producer(guest)?;
        let mut all = Vec::new();
        while self.consumed != produced {
            let entry = guest.read(Width::L, self.queue + 4 * u64::from(self.consumed))?;
            self.consumed = (self.consumed + 1) % self.entries;
            let (slot, tag) = self.slots.ended(NAME, entry)?;
            all.push((tag, self.outcome(guest, slot)?));
        }
        if !all.is_empty() {
            self.set_consumer(guest)?;
            self.set(guest, register::DOORBELL_CLEAR, 1)?;
        }
        Ok(all)
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        self.set_up(guest)
    }
}
