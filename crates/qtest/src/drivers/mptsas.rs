//! The host adapter LSI SAS 1068: Fusion-MPT messages.
//!
//! Fusion-MPT Message Passing Interface Specification 1.5; names are those of its header
//! `mpi.h`.

use crate::block::Tag;
use crate::drivers::scsi::{Command, Data, Outcome, ScsiDisk, ScsiTransport, Slots};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;
use crate::pci::Pci;

const NAME: &str = "mptsas";
const SAS1068: (u16, u16) = (0x1000, 0x0054);

/// Registers, from the start of the second BAR.
mod register {
    pub(super) const DOORBELL: u64 = 0x00;
    pub(super) const INTERRUPT_STATUS: u64 = 0x30;
    pub(super) const REQUEST_FIFO: u64 = 0x40;
    pub(super) const REPLY_FIFO: u64 = 0x44;
}

/// What messages are about; the last two are written to the doorbell.
mod function {
    pub(super) const SCSI_IO_REQUEST: u8 = 0x00;
    pub(super) const IOC_INIT: u8 = 0x02;
    pub(super) const IOC_FACTS: u8 = 0x03;
    pub(super) const PORT_FACTS: u8 = 0x05;
    pub(super) const PORT_ENABLE: u8 = 0x06;
    pub(super) const IOC_MESSAGE_UNIT_RESET: u64 = 0x40;
    pub(super) const HANDSHAKE: u64 = 0x42;
}

/// The state of the adapter, in the doorbell.
mod state {
    pub(super) const MASK: u64 = 0xf000_0000;
    pub(super) const READY: u64 = 0x1000_0000;
    pub(super) const OPERATIONAL: u64 = 0x2000_0000;
    pub(super) const FAULT: u64 = 0x4000_0000;
}

/// Flags of an element of a scatter list.
mod sge {
    pub(super) const SIMPLE: u32 = 0x1000_0000;
    pub(super) const CHAIN: u32 = 0x3000_0000;
    pub(super) const WIDE: u32 = 0x0200_0000;
    pub(super) const TO_DEVICE: u32 = 0x0400_0000;
    /// The last of its part of the list.
    pub(super) const LAST: u32 = 0x8000_0000;
    /// The last of all.
    pub(super) const END: u32 = 0xc100_0000;
    pub(super) const LENGTH: u32 = 0x00ff_ffff;
    /// In bytes.
    pub(super) const SIZE: usize = 12;
}

/// The interrupt status says that the doorbell has something.
const DOORBELL_INTERRUPT: u64 = 1;

/// What the FIFO of replies has if it has none.
const NO_REPLY: u64 = 0xffff_ffff;

const DEPTH: u16 = 64;

/// A command's memory: the request, the rest of its scatter list, and the sense data.
const SLOT: u64 = 2048;
const CHAIN: u64 = 128;
const SENSE: u64 = 1792;
const SENSE_LENGTH: u8 = 96;

/// So many elements are in a request of 128 bytes, if there are more than that behind it; and
/// so many in all.
const IN_REQUEST: usize = 5;
const ELEMENTS: usize = IN_REQUEST + 128;

/// In bytes.
const REQUEST_HEADER: usize = 48;
const REPLY: u64 = 128;

/// The number of a message that is no command.
const OTHER: u32 = 0xffff;

/// A host adapter, as the way to its target 0.
#[derive(Debug)]
pub struct Mptsas {
    base: u64,
    replies: u64,
    slots: Slots,
}

impl Mptsas {
    /// The disk of the first one on the PCI bus.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or as [`ScsiDisk::open`].
    pub fn open(guest: &mut Guest) -> Result<ScsiDisk<Self>> {
        let pci = Pci::enumerate(guest)?;
        let base = pci.find(NAME, &[SAS1068])?.memory(NAME, 1)?;
        let replies = guest.allocate(REPLY * u64::from(DEPTH), REPLY)?;
        let slots = Slots::default();
        let mut adapter = Self {
            base,
            replies,
            slots,
        };
        adapter.set_up(guest)?;
        ScsiDisk::open(guest, adapter)
    }

    fn set(&self, guest: &mut Guest, register: u64, value: u64) -> Result<()> {
        guest.label("mptsas register");
        guest.write(Width::L, self.base + register, value)
    }

    fn wait_state(&self, guest: &mut Guest, wanted: u64, what: &str) -> Result<()> {
        let doorbell = self.base + register::DOORBELL;
        guest.wait(NAME, what, |guest| {
            let value = guest.read(Width::L, doorbell)?;
            match value & state::MASK {
                now if now == wanted => Ok(Some(())),
                state::FAULT => Err(fault(value)),
                _ => Ok(None),
            }
        })
    }

    fn set_up(&mut self, guest: &mut Guest) -> Result<()> {
        const WHO_INIT_HOST_DRIVER: u8 = 4;
        let reset = function::IOC_MESSAGE_UNIT_RESET << 24;
        self.set(guest, register::DOORBELL, reset)?;
        self.wait_state(guest, state::READY, "the state READY")?;
        self.slots.renew(guest, DEPTH, SLOT)?;

        self.handshake(guest, &message(function::IOC_FACTS, 12))?;
        let mut init = message(function::IOC_INIT, 44);
        init[0] = WHO_INIT_HOST_DRIVER;
        // Eight devices on one bus, and frames for replies of this length.
        (init[5], init[6]) = (8, 1);
        init[12..14].copy_from_slice(&[REPLY.to_le_bytes()[0], 0]);
        init[40..42].copy_from_slice(&[5, 1]);
        self.handshake(guest, &init)?;
        self.wait_state(guest, state::OPERATIONAL, "the state OPERATIONAL")?;
        self.handshake(guest, &message(function::PORT_FACTS, 12))?;
        for frame in 0..u64::from(DEPTH) {
            self.set(guest, register::REPLY_FIFO, self.replies + REPLY * frame)?;
        }
        self.enable_port(guest)
    }

    fn enable_port(&mut self, guest: &mut Guest) -> Result<()> {
        let slot = self.slots.take(NAME)?;
        let at = self.slots.address(slot);
        guest.label("mptsas message");
        guest.write_block(at, &message(function::PORT_ENABLE, 12))?;
        self.set(guest, register::REQUEST_FIFO, at)?;
        let reply = guest.wait(NAME, "the reply to PORT_ENABLE", |guest| {
            let value = guest.read(Width::L, self.base + register::REPLY_FIFO)?;
            Ok((value != NO_REPLY).then_some(value))
        })?;
        let bytes = self.reply(guest, reply)?;
        self.slots.give_back(slot);
        done("PORT_ENABLE", &bytes)
    }

    /// Sends a message through the doorbell, word by word, and reads the reply.
    fn handshake(&self, guest: &mut Guest, message: &[u8]) -> Result<Vec<u8>> {
        let words = message.len() as u64 / 4;
        let start = function::HANDSHAKE << 24 | words << 16;
        self.set(guest, register::DOORBELL, start)?;
        self.wait_doorbell(guest)?;
        self.set(guest, register::INTERRUPT_STATUS, 0)?;
        for word in message.chunks_exact(4) {
            let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            guest.label("mptsas message word");
            guest.write(Width::L, self.base + register::DOORBELL, value.into())?;
        }
        let mut reply = Vec::new();
        let mut length = 4;
        while reply.len() < length {
            self.wait_doorbell(guest)?;
            let half = guest.read(Width::L, self.base + register::DOORBELL)?;
            reply.extend(&half.to_le_bytes()[..2]);
            self.set(guest, register::INTERRUPT_STATUS, 0)?;
            if reply.len() == 4 {
                // The length in words is in the third byte.
                length = 4 * usize::from(reply[2]).max(1);
            }
        }
        done("a message through the doorbell", &reply)?;
        Ok(reply)
    }

    fn wait_doorbell(&self, guest: &mut Guest) -> Result<()> {
        let status = self.base + register::INTERRUPT_STATUS;
        guest.wait(NAME, "an interrupt of the doorbell", |guest| {
            let value = guest.read(Width::L, status)?;
            Ok((value & DOORBELL_INTERRUPT != 0).then_some(()))
        })
    }

    /// Reads a reply from the guest's memory, and gives the memory back to the adapter.
    fn reply(&self, guest: &mut Guest, value: u64) -> Result<Vec<u8>> {
        let address = value << 1 & 0xffff_ffff;
        let end = self.replies + REPLY * u64::from(DEPTH);
        if !(self.replies..end).contains(&address) {
            let what = format!("a reply at {address:#x}, where no frame for it is");
            return Err(Error::device(NAME, what));
        }
        let bytes = guest.read_block(address, 36)?;
        self.set(guest, register::REPLY_FIFO, address)?;
        Ok(bytes)
    }

    fn request(&self, guest: &mut Guest, slot: u16, command: &Command) -> Result<()> {
        const READ: u32 = 0x0200_0000;
        const WRITE: u32 = 0x0100_0000;
        let at = self.slots.address(slot);
        let pieces = command.data.pieces();
        let lengths = pieces.iter().map(|(_, length)| *length);
        let longest = lengths.max().unwrap_or(0);
        let cdb = command.cdb.len();
        if pieces.len() > ELEMENTS || longest > sge::LENGTH || cdb > 16 {
            let pieces = pieces.len();
            let what = format!("a command of {cdb} bytes with {pieces} pieces up to {longest}");
            return Err(Error::device(NAME, what));
        }
        let control = match command.data {
            Data::None => 0,
            Data::In(_) => READ,
            Data::Out(_) => WRITE,
        };
        let elements = elements(&command.data);
        let chained = elements.len() > IN_REQUEST + 1;
        let chain_offset = REQUEST_HEADER + sge::SIZE * IN_REQUEST;
        let mut bytes = vec![0; 2];
        #[expect(clippy::cast_possible_truncation, reason = "both are less than 256")]
        bytes.extend([
            if chained { chain_offset as u8 / 4 } else { 0 },
            function::SCSI_IO_REQUEST,
            cdb as u8,
            SENSE_LENGTH,
            0,
            0,
        ]);
        bytes.extend(u32::from(slot).to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(control.to_le_bytes());
        bytes.extend(&command.cdb);
        bytes.resize(40, 0);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "as long as the pieces allow"
        )]
        let length = command.data.len() as u32;
        bytes.extend(length.to_le_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "the memory is below 4 GiB")]
        let sense = (at + SENSE) as u32;
        bytes.extend(sense.to_le_bytes());
        if chained {
            let (mut now, later) = (elements, IN_REQUEST);
            let rest = now.split_off(later);
            if let Some((flags, _)) = now.last_mut() {
                *flags |= sge::LAST;
            }
            let rest = encode(&rest);
            now.push((sge::CHAIN | sge::WIDE | rest.len() as u32, at + CHAIN));
            guest.label("mptsas scatter list");
            guest.write_block(at + CHAIN, &rest)?;
            bytes.extend(encode(&now));
        } else {
            bytes.extend(encode(&elements));
        }
        guest.label("mptsas request");
        guest.write_block(at, &bytes)?;
        self.set(guest, register::REQUEST_FIFO, at)
    }

    /// What an entry of the FIFO of replies means.
    fn ended(&mut self, guest: &mut Guest, value: u64) -> Result<(Tag, Outcome)> {
        const ADDRESS: u64 = 1 << 31;
        const SUCCESS: u16 = 0;
        const RECOVERED: u16 = 0x40;
        const UNDERRUN: u16 = 0x45;
        const AUTOSENSE_VALID: u8 = 1;
        if value & ADDRESS == 0 {
            let (_, tag) = self.slots.ended(NAME, value)?;
            return Ok((tag, Outcome::GOOD));
        }
        let bytes = self.reply(guest, value)?;
        let context = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let (slot, tag) = self.slots.ended(NAME, context.into())?;
        let code = u16::from_le_bytes([bytes[14], bytes[15]]);
        if !matches!(code, SUCCESS | RECOVERED | UNDERRUN) {
            let why = status_words(code);
            return Ok((tag, Outcome::Lost { why }));
        }
        let sense = if bytes[13] & AUTOSENSE_VALID != 0 {
            let count = u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
            let count = count.min(SENSE_LENGTH.into());
            guest.read_block(self.slots.address(slot) + SENSE, count.into())?
        } else {
            Vec::new()
        };
        let status = bytes[12];
        Ok((tag, Outcome::Ended { status, sense }))
    }
}

/// A message of `length` bytes, with nothing in it but what it is about.
fn message(function: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[3] = function;
    bytes[8..12].copy_from_slice(&OTHER.to_le_bytes());
    bytes
}

/// Flags with the length, and the address, of each element.
fn elements(data: &Data) -> Vec<(u32, u64)> {
    let direction = if data.is_in() { 0 } else { sge::TO_DEVICE };
    let flags = sge::SIMPLE | sge::WIDE | direction;
    let pieces = data.pieces();
    let mut all: Vec<(u32, u64)> = pieces.iter().map(|(at, n)| (flags | n, *at)).collect();
    if all.is_empty() {
        // A list has at least an end.
        all.push((flags, 0));
    }
    if let Some((flags, _)) = all.last_mut() {
        *flags |= sge::END;
    }
    all
}

fn encode(elements: &[(u32, u64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (flags, address) in elements {
        bytes.extend(flags.to_le_bytes());
        bytes.extend(address.to_le_bytes());
    }
    bytes
}

/// The adapter has stopped; why is in the lower half of the doorbell.
fn fault(doorbell: u64) -> Error {
    let code = doorbell & 0xffff;
    Error::device(
        NAME,
        format!("the adapter has the state FAULT, code {code:#x}"),
    )
}

/// The status in a reply, which is at the same place in all.
fn done(what: &str, reply: &[u8]) -> Result<()> {
    let code = match reply {
        [_, _, _, _, _, _, _, _, _, _, _, _, _, _, low, high, ..] => {
            u16::from_le_bytes([*low, *high])
        }
        _ => {
            return Err(Error::device(
                NAME,
                format!("{what}: a reply that is too short"),
            ));
        }
    };
    if code == 0 {
        return Ok(());
    }
    let words = status_words(code);
    Err(Error::device(NAME, format!("{what}: {words}")))
}

/// What a status is called: chapter 4 of the specification.
fn status_words(code: u16) -> String {
    let name = match code {
        0x01 => "INVALID_FUNCTION",
        0x02 => "BUSY",
        0x03 => "INVALID_SGL",
        0x04 => "INTERNAL_ERROR",
        0x06 => "INSUFFICIENT_RESOURCES",
        0x07 => "INVALID_FIELD",
        0x08 => "INVALID_STATE",
        0x41 => "SCSI_INVALID_BUS",
        0x42 => "SCSI_INVALID_TARGETID",
        0x43 => "SCSI_DEVICE_NOT_THERE",
        0x44 => "SCSI_DATA_OVERRUN",
        0x46 => "SCSI_IO_DATA_ERROR",
        0x47 => "SCSI_PROTOCOL_ERROR",
        0x48 => "SCSI_TASK_TERMINATED",
        0x49 => "SCSI_RESIDUAL_MISMATCH",
        0x4b => "SCSI_IOC_TERMINATED",
        0x4c => "SCSI_EXT_TERMINATED",
        _ => return format!("IOC status {code:#06x}"),
    };
    format!("MPI_IOCSTATUS_{name}")
}

impl ScsiTransport for Mptsas {
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
        let sent = self.request(guest, slot, command);
        self.slots.sent(slot, sent)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Outcome)>> {
        let mut all = Vec::new();
        loop {
            let value = guest.read(Width::L, self.base + register::REPLY_FIFO)?;
            if value == NO_REPLY {
                break;
            }
            all.push(self.ended(guest, value)?);
        }
        if all.is_empty() {
            // An adapter that has stopped replies to nothing.
            let doorbell = guest.read(Width::L, self.base + register::DOORBELL)?;
            if doorbell & state::MASK == state::FAULT {
                return Err(fault(doorbell));
            }
        }
        Ok(all)
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        self.set_up(guest)
    }
}
