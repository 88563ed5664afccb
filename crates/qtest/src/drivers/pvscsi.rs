//! The paravirtual host adapter of VMware.
//!
//! There is no public specification: registers and structures are those of the header
//! `vmw_pvscsi.h`, which Linux and other systems have from VMware.

use crate::block::Tag;
use crate::drivers::scsi::{Command, Data, Outcome, ScsiDisk, ScsiTransport, Slots};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;
use crate::pci::Pci;

const NAME: &str = "pvscsi";
const ID: (u16, u16) = (0x15ad, 0x07c0);

/// Registers, from the start of the first BAR.
mod register {
    pub(super) const COMMAND: u64 = 0x0;
    pub(super) const COMMAND_DATA: u64 = 0x4;
    pub(super) const COMMAND_STATUS: u64 = 0x8;
    pub(super) const INTR_STATUS: u64 = 0x100c;
    pub(super) const KICK_NON_RW_IO: u64 = 0x3014;
    pub(super) const KICK_RW_IO: u64 = 0x4018;
}

/// What is written to the register for commands.
mod command {
    pub(super) const ADAPTER_RESET: u64 = 1;
    pub(super) const SETUP_RINGS: u64 = 3;
}

/// Flags of a request.
mod flag {
    pub(super) const WITH_SG_LIST: u32 = 1;
    pub(super) const DIR_NONE: u32 = 1 << 2;
    pub(super) const DIR_TO_HOST: u32 = 1 << 3;
    pub(super) const DIR_TO_DEVICE: u32 = 1 << 4;
}

/// Places in the page with the state of the rings.
mod state {
    pub(super) const REQUEST_PRODUCER: u64 = 0;
    pub(super) const COMPLETION_PRODUCER: u64 = 12;
    pub(super) const COMPLETION_CONSUMER: u64 = 16;
}

const PAGE: u64 = 4096;
const REQUEST: u64 = 128;
const COMPLETION: u64 = 32;

/// One page of requests. There are four times as many completions in a page.
const DEPTH: u16 = 32;
const COMPLETIONS: u32 = 128;

/// A command's memory: its sense data, and behind them its list of pieces.
const SLOT: u64 = 4096;
const SENSE: u32 = 96;
const LIST: u64 = 128;
const PIECES: usize = 128;

/// A host adapter, as the way to the unit 0 of its target 0.
#[derive(Debug)]
pub struct Pvscsi {
    base: u64,
    state: u64,
    requests: u64,
    completions: u64,
    produced: u32,
    consumed: u32,
    slots: Slots,
}

impl Pvscsi {
    /// The disk of the first one on the PCI bus.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or as [`ScsiDisk::open`].
    pub fn open(guest: &mut Guest) -> Result<ScsiDisk<Self>> {
        let pci = Pci::enumerate(guest)?;
        let base = pci.find(NAME, &[ID])?.memory(NAME, 0)?;
        let rings = guest.allocate(3 * PAGE, PAGE)?;
        let mut adapter = Self {
            base,
            state: rings,
            requests: rings + PAGE,
            completions: rings + 2 * PAGE,
            produced: 0,
            consumed: 0,
            slots: Slots::default(),
        };
        adapter.set_up(guest)?;
        ScsiDisk::open(guest, adapter)
    }

    fn set(&self, guest: &mut Guest, register: u64, value: u64) -> Result<()> {
        guest.label("pvscsi register");
        guest.write(Width::L, self.base + register, value)
    }

    fn set_up(&mut self, guest: &mut Guest) -> Result<()> {
        const ALL_RINGS: usize = 32;
        self.set(guest, register::COMMAND, command::ADAPTER_RESET)?;
        (self.produced, self.consumed) = (0, 0);
        self.slots.renew(guest, DEPTH, SLOT)?;
        guest.fill(self.state, 3 * PAGE, 0)?;
        // The number of pages of both rings, the page with their state, and the pages.
        let mut words = vec![1, 1];
        let mut pages = vec![self.state / PAGE];
        for ring in [self.requests, self.completions] {
            let mut all = vec![0; ALL_RINGS];
            all[0] = ring / PAGE;
            pages.extend(all);
        }
        for page in pages {
            words.extend([page & 0xffff_ffff, page >> 32]);
        }
        self.set(guest, register::COMMAND, command::SETUP_RINGS)?;
        for word in words {
            self.set(guest, register::COMMAND_DATA, word)?;
        }
        match guest.read(Width::L, self.base + register::COMMAND_STATUS)? {
            0 => Ok(()),
            status => Err(Error::device(
                NAME,
                format!("SETUP_RINGS: status {status:#x}"),
            )),
        }
    }

    /// The data's address, and whether that is one of a list of pieces.
    fn data(&self, guest: &mut Guest, slot: u16, data: &Data) -> Result<(u64, bool)> {
        match data.pieces() {
            [] => Ok((0, false)),
            [(address, _)] => Ok((*address, false)),
            pieces if pieces.len() > PIECES => {
                let what = format!("a buffer of {} pieces", pieces.len());
                Err(Error::device(NAME, what))
            }
            pieces => {
                let mut list = Vec::new();
                for (address, length) in pieces {
                    list.extend(address.to_le_bytes());
                    list.extend(length.to_le_bytes());
                    list.extend([0; 4]);
                }
                let at = self.slots.address(slot) + LIST;
                guest.label("pvscsi scatter list");
                guest.write_block(at, &list)?;
                Ok((at, true))
            }
        }
    }

    fn request(&mut self, guest: &mut Guest, slot: u16, command: &Command) -> Result<()> {
        const SIMPLE_QUEUE_TAG: u8 = 0x20;
        let (address, list) = self.data(guest, slot, &command.data)?;
        let mut flags = match &command.data {
            Data::None => flag::DIR_NONE,
            Data::In(_) => flag::DIR_TO_HOST,
            Data::Out(_) => flag::DIR_TO_DEVICE,
        };
        if list {
            flags |= flag::WITH_SG_LIST;
        }
        // The context must not be 0.
        let mut bytes = (u64::from(slot) + 1).to_le_bytes().to_vec();
        bytes.extend(address.to_le_bytes());
        bytes.extend(command.data.len().to_le_bytes());
        bytes.extend(self.slots.address(slot).to_le_bytes());
        bytes.extend(SENSE.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(&command.cdb);
        bytes.resize(56, 0);
        bytes.push(u8::try_from(command.cdb.len()).unwrap_or(u8::MAX));
        bytes.extend([0; 8]);
        bytes.push(SIMPLE_QUEUE_TAG);
        bytes.resize(128, 0);
        let place = u64::from(self.produced % u32::from(DEPTH));
        guest.label("pvscsi request");
        guest.write_block(self.requests + REQUEST * place, &bytes)?;
        self.produced = self.produced.wrapping_add(1);
        guest.label("pvscsi ring index");
        let at = self.state + state::REQUEST_PRODUCER;
        guest.write(Width::L, at, self.produced.into())?;
        let kick = if command.data.is_empty() {
            register::KICK_NON_RW_IO
        } else {
            register::KICK_RW_IO
        };
        self.set(guest, kick, 0)
    }

    fn completion(&mut self, guest: &mut Guest) -> Result<(Tag, Outcome)> {
        let place = u64::from(self.consumed % COMPLETIONS);
        let bytes = guest.read_block(self.completions + COMPLETION * place, COMPLETION)?;
        self.consumed = self.consumed.wrapping_add(1);
        let mut context = [0; 8];
        context.copy_from_slice(&bytes[..8]);
        // A request has the number of its slot and one, since 0 is no context.
        let slot = u64::from_le_bytes(context).wrapping_sub(1);
        let (slot, tag) = self.slots.ended(NAME, slot)?;
        let sense_length = u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
        let host_status = u16::from_le_bytes([bytes[20], bytes[21]]);
        if let Some(why) = host_words(host_status) {
            return Ok((tag, Outcome::Lost { why }));
        }
        let length = sense_length.min(SENSE);
        let sense = guest.read_block(self.slots.address(slot), length.into())?;
        let status = bytes[22];
        Ok((tag, Outcome::Ended { status, sense }))
    }
}

/// What the adapter says, nothing where the device's status counts: `enum HostBusAdapterStatus`.
fn host_words(status: u16) -> Option<String> {
    let name = match status {
        // Successes, and transfers that are shorter than the buffer.
        0x00 | 0x0a | 0x0b | 0x0c | 0x12 => return None,
        0x11 => "BTSTAT_SELTIMEO",
        0x13 => "BTSTAT_BUSFREE",
        0x14 => "BTSTAT_INVPHASE",
        0x17 => "BTSTAT_LUNMISMATCH",
        0x1b => "BTSTAT_SENSFAILED",
        0x1c => "BTSTAT_TAGREJECT",
        0x1d => "BTSTAT_BADMSG",
        0x20 => "BTSTAT_HAHARDWARE",
        0x21 => "BTSTAT_NORESPONSE",
        0x22 => "BTSTAT_SENTRST",
        0x23 => "BTSTAT_RECVRST",
        0x24 => "BTSTAT_DISCONNECT",
        0x25 => "BTSTAT_BUSRESET",
        0x26 => "BTSTAT_ABORTQUEUE",
        0x27 => "BTSTAT_HASOFTWARE",
        0x30 => "BTSTAT_HATIMEOUT",
        0x34 => "BTSTAT_SCSIPARITY",
        _ => return Some(format!("host status {status:#x}")),
    };
    Some(name.to_owned())
}

impl ScsiTransport for Pvscsi {
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
        if command.cdb.len() > 16 {
            let what = format!("a command of {} bytes", command.cdb.len());
            return Err(Error::device(NAME, what));
        }
        let slot = self.slots.take(NAME)?;
        let sent = self.request(guest, slot, command);
        self.slots.sent(slot, sent)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Outcome)>> {
        let at = self.state + state::COMPLETION_PRODUCER;
        #[expect(clippy::cast_possible_truncation, reason = "four bytes were read")]
        let produced = guest.read(Width::L, at)? as u32;
        if produced == self.consumed {
            return Ok(Vec::new());
        }
        if produced.wrapping_sub(self.consumed) > COMPLETIONS {
            let what = "the index of the completion ring went too far";
            return Err(Error::device(NAME, what));
        }
        let mut all = Vec::new();
        while self.consumed != produced {
            all.push(self.completion(guest)?);
        }
        guest.label("pvscsi ring index");
        let at = self.state + state::COMPLETION_CONSUMER;
        guest.write(Width::L, at, self.consumed.into())?;
        self.set(guest, register::INTR_STATUS, 1)?;
        Ok(all)
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        self.set_up(guest)
    }
}
