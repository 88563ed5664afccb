//! A drive that takes SCSI commands in packets, such as a CD drive, at a port.
//!
//! Serial ATA AHCI 1.3.1, sections 5.3.7 and 6.2.2.2.

use super::port::Port;
use crate::block::Tag;
use crate::drivers::ata;
use crate::drivers::scsi::{Command, Outcome, ScsiTransport};
use crate::error::{Error, Result};
use crate::guest::Guest;

const NAME: &str = "ahci-packets";

/// The slot that is used: the drive has one command at a time.
const SLOT: u8 = 0;

/// A drive at a port that has been started.
#[derive(Debug)]
pub(super) struct Packets {
    port: Port,
    /// The command on its way, and the address of its table.
    running: Option<(Tag, u64)>,
    next: u64,
}

impl Packets {
    pub(super) const fn new(port: Port) -> Self {
        Self {
            port,
            running: None,
            next: 0,
        }
    }
}

impl ScsiTransport for Packets {
    fn name(&self) -> &'static str {
        NAME
    }

    fn longest(&self) -> u64 {
        ata::LONGEST_TRANSFER
    }

    fn longest_command(&self) -> usize {
        ata::PACKET
    }

    fn start(&mut self, guest: &mut Guest, _queue: usize, command: &Command) -> Result<Tag> {
        if self.running.is_some() {
            return Err(Error::device(NAME, "one command at a time"));
        }
        let packet = ata::packet(NAME, &command.cdb)?;
        let table = self
            .port
            .issue_packet(guest, SLOT, &packet, &command.data)?;
        let tag = Tag(self.next);
        self.next += 1;
        self.running = Some((tag, table));
        Ok(tag)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Outcome)>> {
        let Some((tag, table)) = self.running else {
            return Ok(Vec::new());
        };
        let state = self.port.state(guest)?;
        if !state.failed && state.busy & 1 << SLOT != 0 {
            return Ok(Vec::new());
        }
        self.running = None;
        guest.free(table);
        if !state.failed {
            return Ok(vec![(tag, Outcome::GOOD)]);
        }
        self.port.start(guest)?;
        Ok(vec![(tag, Outcome::CHECK_CONDITION)])
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        if let Some((_, table)) = self.running.take() {
            guest.free(table);
        }
        self.port.reset(guest)
    }
}
