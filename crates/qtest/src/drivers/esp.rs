//! The host adapters AMD Am53C974 and Tekram DC-390: an ESP with a DMA engine on the PCI bus.
//!
//! Am53C974 PCscsi Technical Manual, chapters 4 (DMA engine) and 5 (SCSI registers).

use crate::block::Tag;
use crate::drivers::scsi::{Command, Data, Outcome, ScsiDisk, ScsiTransport};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;
use crate::pci::Pci;

const NAME: &str = "am53c974";
const ID: (u16, u16) = (0x1022, 0x2020);

/// Registers, as ports from the first one.
mod register {
    pub(super) const COUNT_LOW: u16 = 0x00;
    pub(super) const COUNT_MIDDLE: u16 = 0x04;
    pub(super) const FIFO: u16 = 0x08;
    pub(super) const COMMAND: u16 = 0x0c;
    /// Read: the status. Written: the target.
    pub(super) const STATUS: u16 = 0x10;
    /// Read: the interrupt. Written: how long a selection may take.
    pub(super) const INTERRUPT: u16 = 0x14;
    pub(super) const CONTROL_1: u16 = 0x20;
    pub(super) const CONTROL_2: u16 = 0x2c;
    pub(super) const COUNT_HIGH: u16 = 0x38;
    pub(super) const DMA_COMMAND: u16 = 0x40;
    pub(super) const DMA_COUNT: u16 = 0x44;
    pub(super) const DMA_ADDRESS: u16 = 0x48;
}

/// Commands of the SCSI part: section 5.4.
mod command {
    pub(super) const NOP: u32 = 0x00;
    pub(super) const CLEAR_FIFO: u32 = 0x01;
    pub(super) const RESET_DEVICE: u32 = 0x02;
    pub(super) const RESET_BUS: u32 = 0x03;
    pub(super) const TRANSFER: u32 = 0x10;
    pub(super) const COMMAND_COMPLETE_STEPS: u32 = 0x11;
    pub(super) const MESSAGE_ACCEPTED: u32 = 0x12;
    pub(super) const SELECT_WITH_ATN: u32 = 0x42;
    /// With the DMA engine.
    pub(super) const DMA: u32 = 0x80;
}

/// Commands of the DMA engine: section 4.3.
mod dma {
    pub(super) const IDLE: u32 = 0;
    pub(super) const START: u32 = 3;
    pub(super) const TO_MEMORY: u32 = 0x80;
}

/// Phases of the bus, in the status.
mod phase {
    pub(super) const MASK: u32 = 7;
    pub(super) const DATA_OUT: u32 = 0;
    pub(super) const DATA_IN: u32 = 1;
    pub(super) const STATUS: u32 = 3;
    pub(super) const MESSAGE_IN: u32 = 7;
}

/// The status says that there is an interrupt.
const INTERRUPTED: u32 = 0x80;

/// Interrupts: the target went away, and the command was none.
const DISCONNECTED: u32 = 0x20;
const ILLEGAL_COMMAND: u32 = 0x40;

/// The most that one transfer moves, in bytes: the counter has 24 bits.
const LONGEST_TRANSFER: u64 = 8 << 20;

/// A command on its way.
#[derive(Debug)]
struct Running {
    tag: Tag,
    data: Data,
    /// How much was transferred, in bytes.
    done: u64,
    /// What the target said.
    status: Option<u8>,
}

/// A host adapter, as the way to its target 0.
#[derive(Debug)]
pub struct Esp {
    base: u16,
    /// Memory for the message and the command.
    memory: u64,
    running: Option<Running>,
    next: u64,
}

impl Esp {
    /// The disk of the first one on the PCI bus.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or as [`ScsiDisk::open`].
    pub fn open(guest: &mut Guest) -> Result<ScsiDisk<Self>> {
        let pci = Pci::enumerate(guest)?;
        let base = pci.find(NAME, &[ID])?.io(NAME, 0)?;
        let mut adapter = Self {
            base,
            memory: guest.allocate(64, 64)?,
            running: None,
            next: 0,
        };
        adapter.set_up(guest)?;
        ScsiDisk::open(guest, adapter)
    }

    fn set(&self, guest: &mut Guest, register: u16, value: u32) -> Result<()> {
        guest.label("am53c974 register");
        guest.port_out(Width::L, self.base + register, value)
    }

    fn get(&self, guest: &mut Guest, register: u16) -> Result<u32> {
        guest.port_in(Width::L, self.base + register)
    }

    fn set_up(&mut self, guest: &mut Guest) -> Result<()> {
        const OWN_ID: u32 = 7;
        const SELECTION_TIMEOUT: u32 = 153;
        /// The counter has 24 bits.
        const FEATURES: u32 = 0x40;
        self.running = None;
        self.set(guest, register::DMA_COMMAND, dma::IDLE)?;
        self.set(guest, register::COMMAND, command::RESET_DEVICE)?;
        self.set(guest, register::COMMAND, command::NOP)?;
        self.set(guest, register::CONTROL_1, OWN_ID)?;
        self.set(guest, register::CONTROL_2, FEATURES)?;
        self.set(guest, register::INTERRUPT, SELECTION_TIMEOUT)?;
        self.set(guest, register::COMMAND, command::RESET_BUS)?;
        guest.wait(NAME, "the reset of the bus", |guest| {
            let status = self.get(guest, register::STATUS)?;
            Ok((status & INTERRUPTED != 0).then_some(()))
        })?;
        self.get(guest, register::INTERRUPT)?;
        Ok(())
    }

    /// Starts a command of the SCSI part with the DMA engine.
    fn start_dma(
        &self,
        guest: &mut Guest,
        code: u32,
        (address, length): (u64, u32),
        to_memory: bool,
    ) -> Result<()> {
        let direction = if to_memory { dma::TO_MEMORY } else { 0 };
        let address = u32::try_from(address).unwrap_or(u32::MAX);
        self.set(guest, register::DMA_COMMAND, dma::IDLE | direction)?;
        self.set(guest, register::COUNT_LOW, length & 0xff)?;
        self.set(guest, register::COUNT_MIDDLE, length >> 8 & 0xff)?;
        self.set(guest, register::COUNT_HIGH, length >> 16 & 0xff)?;
        self.set(guest, register::DMA_COUNT, length)?;
        self.set(guest, register::DMA_ADDRESS, address)?;
        self.set(guest, register::COMMAND, code | command::DMA)?;
        self.set(guest, register::DMA_COMMAND, dma::START | direction)
    }

    fn select(&self, guest: &mut Guest, command: &Command) -> Result<()> {
        const TARGET: u32 = 0;
        /// For unit 0, without the right to disconnect.
        const IDENTIFY: u8 = 0x80;
        let mut bytes = vec![IDENTIFY];
        bytes.extend(&command.cdb);
        let length = u32::try_from(bytes.len()).unwrap_or(0);
        guest.label("am53c974 message and command");
        guest.write_block(self.memory, &bytes)?;
        self.set(guest, register::COMMAND, command::CLEAR_FIFO)?;
        self.set(guest, register::STATUS, TARGET)?;
        let place = (self.memory, length);
        self.start_dma(guest, command::SELECT_WITH_ATN, place, false)
    }

    /// Goes on with the data; whether there are any left.
    fn transfer(&self, guest: &mut Guest, running: &mut Running, inward: bool) -> Result<bool> {
        let buffer = match &running.data {
            Data::In(buffer) if inward => buffer,
            Data::Out(buffer) if !inward => buffer,
            _ => return Ok(false),
        };
        let rest = buffer.part(running.done, LONGEST_TRANSFER);
        let Some(&(address, length)) = rest.pieces.first() else {
            return Ok(false);
        };
        self.start_dma(guest, command::TRANSFER, (address, length), inward)?;
        running.done += u64::from(length);
        Ok(true)
    }

    /// What an interrupt means; the outcome where the command ended.
    fn interrupt(
        &self,
        guest: &mut Guest,
        status: u32,
        running: &mut Running,
    ) -> Result<Option<Outcome>> {
        let interrupt = self.get(guest, register::INTERRUPT)?;
        if interrupt & DISCONNECTED != 0 {
            return Ok(Some(match running.status {
                Some(status) => Outcome::status(status),
                None => lost("the target did not answer, or went away"),
            }));
        }
        if interrupt & ILLEGAL_COMMAND != 0 {
            return Ok(Some(lost("an illegal command of the adapter")));
        }
        let now = status & phase::MASK;
        match now {
            phase::DATA_IN | phase::DATA_OUT => {
                if !self.transfer(guest, running, now == phase::DATA_IN)? {
                    return Ok(Some(lost("more data, or in another direction")));
                }
            }
            phase::STATUS => {
                self.set(guest, register::DMA_COMMAND, dma::IDLE)?;
                self.set(guest, register::COMMAND, command::CLEAR_FIFO)?;
                let steps = command::COMMAND_COMPLETE_STEPS;
                self.set(guest, register::COMMAND, steps)?;
            }
            phase::MESSAGE_IN => {
                #[expect(clippy::cast_possible_truncation, reason = "the FIFO has bytes")]
                let status = self.get(guest, register::FIFO)? as u8;
                let message = self.get(guest, register::FIFO)?;
                if message & 0xff != 0 {
                    let why = format!("an unexpected message {message:#04x}");
                    return Ok(Some(Outcome::Lost { why }));
                }
                running.status = Some(status);
                self.set(guest, register::COMMAND, command::MESSAGE_ACCEPTED)?;
            }
            other => {
                let why = format!("an unexpected phase {other} of the bus");
                return Ok(Some(Outcome::Lost { why }));
            }
        }
        Ok(None)
    }
}

fn lost(why: &str) -> Outcome {
    let why = why.to_owned();
    Outcome::Lost { why }
}

impl ScsiTransport for Esp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn longest(&self) -> u64 {
        LONGEST_TRANSFER
    }

    fn start(&mut self, guest: &mut Guest, _queue: usize, command: &Command) -> Result<Tag> {
        if self.running.is_some() {
            return Err(Error::device(NAME, "a command is on its way"));
        }
        if command.cdb.len() > 16 {
            let what = format!("a command of {} bytes", command.cdb.len());
            return Err(Error::device(NAME, what));
        }
        self.select(guest, command)?;
        let tag = Tag(self.next);
        self.next += 1;
        self.running = Some(Running {
            tag,
            data: command.data.clone(),
            done: 0,
            status: None,
        });
        Ok(tag)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Outcome)>> {
        let Some(mut running) = self.running.take() else {
            return Ok(Vec::new());
        };
        let status = self.get(guest, register::STATUS)?;
        if status & INTERRUPTED != 0
            && let Some(outcome) = self.interrupt(guest, status, &mut running)?
        {
            return Ok(vec![(running.tag, outcome)]);
        }
        self.running = Some(running);
        Ok(Vec::new())
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        self.set_up(guest)
    }
}
