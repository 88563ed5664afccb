//! A card: how it is woken up, and what it says of itself.
//!
//! SD Physical Layer Simplified Specification 3.01.

use super::NAME;
use super::host::{Host, Response, register};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;

/// Commands (section 4.7.4).
pub(super) mod command {
    pub(super) const GO_IDLE_STATE: u8 = 0;
    pub(super) const ALL_SEND_CID: u8 = 2;
    pub(super) const SEND_RELATIVE_ADDRESS: u8 = 3;
    pub(super) const SELECT_CARD: u8 = 7;
    pub(super) const SEND_INTERFACE_CONDITION: u8 = 8;
    pub(super) const SEND_CSD: u8 = 9;
    pub(in super::super) const STOP_TRANSMISSION: u8 = 12;
    pub(in super::super) const SEND_STATUS: u8 = 13;
    pub(super) const SET_BLOCK_LENGTH: u8 = 16;
    pub(in super::super) const READ_SINGLE_BLOCK: u8 = 17;
    pub(in super::super) const READ_MULTIPLE_BLOCK: u8 = 18;
    pub(in super::super) const WRITE_BLOCK: u8 = 24;
    pub(in super::super) const WRITE_MULTIPLE_BLOCK: u8 = 25;
    pub(in super::super) const ERASE_START: u8 = 32;
    pub(in super::super) const ERASE_END: u8 = 33;
    pub(in super::super) const ERASE: u8 = 38;
    pub(super) const APPLICATION: u8 = 55;
    /// Of applications.
    pub(super) const SET_BUS_WIDTH: u8 = 6;
    pub(super) const SEND_OPERATING_CONDITION: u8 = 41;
}

/// Interface condition: 2.7 to 3.6 V, and a pattern that is sent back (section 4.3.13).
const CONDITION: u32 = 0x1aa;

/// Operating condition: the card is awake; blocks have addresses of their own (section 5.1).
const AWAKE: u32 = 1 << 31;
const HIGH_CAPACITY: u32 = 1 << 30;
/// All voltages.
const VOLTAGES: u32 = 0x00ff_8000;

/// Host control 1: four lines of data.
const FOUR_LINES: u64 = 1 << 1;

/// Bits of the card's status that are errors, and what they are called (section 4.10.1).
const ERRORS: &[(u32, &str)] = &[
    (1 << 31, "out of range"),
    (1 << 30, "address error"),
    (1 << 29, "block length error"),
    (1 << 28, "erase sequence error"),
    (1 << 27, "erase parameter error"),
    (1 << 26, "write protection violation"),
    (1 << 24, "lock or unlock failed"),
    (1 << 23, "CRC error of the command"),
    (1 << 22, "illegal command"),
    (1 << 21, "card ECC failed"),
    (1 << 20, "card controller error"),
    (1 << 19, "error"),
    (1 << 15, "write protected blocks were not erased"),
];

/// What a card's status says; nothing if there is no error.
pub(super) fn errors(status: u32) -> Option<String> {
    let set = ERRORS.iter().filter(|(bit, _)| status & bit != 0);
    let words: Vec<&str> = set.map(|(_, word)| *word).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Whether the card still transfers data: in the states data and rcv (section 4.10.1).
pub(super) const fn transfers(status: u32) -> bool {
    matches!(status >> 9 & 15, 5 | 6)
}

/// A card that is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Card {
    /// Its address on the bus.
    pub(super) address: u16,
    /// Whether blocks have addresses, not bytes.
    pub(super) by_block: bool,
    /// In bytes.
    pub(super) size: u64,
    /// Whether blocks can be erased.
    pub(super) erase: bool,
}

impl Card {
    /// Wakes a card up (section 4.2), while the controller has just been reset.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or it does not answer.
    pub(super) fn wake(guest: &mut Guest, host: &Host) -> Result<Self> {
        host.command(guest, command::GO_IDLE_STATE, 0, Response::None)?;
        let condition = command::SEND_INTERFACE_CONDITION;
        let echo = host.command(guest, condition, CONDITION, Response::R7)?;
        if echo & 0xfff != CONDITION {
            let what = format!("CMD8 is answered with {echo:#010x}");
            return Err(Error::device(NAME, what));
        }
        let operating = guest.wait(NAME, "a card that is awake", |guest| {
            host.command(guest, command::APPLICATION, 0, Response::R1)?;
            let wanted = HIGH_CAPACITY | VOLTAGES;
            let index = command::SEND_OPERATING_CONDITION;
            let operating = host.command(guest, index, wanted, Response::R3)?;
            Ok((operating & AWAKE != 0).then_some(operating))
        })?;
        host.command(guest, command::ALL_SEND_CID, 0, Response::R2)?;
        let given = host.command(guest, command::SEND_RELATIVE_ADDRESS, 0, Response::R6)?;
        let address = (given >> 16) as u16;
        let whole = u32::from(address) << 16;
        host.command(guest, command::SEND_CSD, whole, Response::R2)?;
        let mut words = [0; 4];
        for (word, index) in words.iter_mut().zip(0..) {
            *word = host.response(guest, index)?;
        }
        let (size, erase) = specific(&words)?;
        host.command(guest, command::SELECT_CARD, whole, Response::R1b)?;
        host.command(guest, command::SET_BLOCK_LENGTH, 512, Response::R1)?;
        host.command(guest, command::APPLICATION, whole, Response::R1)?;
        const FOUR: u32 = 2;
        host.command(guest, command::SET_BUS_WIDTH, FOUR, Response::R1)?;
        let at = register::HOST_CONTROL;
        host.write(guest, "sd host control", Width::B, at, FOUR_LINES)?;
        Ok(Self {
            address,
            by_block: operating & HIGH_CAPACITY != 0,
            size,
            erase,
        })
    }

    /// The card's status (R1).
    ///
    /// # Errors
    ///
    /// Fails if it does not answer.
    pub(super) fn status(&self, guest: &mut Guest, host: &Host) -> Result<u32> {
        let argument = u32::from(self.address) << 16;
        host.command(guest, command::SEND_STATUS, argument, Response::R1)
    }
}

/// The size in bytes from the register CSD, and whether blocks can be erased (section 5.3). The
/// controller leaves the last byte out.
fn specific(words: &[u32; 4]) -> Result<(u64, bool)> {
    const ERASE_CLASS: u64 = 1 << 5;
    let bits = |low: u32, count: u32| -> u64 {
        let whole = words.iter().rev().fold(0, |v, &w| v << 32 | u128::from(w)) << 8;
        u64::try_from(whole >> low & ((1 << count) - 1)).unwrap_or(u64::MAX)
    };
    let erase = bits(84, 12) & ERASE_CLASS != 0;
    match bits(126, 2) {
        0 => {
            let (length, multiplier) = (bits(80, 4), bits(47, 3) + 2);
            Ok(((bits(62, 12) + 1) << (length + multiplier), erase))
        }
        1 => Ok(((bits(48, 22) + 1) * (512 << 10), erase)),
        other => {
            let what = format!("version {other} of the register CSD");
            Err(Error::device(NAME, what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the controller shows the register.
    fn words(csd: [u8; 15]) -> [u32; 4] {
        let whole = csd.iter().fold(0u128, |v, &b| v << 8 | u128::from(b));
        [0, 32, 64, 96].map(|shift| u32::try_from(whole >> shift & 0xffff_ffff).unwrap())
    }

    #[test]
    fn sizes_of_both_kinds_of_cards() {
        // A card of 2 MiB: C_SIZE 7, C_SIZE_MULT 7, READ_BL_LEN 9.
        let small = [
            0, 0x26, 0, 0x32, 0x5f, 0x59, 0xe0, 1, 0xff, 0xff, 0xc0, 0, 0, 0, 0,
        ];
        assert_eq!(specific(&words(small)).unwrap(), (2 << 20, true));
        let large = [
            0x40, 0xe, 0, 0x32, 0x5b, 0x59, 0, 0, 0x1f, 0xff, 0, 0, 0, 0, 0,
        ];
        assert_eq!(specific(&words(large)).unwrap(), (4 << 30, true));
        assert!(specific(&words([0x80; 15])).is_err());
    }

    #[test]
    fn a_status_has_words() {
        assert_eq!(errors(0x900), None);
        assert_eq!(errors(0x4000_0900).as_deref(), Some("address error"));
        assert!(transfers(0xa00) && !transfers(0x900));
    }
}
