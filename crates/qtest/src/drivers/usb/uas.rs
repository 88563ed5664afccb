//! USB attached SCSI: several commands at a time.
//!
//! USB Attached SCSI Protocol 1.0 (UAS), T10 UAS-2. With streams, each command has the stream
//! of its number on all pipes; without, the device says whose data are next.

use std::collections::BTreeMap;

use super::descriptors::{self, Interface};
use super::{Ending, Endpoint, Host, Transfer, clear_halt, configure};
use crate::block::Tag;
use crate::drivers::scsi::{Command, Outcome, ScsiTransport};
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};

const NAME: &str = "usb-uas";

/// What the pipes are for (section 5.2.3.2).
mod pipe {
    pub(super) const COMMAND: u8 = 1;
    pub(super) const STATUS: u8 = 2;
    pub(super) const DATA_IN: u8 = 3;
    pub(super) const DATA_OUT: u8 = 4;
}

/// Information units (section 6.2).
mod unit {
    pub(super) const COMMAND: u8 = 1;
    pub(super) const SENSE: u8 = 3;
    pub(super) const RESPONSE: u8 = 4;
    pub(super) const READ_READY: u8 = 6;
    pub(super) const WRITE_READY: u8 = 7;
}

/// The lengths of units in bytes: of a command, and of the longest status.
const COMMAND_LENGTH: u32 = 32;
const STATUS_LENGTH: u32 = 16 + 96;

/// How many commands there are at a time without streams.
const DEPTH: u16 = 4;

/// The four pipes.
#[derive(Clone, Copy, Debug)]
struct Pipes {
    command: Endpoint,
    status: Endpoint,
    input: Endpoint,
    output: Endpoint,
}

impl Pipes {
    fn of(interface: &Interface) -> Result<Self> {
        let pipe = |usage| {
            let none = || Error::device(NAME, format!("pipe {usage} is missing"));
            interface.used_for(usage).ok_or_else(none)
        };
        Ok(Self {
            command: pipe(pipe::COMMAND)?,
            status: pipe(pipe::STATUS)?,
            input: pipe(pipe::DATA_IN)?,
            output: pipe(pipe::DATA_OUT)?,
        })
    }
}

/// A command on its way.
#[derive(Debug)]
struct Running {
    tag: Tag,
    data: Buffer,
    input: bool,
    /// The transfer of the data, while it is on its way.
    transfer: Option<Transfer>,
    outcome: Option<Outcome>,
}

/// A device.
#[derive(Debug)]
pub(super) struct Uas<H> {
    host: H,
    pipes: Pipes,
    /// How many commands there can be: their numbers are from 1.
    depth: u16,
    streams: bool,
    /// Memory for a command of each number, and for its status.
    commands: Buffer,
    statuses: Buffer,
    running: BTreeMap<u16, Running>,
    /// Transfers of the status pipe, and which memory they have.
    status_transfers: BTreeMap<Transfer, u16>,
    next_tag: u64,
}

impl<H: Host> Uas<H> {
    /// Configures the device.
    ///
    /// # Errors
    ///
    /// Fails if it has no such transport.
    pub(super) fn open(guest: &mut Guest, mut host: H) -> Result<Self> {
        let interface = configure(&mut host, guest, NAME, descriptors::UAS)?;
        let pipes = Pipes::of(&interface)?;
        let streams = host.streams().min(pipes.status.streams);
        // At SuperSpeed statuses and data come by streams alone (UAS-2, 4.2), and a host
        // controller may have none (xHCI 1.2, 5.3.6: MaxPSASize).
        if streams == 0 && pipes.status.streams > 0 {
            return Err(Error::Lacking {
                device: NAME,
                what: "streams",
            });
        }
        let depth = if streams > 0 { streams - 1 } else { DEPTH };
        let count = usize::from(depth) + 1;
        Ok(Self {
            host,
            pipes,
            depth,
            streams: streams > 0,
            commands: guest.buffer(&vec![COMMAND_LENGTH; count], 64)?,
            statuses: guest.buffer(&vec![STATUS_LENGTH; count], 64)?,
            running: BTreeMap::new(),
            status_transfers: BTreeMap::new(),
            next_tag: 0,
        })
    }

    /// The stream of a command.
    const fn stream(&self, number: u16) -> u16 {
        if self.streams { number } else { 0 }
    }

    fn memory(buffer: &Buffer, number: u16) -> Buffer {
        let piece = buffer.pieces.get(usize::from(number)).copied();
        Buffer {
            pieces: piece.into_iter().collect(),
        }
    }

    /// Waits for a status; without streams for the next of any command.
    fn await_status(&mut self, guest: &mut Guest, number: u16) -> Result<()> {
        let number = self.stream(number);
        let memory = Self::memory(&self.statuses, number);
        let transfer = self.host.start(guest, self.pipes.status, number, &memory)?;
        self.status_transfers.insert(transfer, number);
        Ok(())
    }

    /// Transfers the data of a command.
    fn transfer_data(&mut self, guest: &mut Guest, number: u16) -> Result<()> {
        let stream = self.stream(number);
        let Some(running) = self.running.get_mut(&number) else {
            return Err(Error::device(NAME, "data of a command that was not sent"));
        };
        let endpoint = if running.input {
            self.pipes.input
        } else {
            self.pipes.output
        };
        let transfer = self.host.start(guest, endpoint, stream, &running.data)?;
        running.transfer = Some(transfer);
        Ok(())
    }

    /// Looks at a unit of the status pipe.
    fn status(&mut self, guest: &mut Guest, memory: u16) -> Result<()> {
        let bytes = guest.buffer_bytes(&Self::memory(&self.statuses, memory))?;
        let number = u16::from_be_bytes([bytes[2], bytes[3]]);
        let outcome = match bytes[0] {
            unit::READ_READY | unit::WRITE_READY => {
                self.transfer_data(guest, number)?;
                None
            }
            unit::SENSE => {
                let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
                let sense = bytes[16..].iter().copied().take(length).collect();
                let status = bytes[6];
                Some(Outcome::Ended { status, sense })
            }
            unit::RESPONSE => {
                let why = format!("response code {:#04x}", bytes[7]);
                Some(Outcome::Lost { why })
            }
            other => {
                let what = format!("an information unit of kind {other}");
                return Err(Error::device(NAME, what));
            }
        };
        if outcome.is_some() {
            let unknown = || Error::device(NAME, "a status of a command that was not sent");
            self.running.get_mut(&number).ok_or_else(unknown)?.outcome = outcome;
        }
        Ok(())
    }

    /// Looks at a transfer of a data pipe, or of the command pipe.
    fn data_ended(&mut self, guest: &mut Guest, transfer: Transfer, ending: Ending) -> Result<()> {
        let found = self
            .running
            .values_mut()
            .find(|r| r.transfer == Some(transfer));
        let endpoint = match found {
            Some(running) => {
                running.transfer = None;
                if running.input {
                    self.pipes.input
                } else {
                    self.pipes.output
                }
            }
            None => self.pipes.command,
        };
        match ending {
            Ending::Done(_) => Ok(()),
            Ending::Failed(why) if endpoint == self.pipes.command => Err(Error::device(NAME, why)),
            // The status says what became of the command.
            Ending::Failed(_) => clear_halt(&mut self.host, guest, NAME, endpoint),
        }
    }
}

impl<H: Host> ScsiTransport for Uas<H> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn depth(&self) -> usize {
        self.depth.into()
    }

    fn longest(&self) -> u64 {
        1 << 20
    }

    fn start(&mut self, guest: &mut Guest, _queue: usize, command: &Command) -> Result<Tag> {
        if command.cdb.is_empty() || command.cdb.len() > 16 {
            let what = format!("a command of {} bytes", command.cdb.len());
            return Err(Error::device(NAME, what));
        }
        let free = (1..=self.depth).find(|number| !self.running.contains_key(number));
        let full = || Error::device(NAME, "too many commands are on their way");
        let number = free.ok_or_else(full)?;
        let mut bytes = vec![unit::COMMAND, 0];
        bytes.extend(number.to_be_bytes());
        bytes.resize(16, 0);
        bytes.extend(&command.cdb);
        bytes.resize(COMMAND_LENGTH as usize, 0);
        let memory = Self::memory(&self.commands, number);
        guest.label("uas command information unit");
        guest.fill_buffer(&memory, &bytes)?;
        let tag = Tag(self.next_tag);
        self.next_tag += 1;
        let running = Running {
            tag,
            data: command.data.buffer().cloned().unwrap_or_default(),
            input: command.data.is_in(),
            transfer: None,
            outcome: None,
        };
        let has_data = !running.data.is_empty();
        self.running.insert(number, running);
        if self.streams || self.status_transfers.is_empty() {
            self.await_status(guest, number)?;
        }
        if self.streams && has_data {
            self.transfer_data(guest, number)?;
        }
        self.host.start(guest, self.pipes.command, 0, &memory)?;
        Ok(tag)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Outcome)>> {
        for (transfer, ending) in self.host.poll(guest)? {
            let Some(memory) = self.status_transfers.remove(&transfer) else {
                self.data_ended(guest, transfer, ending)?;
                continue;
            };
            if let Ending::Failed(why) = ending {
                return Err(Error::device(NAME, format!("the status pipe: {why}")));
            }
            self.status(guest, memory)?;
            let wanted = if self.streams {
                let still = self.running.get(&memory);
                still.is_some_and(|r| r.outcome.is_none())
            } else {
                self.running.values().any(|r| r.outcome.is_none())
            };
            if wanted {
                self.await_status(guest, memory)?;
            }
        }
        let mut ended = Vec::new();
        self.running.retain(|_, running| {
            if running.transfer.is_none()
                && let Some(outcome) = running.outcome.take()
            {
                ended.push((running.tag, outcome));
                return false;
            }
            true
        });
        Ok(ended)
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        self.running.clear();
        self.status_transfers.clear();
        self.host.reset(guest)?;
        let interface = configure(&mut self.host, guest, NAME, descriptors::UAS)?;
        self.pipes = Pipes::of(&interface)?;
        Ok(())
    }
}
