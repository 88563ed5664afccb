//! The registers of a port (section 3.3), and its structures in memory (section 4).

use super::{NAME, SLOTS, register, set};
use crate::drivers::ata::{TaskFile, status};
use crate::drivers::scsi::Data;
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};

/// Registers of the adapter (section 3.1).
mod host {
    pub(super) const CONTROL: u64 = 0x04;
    pub(super) const INTERRUPTS: u64 = 0x08;
    pub(super) const PORTS_IMPLEMENTED: u64 = 0x0c;
    pub(super) const PORTS: u64 = 0x100;
    pub(super) const PORT_LENGTH: u64 = 0x80;
}

/// Adapter control (GHC): AHCI Enable, Interrupt Enable.
const AHCI_ENABLE: u32 = 1 << 31;
const INTERRUPT_ENABLE: u32 = 1 << 1;

/// Registers of a port (section 3.3).
mod offset {
    pub(super) const COMMAND_LIST: u64 = 0x00;
    pub(super) const COMMAND_LIST_HIGH: u64 = 0x04;
    pub(super) const RECEIVED_FIS: u64 = 0x08;
    pub(super) const RECEIVED_FIS_HIGH: u64 = 0x0c;
    pub(super) const INTERRUPT_STATUS: u64 = 0x10;
    pub(super) const INTERRUPT_ENABLE: u64 = 0x14;
    pub(super) const COMMAND: u64 = 0x18;
    pub(super) const TASK_FILE: u64 = 0x20;
    pub(super) const SIGNATURE: u64 = 0x24;
    pub(super) const SATA_STATUS: u64 = 0x28;
    pub(super) const SATA_CONTROL: u64 = 0x2c;
    pub(super) const SATA_ERROR: u64 = 0x30;
    pub(super) const SATA_ACTIVE: u64 = 0x34;
    pub(super) const COMMAND_ISSUE: u64 = 0x38;
}

/// Command and status: start, receive FISes, and whether these go on.
const START: u32 = 1;
const FIS_RECEIVE: u32 = 1 << 4;
const FIS_RUNNING: u32 = 1 << 14;
const LIST_RUNNING: u32 = 1 << 15;
/// Command and status: spin up, power on.
const SPIN_UP: u32 = 1 << 1;
const POWER_ON: u32 = 1 << 2;

/// Interrupts: task file error, host bus data and fatal error, interface fatal error, overflow.
const ERRORS: u32 = 1 << 30 | 1 << 29 | 1 << 28 | 1 << 27 | 1 << 24;

/// SATA status and control: a device is there and the link is up; reset the link.
const DETECTED: u32 = 3;
const LINK_RESET: u32 = 1;

/// The signatures of disks and of drives that take packets (Serial ATA 2.6, section 11.2).
pub(super) const DISK: u32 = 0x0000_0101;
pub(super) const PACKETS: u32 = 0xeb14_0101;

/// The lengths of the command list and of the received FISes in bytes.
const LIST_LENGTH: u64 = 32 * SLOTS as u64;
const FIS_LENGTH: u64 = 256;

/// Where a packet is in a command table, in bytes (section 4.2.3.2).
const TABLE_PACKET: usize = 0x40;

/// A command table before its entries of memory, and the most bytes that one of these names.
const TABLE_LENGTH: usize = 0x80;
const ENTRY_LONGEST: u32 = 4 << 20;

/// What is on its way, and whether anything failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    /// A bit for each slot.
    pub(super) busy: u32,
    pub(super) failed: bool,
    pub(super) status: u8,
    pub(super) error: u8,
}

/// A port with a disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    adapter: u64,
    registers: u64,
    number: u32,
    list: u64,
    received: u64,
}

impl Port {
    /// The first port of an adapter at which there is what has this signature.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn find(guest: &mut Guest, adapter: u64, signature: u32) -> Result<Option<Self>> {
        let control = AHCI_ENABLE | INTERRUPT_ENABLE;
        set(
            guest,
            "ahci global control",
            adapter + host::CONTROL,
            control,
        )?;
        let ports = register(guest, adapter + host::PORTS_IMPLEMENTED)?;
        for number in (0..32).filter(|n| ports & 1 << n != 0) {
            let registers = adapter + host::PORTS + host::PORT_LENGTH * u64::from(number);
            let link = register(guest, registers + offset::SATA_STATUS)?;
            if link & 15 != DETECTED {
                continue;
            }
            let list = guest.allocate(LIST_LENGTH, 1024)?;
            let received = guest.allocate(FIS_LENGTH, 256)?;
            let port = Self {
                adapter,
                registers,
                number,
                list,
                received,
            };
            port.start(guest)?;
            if register(guest, registers + offset::SIGNATURE)? == signature {
                return Ok(Some(port));
            }
            port.stop(guest)?;
            guest.free(list);
            guest.free(received);
        }
        Ok(None)
    }

    fn read(&self, guest: &mut Guest, at: u64) -> Result<u32> {
        register(guest, self.registers + at)
    }

    fn write(&self, guest: &mut Guest, label: &'static str, at: u64, value: u32) -> Result<()> {
        set(guest, label, self.registers + at, value)
    }

    /// Stops both engines (section 10.1.2).
    fn stop(&self, guest: &mut Guest) -> Result<()> {
        let power = SPIN_UP | POWER_ON;
        self.write(
            guest,
            "ahci port command",
            offset::COMMAND,
            FIS_RECEIVE | power,
        )?;
        self.await_stopped(guest, LIST_RUNNING)?;
        self.write(guest, "ahci port command", offset::COMMAND, power)?;
        self.await_stopped(guest, FIS_RUNNING)
    }

    fn await_stopped(&self, guest: &mut Guest, bit: u32) -> Result<()> {
        guest.wait(NAME, "a port that has stopped", |guest| {
            let state = self.read(guest, offset::COMMAND)?;
            Ok((state & bit == 0).then_some(()))
        })
    }

    /// Sets the port up and starts it.
    ///
    /// # Errors
    ///
    /// Fails if it does not get ready.
    #[expect(clippy::cast_possible_truncation, reason = "the halves of an address")]
    pub(super) fn start(&self, guest: &mut Guest) -> Result<()> {
        self.stop(guest)?;
        let bases = [
            (offset::COMMAND_LIST, self.list as u32),
            (offset::COMMAND_LIST_HIGH, (self.list >> 32) as u32),
            (offset::RECEIVED_FIS, self.received as u32),
            (offset::RECEIVED_FIS_HIGH, (self.received >> 32) as u32),
        ];
        for (at, value) in bases {
            self.write(guest, "ahci port base address", at, value)?;
        }
        self.run(guest)
    }

    /// Forgets errors and starts both engines.
    fn run(&self, guest: &mut Guest) -> Result<()> {
        self.write(guest, "ahci SATA error", offset::SATA_ERROR, u32::MAX)?;
        self.write(
            guest,
            "ahci interrupt status",
            offset::INTERRUPT_STATUS,
            u32::MAX,
        )?;
        self.write(
            guest,
            "ahci interrupt enable",
            offset::INTERRUPT_ENABLE,
            u32::MAX,
        )?;
        let receive = FIS_RECEIVE | SPIN_UP | POWER_ON;
        self.write(guest, "ahci port command", offset::COMMAND, receive)?;
        guest.wait(NAME, "a port that is ready", |guest| {
            let file = self.read(guest, offset::TASK_FILE)?;
            let busy = u32::from(status::BUSY | status::DATA_REQUEST);
            Ok((file & busy == 0).then_some(()))
        })?;
        self.write(guest, "ahci port command", offset::COMMAND, receive | START)
    }

    /// Resets the link and with it the disk (section 10.4.2).
    ///
    /// # Errors
    ///
    /// Fails if it does not come back.
    pub(super) fn reset(&self, guest: &mut Guest) -> Result<()> {
        self.stop(guest)?;
        self.write(guest, "ahci SATA control", offset::SATA_CONTROL, LINK_RESET)?;
        self.write(guest, "ahci SATA control", offset::SATA_CONTROL, 0)?;
        guest.wait(NAME, "a link that is up", |guest| {
            let link = self.read(guest, offset::SATA_STATUS)?;
            Ok((link & 15 == DETECTED).then_some(()))
        })?;
        self.run(guest)
    }

    /// Says that a slot has a queued command (section 5.3.2.2).
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn activate(&self, guest: &mut Guest, slot: u8) -> Result<()> {
        self.write(guest, "ahci SATA active", offset::SATA_ACTIVE, 1 << slot)
    }

    /// Sends a command in a slot that is free; the memory of its table, for the caller to give
    /// back when it has ended.
    ///
    /// # Errors
    ///
    /// Fails if pieces of the buffer have an odd address or length.
    pub(super) fn issue(
        &self,
        guest: &mut Guest,
        slot: u8,
        file: &TaskFile,
        write: bool,
        data: &Buffer,
    ) -> Result<u64> {
        self.issue_table(guest, slot, (file, None), write, data)
    }

    /// As [`Self::issue`], for a packet.
    ///
    /// # Errors
    ///
    /// As [`Self::issue`].
    pub(super) fn issue_packet(
        &self,
        guest: &mut Guest,
        slot: u8,
        packet: &[u8],
        data: &Data,
    ) -> Result<u64> {
        let command = (&TaskFile::packet(!data.is_empty()), Some(packet));
        let buffer = data.buffer().cloned().unwrap_or_default();
        self.issue_table(guest, slot, command, !data.is_in(), &buffer)
    }

    fn issue_table(
        &self,
        guest: &mut Guest,
        slot: u8,
        (file, packet): (&TaskFile, Option<&[u8]>),
        write: bool,
        data: &Buffer,
    ) -> Result<u64> {
        const FIS_WORDS: u32 = 5;
        const PACKET: u32 = 1 << 5;
        const WRITE: u32 = 1 << 6;
        let entries = entries(data)?;
        let count = u32::try_from(entries.len() / 16).unwrap_or(u32::MAX);
        if count > 0xffff {
            return Err(Error::device(NAME, "too many pieces of memory"));
        }
        let table = guest.allocate((TABLE_LENGTH + entries.len()) as u64, 128)?;
        guest.label("ahci command FIS");
        guest.write_block(table, &fis(file))?;
        if let Some(packet) = packet {
            guest.label("ata packet");
            guest.write_block(table + TABLE_PACKET as u64, packet)?;
        }
        guest.label("ahci physical region descriptors");
        guest.write_block(table + TABLE_LENGTH as u64, &entries)?;
        let kind = packet.map_or(0, |_| PACKET) | if write { WRITE } else { 0 };
        let flags = FIS_WORDS | kind | count << 16;
        let mut header = Vec::with_capacity(32);
        header.extend(flags.to_le_bytes());
        header.extend(0u32.to_le_bytes());
        header.extend(table.to_le_bytes());
        header.resize(32, 0);
        guest.label("ahci command header");
        guest.write_block(self.list + 32 * u64::from(slot), &header)?;
        self.write(
            guest,
            "ahci command issue",
            offset::COMMAND_ISSUE,
            1 << slot,
        )?;
        Ok(table)
    }

    /// What became of the commands that were sent.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn state(&self, guest: &mut Guest) -> Result<State> {
        let interrupts = self.read(guest, offset::INTERRUPT_STATUS)?;
        if interrupts != 0 {
            let at = offset::INTERRUPT_STATUS;
            self.write(guest, "ahci interrupt status", at, interrupts)?;
            let at = self.adapter + host::INTERRUPTS;
            set(guest, "ahci interrupts", at, 1 << self.number)?;
        }
        let busy =
            self.read(guest, offset::SATA_ACTIVE)? | self.read(guest, offset::COMMAND_ISSUE)?;
        let failed = interrupts & ERRORS != 0;
        let file = if failed {
            self.read(guest, offset::TASK_FILE)?
        } else {
            0
        };
        let [status, error, ..] = file.to_le_bytes();
        Ok(State {
            busy,
            failed,
            status,
            error,
        })
    }
}

/// The entries of memory of a command table (section 4.2.3.3).
fn entries(data: &Buffer) -> Result<Vec<u8>> {
    let mut entries = Vec::new();
    for &(start, length) in &data.pieces {
        if start % 2 != 0 || length % 2 != 0 || length == 0 {
            return Err(Error::device(NAME, "memory is named by pairs of bytes"));
        }
        let mut done = 0;
        while done < length {
            let now = (length - done).min(ENTRY_LONGEST);
            entries.extend((start + u64::from(done)).to_le_bytes());
            entries.extend(0u32.to_le_bytes());
            entries.extend((now - 1).to_le_bytes());
            done += now;
        }
    }
    Ok(entries)
}

/// The FIS that carries a command to the disk: Register, host to device (Serial ATA 2.6,
/// section 10.3.4).
fn fis(file: &TaskFile) -> [u8; 20] {
    const HOST_TO_DEVICE: u8 = 0x27;
    const COMMAND: u8 = 1 << 7;
    let lba = file.lba.to_le_bytes();
    let [features, features_high] = file.features.to_le_bytes();
    let [count, count_high] = file.count.to_le_bytes();
    let high = |byte: u8| if file.wide { byte } else { 0 };
    let mut fis = [0; 20];
    fis[..4].copy_from_slice(&[HOST_TO_DEVICE, COMMAND, file.command, features]);
    fis[4..8].copy_from_slice(&[lba[0], lba[1], lba[2], file.device_register()]);
    fis[8..12].copy_from_slice(&[high(lba[3]), high(lba[4]), high(lba[5]), features_high]);
    fis[12..14].copy_from_slice(&[count, count_high]);
    fis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fis_carries_a_task_file() {
        let file = TaskFile::queued(NAME, false, true, 2, 0x0102_0304_0506, 0x1234).unwrap();
        assert_eq!(
            fis(&file)[..14],
            [0x27, 0x80, 0x60, 0x34, 6, 5, 4, 0xc0, 3, 2, 1, 0x12, 16, 0]
        );
    }

    #[test]
    fn long_pieces_take_several_entries() {
        let buffer = |start, length| Buffer {
            pieces: vec![(start, length)],
        };
        let bytes = entries(&buffer(0x1000, (4 << 20) + 2)).unwrap();
        assert_eq!(bytes.len(), 32);
        assert_eq!(bytes[12..16], [0xff, 0xff, 0x3f, 0]);
        assert_eq!(bytes[16..20], [0, 0x10, 0x40, 0]);
        assert_eq!(bytes[28..], [1, 0, 0, 0]);
        assert!(entries(&buffer(0x1001, 2)).is_err());
    }
}
