//! Bulk-only transport: a command at a time.
//!
//! USB Mass Storage Class, Bulk-Only Transport 1.0.

use super::descriptors::{self, Interface};
use super::{Ending, Endpoint, Host, Setup, Transfer, clear_halt, configure, request};
use crate::block::Tag;
use crate::drivers::scsi::{Command, Outcome, ScsiTransport};
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};

const NAME: &str = "usb-bot";

/// The lengths of the wrappers of a command and of its status in bytes (section 5).
const COMMAND_WRAPPER: u32 = 31;
const STATUS_WRAPPER: u32 = 13;

/// Their signatures.
const COMMAND_SIGNATURE: [u8; 4] = *b"USBC";
const STATUS_SIGNATURE: [u8; 4] = *b"USBS";

/// What is transferred now (section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Command,
    Data,
    Status,
}

/// A command on its way.
#[derive(Debug)]
struct Current {
    tag: Tag,
    data: Buffer,
    input: bool,
    phase: Phase,
    transfer: Transfer,
    /// Whether the status was asked for again after the endpoint was halted.
    again: bool,
}

/// A device with bulk-only transport.
#[derive(Debug)]
pub(super) struct Bot<H> {
    host: H,
    interface: Interface,
    input: Endpoint,
    output: Endpoint,
    command: Buffer,
    status: Buffer,
    next_tag: u64,
    current: Option<Current>,
}

impl<H: Host> Bot<H> {
    /// Configures the device.
    ///
    /// # Errors
    ///
    /// Fails if it has no such transport.
    pub(super) fn open(guest: &mut Guest, mut host: H) -> Result<Self> {
        let interface = configure(&mut host, guest, NAME, descriptors::BULK_ONLY)?;
        let both = interface.direction(true).zip(interface.direction(false));
        let none = || Error::device(NAME, "an endpoint is missing");
        let (input, output) = both.ok_or_else(none)?;
        Ok(Self {
            host,
            interface,
            input,
            output,
            command: guest.buffer(&[COMMAND_WRAPPER], 64)?,
            status: guest.buffer(&[STATUS_WRAPPER], 64)?,
            next_tag: 1,
            current: None,
        })
    }

    /// Starts the next transfer of a command.
    fn go_on(&mut self, guest: &mut Guest, current: &mut Current, phase: Phase) -> Result<()> {
        let (endpoint, data) = match phase {
            Phase::Command => (self.output, &self.command),
            Phase::Data if current.input => (self.input, &current.data),
            Phase::Data => (self.output, &current.data),
            Phase::Status => (self.input, &self.status),
        };
        current.phase = phase;
        current.transfer = self.host.start(guest, endpoint, 0, data)?;
        Ok(())
    }

    /// Lets the device forget the command (section 5.3.4).
    fn recover(&mut self, guest: &mut Guest) -> Result<()> {
        const RESET: u8 = 0xff;
        const TO_INTERFACE: u8 = 0x21;
        let setup = Setup {
            kind: TO_INTERFACE,
            request: RESET,
            value: 0,
            index: self.interface.number.into(),
        };
        request(&mut self.host, guest, NAME, setup)?;
        clear_halt(&mut self.host, guest, NAME, self.input)?;
        clear_halt(&mut self.host, guest, NAME, self.output)
    }

    /// What the status says of the command (section 6).
    fn outcome(&mut self, guest: &mut Guest, current: &Current) -> Result<Outcome> {
        const PHASE_ERROR: u8 = 2;
        let bytes = guest.buffer_bytes(&self.status)?;
        let tag = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let valid = bytes[..4] == STATUS_SIGNATURE && u64::from(tag) == current.tag.0;
        let why = match bytes[12] {
            0 if valid => return Ok(Outcome::GOOD),
            1 if valid => return Ok(Outcome::CHECK_CONDITION),
            PHASE_ERROR if valid => "phase error".to_owned(),
            status if valid => format!("status {status:#04x} is reserved"),
            _ => "the status is not valid".to_owned(),
        };
        self.recover(guest)?;
        Ok(Outcome::Lost { why })
    }

    /// Goes on with a command after a transfer; its end, if it has ended.
    fn after(
        &mut self,
        guest: &mut Guest,
        current: &mut Current,
        ending: Ending,
    ) -> Result<Option<Outcome>> {
        match (current.phase, ending) {
            (Phase::Command, Ending::Done(_)) => {
                let next = if current.data.is_empty() {
                    Phase::Status
                } else {
                    Phase::Data
                };
                self.go_on(guest, current, next)?;
                Ok(None)
            }
            (Phase::Data, Ending::Done(_)) => {
                self.go_on(guest, current, Phase::Status)?;
                Ok(None)
            }
            (Phase::Data, Ending::Failed(_)) => {
                // The device ends data early by a stall (section 6.7).
                let endpoint = if current.input {
                    self.input
                } else {
                    self.output
                };
                clear_halt(&mut self.host, guest, NAME, endpoint)?;
                self.go_on(guest, current, Phase::Status)?;
                Ok(None)
            }
            (Phase::Status, Ending::Done(length)) if length == STATUS_WRAPPER.into() => {
                self.outcome(guest, current).map(Some)
            }
            (Phase::Status, Ending::Failed(_)) if !current.again => {
                current.again = true;
                clear_halt(&mut self.host, guest, NAME, self.input)?;
                self.go_on(guest, current, Phase::Status)?;
                Ok(None)
            }
            (_, ending) => {
                self.recover(guest)?;
                let why = match ending {
                    Ending::Failed(why) => why,
                    Ending::Done(length) => format!("a status of {length} bytes"),
                };
                Ok(Some(Outcome::Lost { why }))
            }
        }
    }
}

impl<H: Host> ScsiTransport for Bot<H> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn longest(&self) -> u64 {
        1 << 20
    }

    fn start(&mut self, guest: &mut Guest, _queue: usize, command: &Command) -> Result<Tag> {
        const TO_HOST: u8 = 0x80;
        if self.current.is_some() {
            return Err(Error::device(NAME, "one command at a time"));
        }
        if command.cdb.is_empty() || command.cdb.len() > 16 {
            let what = format!("a command of {} bytes", command.cdb.len());
            return Err(Error::device(NAME, what));
        }
        // The tag has 32 bits; 0 is left out so that memory of zeroes is no answer.
        let tag = Tag(self.next_tag & u64::from(u32::MAX));
        self.next_tag = tag.0 + 1;
        let length = u32::try_from(command.data.len())
            .map_err(|_| Error::device(NAME, "a transfer is shorter than 4 GiB"))?;
        let mut wrapper = COMMAND_SIGNATURE.to_vec();
        wrapper.extend(&tag.0.to_le_bytes()[..4]);
        wrapper.extend(length.to_le_bytes());
        wrapper.push(if command.data.is_in() { TO_HOST } else { 0 });
        wrapper.push(0);
        wrapper.push(u8::try_from(command.cdb.len()).unwrap_or(16));
        wrapper.extend(&command.cdb);
        wrapper.resize(COMMAND_WRAPPER as usize, 0);
        guest.label("usb command block wrapper");
        guest.fill_buffer(&self.command, &wrapper)?;
        let mut current = Current {
            tag,
            data: command.data.buffer().cloned().unwrap_or_default(),
            input: command.data.is_in(),
            phase: Phase::Command,
            transfer: 0,
            again: false,
        };
        self.go_on(guest, &mut current, Phase::Command)?;
        self.current = Some(current);
        Ok(tag)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Outcome)>> {
        let mut ended = Vec::new();
        for (transfer, ending) in self.host.poll(guest)? {
            let Some(mut current) = self.current.take() else {
                break;
            };
            let outcome = if transfer == current.transfer {
                self.after(guest, &mut current, ending)?
            } else {
                None
            };
            match outcome {
                Some(outcome) => ended.push((current.tag, outcome)),
                None => self.current = Some(current),
            }
        }
        Ok(ended)
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        self.current = None;
        self.host.reset(guest)?;
        self.interface = configure(&mut self.host, guest, NAME, descriptors::BULK_ONLY)?;
        Ok(())
    }
}
