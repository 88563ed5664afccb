//! Command descriptor blocks: SPC-4 chapter 6, SBC-3 chapter 5, MMC-6 chapter 6.

use super::sense;

/// Operation codes: the first byte.
pub mod opcode {
    /// TEST UNIT READY, SPC-4 6.47.
    pub const TEST_UNIT_READY: u8 = 0x00;
    /// REQUEST SENSE, SPC-4 6.39.
    pub const REQUEST_SENSE: u8 = 0x03;
    /// INQUIRY, SPC-4 6.6.
    pub const INQUIRY: u8 = 0x12;
    /// MODE SENSE(6), SPC-4 6.13.
    pub const MODE_SENSE_6: u8 = 0x1a;
    /// START STOP UNIT, MMC-6 6.42.
    pub const START_STOP_UNIT: u8 = 0x1b;
    /// PREVENT ALLOW MEDIUM REMOVAL, SPC-4 and MMC-6 6.18.
    pub const PREVENT_ALLOW_MEDIUM_REMOVAL: u8 = 0x1e;
    /// READ CAPACITY(10), SBC-3 5.15.
    pub const READ_CAPACITY_10: u8 = 0x25;
    /// READ(10), SBC-3 5.11.
    pub const READ_10: u8 = 0x28;
    /// WRITE(10), SBC-3 5.38.
    pub const WRITE_10: u8 = 0x2a;
    /// SYNCHRONIZE CACHE(10), SBC-3 5.24.
    pub const SYNCHRONIZE_CACHE_10: u8 = 0x35;
    /// UNMAP, SBC-3 5.28.
    pub const UNMAP: u8 = 0x42;
    /// GET EVENT STATUS NOTIFICATION, MMC-6 6.5.
    pub const GET_EVENT_STATUS_NOTIFICATION: u8 = 0x4a;
    /// READ(16), SBC-3 5.13.
    pub const READ_16: u8 = 0x88;
    /// WRITE(16), SBC-3 5.40.
    pub const WRITE_16: u8 = 0x8a;
    /// WRITE SAME(16), SBC-3 5.50.
    pub const WRITE_SAME_16: u8 = 0x93;
    /// SERVICE ACTION IN(16), SPC-4: the second byte says which.
    pub const SERVICE_ACTION_IN_16: u8 = 0x9e;
}

/// Force Unit Access, in the second byte of reads and writes.
const FUA: u8 = 1 << 3;

/// TEST UNIT READY.
#[must_use]
pub fn test_unit_ready() -> Vec<u8> {
    vec![opcode::TEST_UNIT_READY, 0, 0, 0, 0, 0]
}

/// REQUEST SENSE for sense data of the fixed format.
#[must_use]
pub fn request_sense() -> Vec<u8> {
    vec![opcode::REQUEST_SENSE, 0, 0, 0, sense::LENGTH, 0]
}

/// INQUIRY for the standard data, or for a page of vital product data.
#[must_use]
pub fn inquiry(page: Option<u8>, length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    let (vpd, page) = page.map_or((0, 0), |page| (1, page));
    vec![opcode::INQUIRY, vpd, page, high, low, 0]
}

/// MODE SENSE(6) for the current values of a page.
#[must_use]
pub fn mode_sense(page: u8, length: u8) -> Vec<u8> {
    vec![opcode::MODE_SENSE_6, 0, page, 0, length, 0]
}

/// START STOP UNIT for the tray of a drive: open it, or close it.
#[must_use]
pub fn move_tray(open: bool) -> Vec<u8> {
    const LOAD_EJECT: u8 = 1 << 1;
    const START: u8 = 1;
    let action = if open { 0 } else { START };
    vec![opcode::START_STOP_UNIT, 0, 0, 0, LOAD_EJECT | action, 0]
}

/// PREVENT ALLOW MEDIUM REMOVAL: whether the medium is to stay where it is.
#[must_use]
pub fn prevent_removal(prevent: bool) -> Vec<u8> {
    vec![
        opcode::PREVENT_ALLOW_MEDIUM_REMOVAL,
        0,
        0,
        0,
        prevent.into(),
        0,
    ]
}

/// GET EVENT STATUS NOTIFICATION without waiting, for what happened to the medium: the answer
/// has [`MEDIA_EVENT_LENGTH`] bytes.
#[must_use]
pub fn media_event() -> Vec<u8> {
    const POLLED: u8 = 1;
    const MEDIA: u8 = 1 << 4;
    let [high, low] = MEDIA_EVENT_LENGTH.to_be_bytes();
    let mut cdb = vec![
        opcode::GET_EVENT_STATUS_NOTIFICATION,
        POLLED,
        0,
        0,
        MEDIA,
        0,
        0,
    ];
    cdb.extend([high, low, 0]);
    cdb
}

/// In bytes; the event is in the low four bits of the fifth, the state of the tray in the sixth
/// (MMC-6 6.5.2.6).
pub const MEDIA_EVENT_LENGTH: u16 = 8;

/// READ CAPACITY(10).
#[must_use]
pub fn read_capacity_10() -> Vec<u8> {
    vec![opcode::READ_CAPACITY_10, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// READ CAPACITY(16), SBC-3 5.16.
#[must_use]
pub fn read_capacity_16(length: u32) -> Vec<u8> {
    const READ_CAPACITY: u8 = 0x10;
    long(opcode::SERVICE_ACTION_IN_16, READ_CAPACITY, 0, length)
}

/// READ(10).
#[must_use]
pub fn read_10(lba: u32, blocks: u16) -> Vec<u8> {
    short(opcode::READ_10, 0, lba, blocks)
}

/// READ(16).
#[must_use]
pub fn read_16(lba: u64, blocks: u32) -> Vec<u8> {
    long(opcode::READ_16, 0, lba, blocks)
}

/// WRITE(10).
#[must_use]
pub fn write_10(lba: u32, blocks: u16, fua: bool) -> Vec<u8> {
    short(opcode::WRITE_10, if fua { FUA } else { 0 }, lba, blocks)
}

/// WRITE(16).
#[must_use]
pub fn write_16(lba: u64, blocks: u32, fua: bool) -> Vec<u8> {
    long(opcode::WRITE_16, if fua { FUA } else { 0 }, lba, blocks)
}

/// SYNCHRONIZE CACHE(10); no blocks are all up to the end.
#[must_use]
pub fn synchronize_cache_10(lba: u32, blocks: u16) -> Vec<u8> {
    short(opcode::SYNCHRONIZE_CACHE_10, 0, lba, blocks)
}

/// WRITE SAME(16); with `unmap`, blocks may be given up if they read as zeroes then.
#[must_use]
pub fn write_same_16(lba: u64, blocks: u32, unmap: bool) -> Vec<u8> {
    const UNMAP: u8 = 1 << 3;
    let flags = if unmap { UNMAP } else { 0 };
    long(opcode::WRITE_SAME_16, flags, lba, blocks)
}

/// UNMAP with a parameter list of `length` bytes: see [`unmap_parameters`].
#[must_use]
pub fn unmap(length: u16) -> Vec<u8> {
    short(opcode::UNMAP, 0, 0, length)
}

/// The parameter list of UNMAP, SBC-3 5.28.2: first block and number of blocks of each range.
#[must_use]
pub fn unmap_parameters(ranges: &[(u64, u32)]) -> Vec<u8> {
    let descriptors = u16::try_from(16 * ranges.len()).unwrap_or(u16::MAX);
    let mut list = Vec::new();
    list.extend((descriptors.saturating_add(6)).to_be_bytes());
    list.extend(descriptors.to_be_bytes());
    list.extend([0; 4]);
    for (lba, blocks) in ranges {
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
    }
    list
}

fn short(opcode: u8, flags: u8, lba: u32, length: u16) -> Vec<u8> {
    let mut cdb = vec![opcode, flags];
    cdb.extend(lba.to_be_bytes());
    cdb.push(0);
    cdb.extend(length.to_be_bytes());
    cdb.push(0);
    cdb
}

fn long(opcode: u8, flags: u8, lba: u64, length: u32) -> Vec<u8> {
    let mut cdb = vec![opcode, flags];
    cdb.extend(lba.to_be_bytes());
    cdb.extend(length.to_be_bytes());
    cdb.extend([0, 0]);
    cdb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_standards_have_them() {
        assert_eq!(
            read_10(0x0102_0304, 0x0506),
            [0x28, 0, 1, 2, 3, 4, 0, 5, 6, 0]
        );
        assert_eq!(
            write_16(0x0102_0304_0506_0708, 0x090a_0b0c, true),
            [0x8a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0]
        );
        assert_eq!(
            unmap_parameters(&[(1, 2)]),
            [
                0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0
            ]
        );
        assert_eq!(inquiry(Some(0xb0), 64), [0x12, 1, 0xb0, 0, 64, 0]);
        assert_eq!(media_event(), [0x4a, 1, 0, 0, 16, 0, 0, 0, 8, 0]);
        assert_eq!(move_tray(true), [0x1b, 0, 0, 0, 2, 0]);
    }
}
