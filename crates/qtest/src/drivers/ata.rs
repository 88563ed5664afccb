//! Commands of ATA disks, whatever they are plugged into.
//!
//! ATA8-ACS (T13/1699-D).

use crate::block::Status;
use crate::error::{Error, Result};

/// The length of a sector that commands count in, unless the disk says otherwise: in bytes.
pub const SECTOR: u32 = 512;

/// Codes of commands (section 7).
pub mod command {
    /// Data Set Management: trim.
    pub const DATA_SET_MANAGEMENT: u8 = 0x06;
    /// Read by the processor; 28 and 48 bits.
    pub const READ_SECTORS: u8 = 0x20;
    /// With 48 bits.
    pub const READ_SECTORS_EXT: u8 = 0x24;
    /// Read by DMA, 48 bits.
    pub const READ_DMA_EXT: u8 = 0x25;
    /// Read by the processor, several sectors at a time, 48 bits.
    pub const READ_MULTIPLE_EXT: u8 = 0x29;
    /// Write by the processor.
    pub const WRITE_SECTORS: u8 = 0x30;
    /// With 48 bits.
    pub const WRITE_SECTORS_EXT: u8 = 0x34;
    /// Write by DMA, 48 bits.
    pub const WRITE_DMA_EXT: u8 = 0x35;
    /// Write by the processor, several sectors at a time, 48 bits.
    pub const WRITE_MULTIPLE_EXT: u8 = 0x39;
    /// Write by DMA, to the medium, 48 bits.
    pub const WRITE_DMA_FUA_EXT: u8 = 0x3d;
    /// A SCSI command for a drive of packets follows (ATA/ATAPI-7 volume 1, section 6.25).
    pub const PACKET: u8 = 0xa0;
    /// What a drive of packets is.
    pub const IDENTIFY_PACKET_DEVICE: u8 = 0xa1;
    /// Read, one of several commands that the disk has queued.
    pub const READ_FPDMA_QUEUED: u8 = 0x60;
    /// Write, one of several commands that the disk has queued.
    pub const WRITE_FPDMA_QUEUED: u8 = 0x61;
    /// Read by the processor, several sectors at a time.
    pub const READ_MULTIPLE: u8 = 0xc4;
    /// Write by the processor, several sectors at a time.
    pub const WRITE_MULTIPLE: u8 = 0xc5;
    /// How many sectors these are.
    pub const SET_MULTIPLE_MODE: u8 = 0xc6;
    /// Read by DMA.
    pub const READ_DMA: u8 = 0xc8;
    /// Write by DMA.
    pub const WRITE_DMA: u8 = 0xca;
    /// All that was written is on the medium.
    pub const FLUSH_CACHE: u8 = 0xe7;
    /// The same of a disk with 48 bits.
    pub const FLUSH_CACHE_EXT: u8 = 0xea;
    /// What the disk is.
    pub const IDENTIFY_DEVICE: u8 = 0xec;
}

/// The feature of Data Set Management (section 7.5).
const TRIM: u16 = 1;

/// The device register: blocks are counted from 0 (LBA).
const DEVICE_LBA: u8 = 1 << 6;

/// The device register of NCQ: Force Unit Access.
const DEVICE_FUA: u8 = 1 << 7;

/// Bits of the status register (section 6.3).
pub mod status {
    /// The disk is busy.
    pub const BUSY: u8 = 1 << 7;
    /// It is not as it should be.
    pub const FAULT: u8 = 1 << 5;
    /// Data can be transferred.
    pub const DATA_REQUEST: u8 = 1 << 3;
    /// The command failed.
    pub const ERROR: u8 = 1;
}

/// Bits of the error register (section 6.2) and what they are called.
const ERRORS: &[(u8, &str)] = &[
    (1 << 7, "interface CRC error"),
    (1 << 6, "uncorrectable error"),
    (1 << 4, "ID not found"),
    (1 << 2, "command aborted"),
];

/// What the status and the error register say of a command that has ended.
#[must_use]
pub fn outcome(status: u8, error: u8) -> Status {
    if status & (status::ERROR | status::FAULT) == 0 {
        return Status::Done;
    }
    let mut words: Vec<&str> = ERRORS
        .iter()
        .filter(|(bit, _)| error & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if status & status::FAULT != 0 {
        words.push("device fault");
    }
    let why = if words.is_empty() {
        format!("status {status:#04x}, error {error:#04x}")
    } else {
        words.join(", ")
    };
    Status::Failed { why }
}

/// What registers hold when a command is sent: a task file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskFile {
    /// See [`command`].
    pub command: u8,
    /// 16 bits with 48-bit commands, else 8.
    pub features: u16,
    /// The number of sectors, 0 for the largest: 16 bits with 48-bit commands, else 8.
    pub count: u16,
    /// The first sector; 28 bits of it with 28-bit commands.
    pub lba: u64,
    /// The device register, without bits of the LBA.
    pub device: u8,
    /// Whether the registers are written twice.
    pub wide: bool,
}

impl TaskFile {
    /// Of a command without an address.
    #[must_use]
    pub const fn plain(command: u8) -> Self {
        Self {
            command,
            features: 0,
            count: 0,
            lba: 0,
            device: DEVICE_LBA,
            wide: false,
        }
    }

    /// Of a command with 28 bits, for up to 256 sectors.
    ///
    /// # Errors
    ///
    /// Fails if the place cannot be expressed.
    pub fn narrow(device: &'static str, command: u8, lba: u64, sectors: u64) -> Result<Self> {
        if sectors == 0 || sectors > 256 || lba >= 1 << 28 {
            return Err(Error::device(device, "a 28-bit command cannot express it"));
        }
        Ok(Self {
            count: u16::try_from(sectors % 256).unwrap_or(0),
            lba,
            ..Self::plain(command)
        })
    }

    /// Of a command with 48 bits, for up to 65536 sectors.
    ///
    /// # Errors
    ///
    /// Fails if the place cannot be expressed.
    pub fn wide(device: &'static str, command: u8, lba: u64, sectors: u64) -> Result<Self> {
        if sectors == 0 || sectors > 1 << 16 || lba >= 1 << 48 {
            return Err(Error::device(device, "a 48-bit command cannot express it"));
        }
        Ok(Self {
            count: u16::try_from(sectors % (1 << 16)).unwrap_or(0),
            lba,
            wide: true,
            ..Self::plain(command)
        })
    }

    /// Of a queued command with this tag, 0 to 31 (section 7.24).
    ///
    /// # Errors
    ///
    /// Fails if the place cannot be expressed.
    pub fn queued(
        device: &'static str,
        write: bool,
        fua: bool,
        tag: u8,
        lba: u64,
        sectors: u64,
    ) -> Result<Self> {
        let command = if write {
            command::WRITE_FPDMA_QUEUED
        } else {
            command::READ_FPDMA_QUEUED
        };
        let mut file = Self::wide(device, command, lba, sectors)?;
        // The number of sectors is in the features, the tag in the count.
        file.features = file.count;
        file.count = u16::from(tag) << 3;
        file.device = DEVICE_LBA | if fua { DEVICE_FUA } else { 0 };
        Ok(file)
    }

    /// Of a trim whose ranges take this many sectors of data (section 7.5).
    #[must_use]
    pub const fn trim(sectors: u16) -> Self {
        let mut file = Self::plain(command::DATA_SET_MANAGEMENT);
        file.features = TRIM;
        file.count = sectors;
        file.wide = true;
        file
    }

    /// Of a packet whose data are transferred by DMA, or in pieces by the processor
    /// (ATA/ATAPI-7 volume 1, section 6.25).
    #[must_use]
    pub const fn packet(dma: bool) -> Self {
        const LONGEST_PIECE: u64 = 0xfffe;
        let mut file = Self::plain(command::PACKET);
        file.features = dma as u16;
        file.lba = LONGEST_PIECE << 8;
        file
    }

    /// The device register.
    #[must_use]
    pub const fn device_register(&self) -> u8 {
        if self.wide {
            self.device
        } else {
            self.device | (self.lba >> 24 & 15) as u8
        }
    }
}

/// The length of a packet in bytes.
pub const PACKET: usize = 12;

/// The most that a command in a packet transfers here, in bytes.
pub const LONGEST_TRANSFER: u64 = 256 << 10;

/// A SCSI command as a packet.
///
/// # Errors
///
/// Fails if it is too long for one.
pub fn packet(device: &'static str, cdb: &[u8]) -> Result<[u8; PACKET]> {
    let mut packet = [0; PACKET];
    let Some(start) = packet.get_mut(..cdb.len()) else {
        return Err(Error::device(device, "a packet has 12 bytes"));
    };
    start.copy_from_slice(cdb);
    Ok(packet)
}

/// The ranges of a trim as data: whole sectors (section 7.5, table 12).
///
/// # Errors
///
/// Fails if they do not fit a command.
pub fn trim_ranges(device: &'static str, lba: u64, sectors: u64) -> Result<Vec<u8>> {
    const LONGEST: u64 = 0xffff;
    const MOST: usize = 64;
    let mut bytes = Vec::new();
    let mut done = 0;
    while done < sectors {
        let now = (sectors - done).min(LONGEST);
        bytes.extend(((lba + done) | (now << 48)).to_le_bytes());
        done += now;
    }
    let length = bytes.len().max(1).next_multiple_of(SECTOR as usize);
    if sectors == 0 || length > MOST * SECTOR as usize || lba + sectors > 1 << 48 {
        return Err(Error::device(device, "a trim cannot express it"));
    }
    bytes.resize(length, 0);
    Ok(bytes)
}

/// What a disk says of itself (section 7.16).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// In sectors.
    pub sectors: u64,
    /// In bytes.
    pub sector_size: u32,
    /// Whether it takes commands of 48 bits.
    pub wide: bool,
    /// Whether it can be flushed, and with 48 bits.
    pub flush: bool,
    /// Flush Cache Ext.
    pub flush_wide: bool,
    /// Write DMA FUA Ext.
    pub fua: bool,
    /// Trim.
    pub trim: bool,
    /// How many commands it queues; none where it does not.
    pub queued: Option<u8>,
    /// The most sectors that go at a time with Read Multiple.
    pub multiple: u8,
}

impl Identity {
    /// From 256 words.
    ///
    /// # Errors
    ///
    /// Fails if it is no disk, or has sectors of an impossible size.
    pub fn parse(device: &'static str, bytes: &[u8]) -> Result<Self> {
        let word = |at: usize| -> u16 {
            let pair = bytes.get(2 * at..2 * at + 2);
            pair.map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
        };
        let long = |at: usize, words: usize| {
            let each = (0..words).rev().map(|i| u64::from(word(at + i)));
            each.fold(0, |value, w| value << 16 | w)
        };
        // Compact flash cards have a word of their own here.
        if word(0) & 0x8000 != 0 && word(0) != 0x848a {
            return Err(Error::device(device, "it is no disk"));
        }
        // Words with bits 15:14 other than 01 say nothing.
        let valid = |at: usize| {
            let value = word(at);
            if value >> 14 == 1 { value } else { 0 }
        };
        let commands = valid(83);
        let wide = commands & 1 << 10 != 0;
        let sector_size = if valid(106) & 1 << 12 != 0 {
            u32::try_from(2 * long(117, 2)).unwrap_or(u32::MAX)
        } else {
            SECTOR
        };
        if !sector_size.is_power_of_two() || sector_size < SECTOR {
            let what = format!("sectors of {sector_size} bytes");
            return Err(Error::device(device, what));
        }
        #[expect(clippy::cast_possible_truncation, reason = "bits that are left")]
        Ok(Self {
            sectors: if wide { long(100, 4) } else { long(60, 2) },
            sector_size,
            wide,
            flush: commands & 1 << 12 != 0,
            flush_wide: commands & 1 << 13 != 0,
            fua: valid(84) & 1 << 6 != 0,
            trim: word(169) & 1 != 0,
            queued: (word(76) & 1 << 8 != 0).then(|| (word(75) & 31) as u8 + 1),
            multiple: word(47) as u8,
        })
    }

    /// In bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.sectors.saturating_mul(self.sector_size as u64)
    }

    /// The sectors of a part of the disk: the first, and how many.
    ///
    /// # Errors
    ///
    /// Fails if these are not whole sectors.
    pub fn sectors(&self, device: &'static str, offset: u64, length: u64) -> Result<(u64, u64)> {
        let size = u64::from(self.sector_size);
        if !offset.is_multiple_of(size) || !length.is_multiple_of(size) || length == 0 {
            return Err(Error::device(device, "a command is for whole sectors"));
        }
        Ok((offset / size, length / size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_identified() {
        let mut words = [0u16; 256];
        words[0] = 0x40;
        words[47] = 0x8010;
        (words[60], words[61]) = (5, 1);
        (words[75], words[76]) = (31, 1 << 8);
        words[83] = 1 << 14 | 1 << 13 | 1 << 12 | 1 << 10;
        words[100] = 7;
        words[169] = 1;
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let identity = Identity::parse("ata", &bytes).unwrap();
        assert_eq!((identity.size(), identity.queued), (3584, Some(32)));
        assert!(identity.wide && identity.flush_wide && identity.trim && !identity.fua);
        assert_eq!(identity.multiple, 16);
        words[83] = 0;
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(Identity::parse("ata", &bytes).unwrap().sectors, 0x10005);
        assert_eq!(Identity::parse("ata", &[]).unwrap().sectors, 0);
        assert!(Identity::parse("ata", &[0, 0x80]).is_err());
    }

    #[test]
    fn task_files_have_the_largest_count_as_none() {
        let narrow = TaskFile::narrow("ata", command::READ_DMA, 0x0abc_def0, 256).unwrap();
        assert_eq!((narrow.count, narrow.device_register()), (0, 0x4a));
        let wide = TaskFile::wide("ata", command::READ_DMA_EXT, 1 << 28, 1 << 16).unwrap();
        assert_eq!((wide.count, wide.device_register()), (0, 0x40));
        let queued = TaskFile::queued("ata", true, true, 3, 1, 8).unwrap();
        assert_eq!(
            (queued.features, queued.count, queued.device),
            (8, 24, 0xc0)
        );
        assert!(TaskFile::narrow("ata", command::READ_DMA, 1 << 28, 1).is_err());
    }

    #[test]
    fn ranges_fill_sectors() {
        let bytes = trim_ranges("ata", 8, 0x1_0000).unwrap();
        assert_eq!(bytes.len(), 512);
        assert_eq!(
            bytes[..16],
            [8, 0, 0, 0, 0, 0, 0xff, 0xff, 7, 0, 1, 0, 0, 0, 1, 0]
        );
        assert!(trim_ranges("ata", 8, 1 << 40).is_err());
    }

    #[test]
    fn an_outcome_has_words() {
        assert_eq!(outcome(0x50, 0xff), Status::Done);
        let why = "ID not found, command aborted".to_owned();
        assert_eq!(outcome(0x51, 0x14), Status::Failed { why });
    }
}
