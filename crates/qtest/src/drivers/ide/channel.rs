//! The ports of a channel, and of its bus master.

use super::NAME;
use crate::drivers::ata::{TaskFile, status};
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};
use crate::op::{Op, Width};

/// The ports of both channels: of the registers, and of the control register.
const CHANNELS: [(u16, u16); 2] = [(0x1f0, 0x3f6), (0x170, 0x376)];

/// Registers by their distance from the first port (ATA/ATAPI-7 volume 2, section 9).
mod offset {
    pub(super) const DATA: u16 = 0;
    pub(super) const ERROR: u16 = 1;
    pub(super) const FEATURES: u16 = 1;
    pub(super) const COUNT: u16 = 2;
    pub(super) const LBA_LOW: u16 = 3;
    pub(super) const LBA_MID: u16 = 4;
    pub(super) const LBA_HIGH: u16 = 5;
    pub(super) const DEVICE: u16 = 6;
    pub(super) const STATUS: u16 = 7;
    pub(super) const COMMAND: u16 = 7;
}

/// Control: reset both disks.
const SOFTWARE_RESET: u32 = 1 << 2;

/// The device register: the second disk, and bits that are always set.
const SECOND: u8 = 1 << 4;
const ALWAYS: u8 = 0xa0;

/// Registers of the bus master (sections 2.1 to 2.3).
mod master {
    pub(super) const COMMAND: u16 = 0;
    pub(super) const STATUS: u16 = 2;
    pub(super) const TABLE: u16 = 4;
    /// How far those of the second channel are.
    pub(super) const SECOND_CHANNEL: u16 = 8;
}

/// Bus master command: start; write to memory.
const START: u32 = 1;
const TO_MEMORY: u32 = 1 << 3;

/// Bus master status: active, failed, interrupted.
const ACTIVE: u32 = 1;
const FAILED: u32 = 1 << 1;
const INTERRUPTED: u32 = 1 << 2;

/// The last entry of the table, and how much one names at most without crossing it.
const LAST: u32 = 1 << 31;
const BOUNDARY: u64 = 64 << 10;

/// One of the two places for disks of a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel {
    ports: u16,
    control: u16,
    master: Option<u16>,
    second: bool,
}

impl Channel {
    /// All places for disks, whose bus masters have these ports.
    pub(super) fn all(master: Option<u16>) -> Vec<Self> {
        let mut all = Vec::new();
        for (number, (ports, control)) in CHANNELS.into_iter().enumerate() {
            for second in [false, true] {
                let skipped = if number == 1 {
                    master::SECOND_CHANNEL
                } else {
                    0
                };
                all.push(Self {
                    ports,
                    control,
                    master: master.map(|base| base + skipped),
                    second,
                });
            }
        }
        all
    }

    /// Whether data can be transferred without the processor.
    pub(super) const fn has_master(&self) -> bool {
        self.master.is_some()
    }

    fn input(&self, guest: &mut Guest, at: u16) -> Result<u8> {
        #[expect(clippy::cast_possible_truncation, reason = "one byte was read")]
        Ok(guest.port_in(Width::B, self.ports + at)? as u8)
    }

    fn output(&self, guest: &mut Guest, at: u16, value: u8) -> Result<()> {
        guest.port_out(Width::B, self.ports + at, value.into())
    }

    fn select(&self, guest: &mut Guest, register: u8) -> Result<()> {
        guest.label("ata device register");
        let which = if self.second { SECOND } else { 0 };
        self.output(guest, offset::DEVICE, register | which | ALWAYS)
    }

    /// Whether there is what answers to a command that identifies it.
    ///
    /// # Errors
    ///
    /// Fails if something is there that does not answer.
    pub(super) fn identifies(&self, guest: &mut Guest, command: u8) -> Result<bool> {
        self.select(guest, 0)?;
        let state = self.status(guest)?;
        if state == 0 || state == 0xff {
            return Ok(false);
        }
        self.command(guest, &TaskFile::plain(command))?;
        let state = guest.wait(NAME, "the end of a command", |guest| {
            let state = self.status(guest)?;
            Ok((state & status::BUSY == 0).then_some(state))
        })?;
        if state & status::DATA_REQUEST == 0 {
            return Ok(false);
        }
        self.take_data(guest, Width::W, 512)?;
        Ok(true)
    }

    /// The status register; reading it takes the interrupt back.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn status(&self, guest: &mut Guest) -> Result<u8> {
        self.input(guest, offset::STATUS)
    }

    /// The error register.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn error(&self, guest: &mut Guest) -> Result<u8> {
        self.input(guest, offset::ERROR)
    }

    /// How many bytes a drive of packets transfers now.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn byte_count(&self, guest: &mut Guest) -> Result<u64> {
        let low = self.input(guest, offset::LBA_MID)?;
        let high = self.input(guest, offset::LBA_HIGH)?;
        Ok(u16::from_le_bytes([low, high]).into())
    }

    /// Sends a command.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn command(&self, guest: &mut Guest, file: &TaskFile) -> Result<()> {
        self.select(guest, file.device_register())?;
        let lba = file.lba.to_le_bytes();
        let [features, features_high] = file.features.to_le_bytes();
        let [count, count_high] = file.count.to_le_bytes();
        guest.label("ata task file");
        if file.wide {
            self.output(guest, offset::FEATURES, features_high)?;
            self.output(guest, offset::COUNT, count_high)?;
            self.output(guest, offset::LBA_LOW, lba[3])?;
            self.output(guest, offset::LBA_MID, lba[4])?;
            self.output(guest, offset::LBA_HIGH, lba[5])?;
        }
        self.output(guest, offset::FEATURES, features)?;
        self.output(guest, offset::COUNT, count)?;
        self.output(guest, offset::LBA_LOW, lba[0])?;
        self.output(guest, offset::LBA_MID, lba[1])?;
        self.output(guest, offset::LBA_HIGH, lba[2])?;
        guest.label("ata command");
        self.output(guest, offset::COMMAND, file.command)
    }

    /// Reads data that the disk has ready; `length` in bytes, a multiple of the width.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn take_data(
        &self,
        guest: &mut Guest,
        width: Width,
        length: u64,
    ) -> Result<Vec<u8>> {
        let port = self.ports + offset::DATA;
        guest.label("ata data");
        let count = length / u64::from(width.bytes());
        let answers = guest.run_all((0..count).map(|_| Op::In { width, port }).collect())?;
        let bytes = width.bytes() as usize;
        let words = answers.iter().map(|a| a.value().to_le_bytes());
        Ok(words
            .flat_map(|word| word.into_iter().take(bytes))
            .collect())
    }

    /// Writes data that the disk waits for.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn send_data(&self, guest: &mut Guest, width: Width, bytes: &[u8]) -> Result<()> {
        let port = self.ports + offset::DATA;
        guest.label("ata data");
        let words = bytes.chunks(width.bytes() as usize).map(|word| {
            let value = word.iter().rev().fold(0, |v, &b| v << 8 | u32::from(b));
            Op::Out { width, port, value }
        });
        guest.run_all(words.collect()).map(drop)
    }

    fn master_port(&self, at: u16) -> Result<u16> {
        let none = || Error::device(NAME, "there is no bus master");
        Ok(self.master.ok_or_else(none)? + at)
    }

    /// Writes the table that names memory; its address, for the caller to give back.
    ///
    /// # Errors
    ///
    /// Fails if the table cannot name the memory, or there is no bus master.
    pub(super) fn prepare_master(
        &self,
        guest: &mut Guest,
        write: bool,
        data: &Buffer,
    ) -> Result<u64> {
        let entries = entries(data)?;
        let table = guest.allocate(entries.len() as u64, 4096)?;
        guest.label("ide physical region descriptors");
        guest.write_block(table, &entries)?;
        guest.label("ide bus master table");
        let address = u32::try_from(table).unwrap_or(u32::MAX);
        guest.port_out(Width::L, self.master_port(master::TABLE)?, address)?;
        guest.label("ide bus master command");
        let direction = if write { 0 } else { TO_MEMORY };
        guest.port_out(Width::B, self.master_port(master::COMMAND)?, direction)?;
        guest.label("ide bus master status");
        let forget = FAILED | INTERRUPTED;
        guest.port_out(Width::B, self.master_port(master::STATUS)?, forget)?;
        Ok(table)
    }

    /// Lets the bus master go on.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub(super) fn start_master(&self, guest: &mut Guest, write: bool) -> Result<()> {
        let direction = if write { 0 } else { TO_MEMORY };
        guest.label("ide bus master command");
        let port = self.master_port(master::COMMAND)?;
        guest.port_out(Width::B, port, START | direction)
    }

    /// Whether the bus master has nothing left to do.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub(super) fn master_ended(&self, guest: &mut Guest) -> Result<bool> {
        let state = guest.port_in(Width::B, self.master_port(master::STATUS)?)?;
        Ok(state & (FAILED | INTERRUPTED) != 0 || state & ACTIVE == 0)
    }

    /// Ends a transfer of the bus master.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub(super) fn stop_master(&self, guest: &mut Guest) -> Result<()> {
        guest.label("ide bus master command");
        guest.port_out(Width::B, self.master_port(master::COMMAND)?, 0)?;
        guest.label("ide bus master status");
        let forget = FAILED | INTERRUPTED;
        guest.port_out(Width::B, self.master_port(master::STATUS)?, forget)
    }

    /// Resets both disks of the channel (ATA/ATAPI-7 volume 2, section 11.3).
    ///
    /// # Errors
    ///
    /// Fails if they do not come back.
    pub(super) fn reset(&self, guest: &mut Guest) -> Result<()> {
        if self.has_master() {
            self.stop_master(guest)?;
        }
        guest.label("ata device control");
        guest.port_out(Width::B, self.control, SOFTWARE_RESET)?;
        guest.port_out(Width::B, self.control, 0)?;
        guest.wait(NAME, "the end of a reset", |guest| {
            let state = guest.port_in(Width::B, self.control)?;
            Ok((state & u32::from(status::BUSY) == 0).then_some(()))
        })?;
        self.select(guest, 0)
    }
}

/// The entries that name memory (section 1.2): none crosses a multiple of 64 KiB.
fn entries(data: &Buffer) -> Result<Vec<u8>> {
    let mut entries: Vec<(u32, u32)> = Vec::new();
    for &(start, length) in &data.pieces {
        let (mut at, end) = (start, start + u64::from(length));
        if at % 2 != 0 || length % 2 != 0 || end > 1 << 32 {
            let what = "memory is named by pairs of bytes below 4 GiB";
            return Err(Error::device(NAME, what));
        }
        while at < end {
            let next = (at / BOUNDARY + 1) * BOUNDARY;
            let now = end.min(next) - at;
            // 64 KiB are written as none.
            let count = u32::try_from(now % BOUNDARY).unwrap_or(0);
            entries.push((u32::try_from(at).unwrap_or(u32::MAX), count));
            at += now;
        }
    }
    if let Some(last) = entries.last_mut() {
        last.1 |= LAST;
    }
    if entries.is_empty() || entries.len() > 512 {
        return Err(Error::device(NAME, "a table has 1 to 512 entries"));
    }
    let words = entries.into_iter().flat_map(|(at, count)| [at, count]);
    Ok(words.flat_map(u32::to_le_bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_do_not_cross_64_kib() {
        let buffer = Buffer {
            pieces: vec![(0x1_f000, 0x1_2000)],
        };
        let bytes = entries(&buffer).unwrap();
        let expected: Vec<u8> = [0x1_f000, 0x1000, 0x2_0000, 0, 0x3_0000, 0x8000_1000]
            .into_iter()
            .flat_map(u32::to_le_bytes)
            .collect();
        assert_eq!(bytes, expected);
        assert!(entries(&Buffer::default()).is_err());
    }
}
