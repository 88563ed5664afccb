//! A drive that takes SCSI commands in packets, such as a CD drive.
//!
//! ATA/ATAPI-7 volume 2, sections 11.8 and 11.9.

use super::channel::Channel;
use crate::block::Tag;
use crate::drivers::ata::{self, TaskFile, status};
use crate::drivers::scsi::{Command, Data, Outcome, ScsiTransport};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;

const NAME: &str = "ide-packets";

/// The command that is on its way.
#[derive(Debug)]
struct Running {
    tag: Tag,
    data: Data,
    /// How much the processor has transferred, in bytes.
    done: u64,
    /// The table of the bus master, where it transfers the data.
    table: Option<u64>,
}

/// A drive at a channel, which has one command at a time.
#[derive(Debug)]
pub(super) struct Packets {
    channel: Channel,
    running: Option<Running>,
    next: u64,
}

impl Packets {
    pub(super) const fn new(channel: Channel) -> Self {
        Self {
            channel,
            running: None,
            next: 0,
        }
    }

    /// Sends a packet. Data go by the bus master and by the processor in turn.
    fn send(&self, guest: &mut Guest, command: &Command) -> Result<Option<u64>> {
        let packet = ata::packet(NAME, &command.cdb)?;
        let write = !command.data.is_in();
        let by_master = self.channel.has_master() && self.next.is_multiple_of(2);
        let table = match command.data.buffer().filter(|_| by_master) {
            Some(buffer) => Some(self.channel.prepare_master(guest, write, buffer)?),
            None => None,
        };
        self.channel
            .command(guest, &TaskFile::packet(table.is_some()))?;
        guest.wait(NAME, "a request for the packet", |guest| {
            let state = self.channel.status(guest)?;
            let ready = state & (status::DATA_REQUEST | status::ERROR) != 0;
            Ok((state & status::BUSY == 0 && ready).then_some(()))
        })?;
        guest.label("ata packet");
        self.channel.send_data(guest, Width::W, &packet)?;
        if table.is_some() {
            self.channel.start_master(guest, write)?;
        }
        Ok(table)
    }

    /// Goes on with the transfer; how the command ended, if it has.
    fn progress(&self, guest: &mut Guest, running: &mut Running) -> Result<Option<Outcome>> {
        let by_master = running.table.is_some();
        if by_master && !self.channel.master_ended(guest)? {
            return Ok(None);
        }
        let state = self.channel.status(guest)?;
        if state & status::BUSY != 0 {
            return Ok(None);
        }
        if by_master {
            self.channel.stop_master(guest)?;
        }
        if state & (status::ERROR | status::FAULT) != 0 {
            return Ok(Some(Outcome::CHECK_CONDITION));
        }
        if by_master || state & status::DATA_REQUEST == 0 {
            return Ok(Some(Outcome::GOOD));
        }
        let count = self.channel.byte_count(guest)?;
        let now = count.min(running.data.len() - running.done);
        let Some(buffer) = running.data.buffer() else {
            return Err(Error::device(NAME, "a command without data has some"));
        };
        let part = buffer.part(running.done, now);
        if running.data.is_in() {
            // Bytes behind the end of the buffer are taken and dropped.
            let even = count.next_multiple_of(2);
            let mut bytes = self.channel.take_data(guest, Width::W, even)?;
            bytes.truncate(usize::try_from(now).unwrap_or(usize::MAX));
            guest.label("data");
            guest.fill_buffer(&part, &bytes)?;
        } else {
            let bytes = guest.buffer_bytes(&part)?;
            self.channel.send_data(guest, Width::W, &bytes)?;
        }
        running.done += now;
        Ok(None)
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
        let table = self.send(guest, command)?;
        let tag = Tag(self.next);
        self.next += 1;
        self.running = Some(Running {
            tag,
            data: command.data.clone(),
            done: 0,
            table,
        });
        Ok(tag)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Outcome)>> {
        let Some(mut running) = self.running.take() else {
            return Ok(Vec::new());
        };
        let Some(outcome) = self.progress(guest, &mut running)? else {
            self.running = Some(running);
            return Ok(Vec::new());
        };
        running.table.iter().for_each(|&table| guest.free(table));
        Ok(vec![(running.tag, outcome)])
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        if let Some(table) = self.running.take().and_then(|running| running.table) {
            guest.free(table);
        }
        self.channel.reset(guest)
    }
}
