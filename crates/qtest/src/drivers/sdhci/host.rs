//! A host controller: its registers, and commands without data.
//!
//! SD Host Controller Simplified Specification 3.00.

use super::NAME;
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};
use crate::op::{Op, Width};

/// Registers (section 2).
pub(super) mod register {
    pub(in super::super) const SDMA_ADDRESS: u64 = 0x00;
    pub(in super::super) const BLOCK_SIZE: u64 = 0x04;
    pub(in super::super) const BLOCK_COUNT: u64 = 0x06;
    pub(super) const ARGUMENT: u64 = 0x08;
    pub(super) const TRANSFER_MODE: u64 = 0x0c;
    pub(super) const COMMAND: u64 = 0x0e;
    pub(super) const RESPONSE: u64 = 0x10;
    pub(super) const DATA: u64 = 0x20;
    pub(in super::super) const PRESENT_STATE: u64 = 0x24;
    pub(in super::super) const HOST_CONTROL: u64 = 0x28;
    pub(super) const POWER: u64 = 0x29;
    pub(super) const CLOCK: u64 = 0x2c;
    pub(super) const TIMEOUT: u64 = 0x2e;
    pub(super) const RESET: u64 = 0x2f;
    pub(super) const INTERRUPTS: u64 = 0x30;
    pub(super) const INTERRUPTS_ENABLED: u64 = 0x34;
    pub(super) const INTERRUPTS_SIGNALLED: u64 = 0x38;
    pub(in super::super) const CAPABILITIES: u64 = 0x40;
    pub(in super::super) const ADMA_ADDRESS: u64 = 0x58;
}

/// Interrupt status: normal interrupts in the low half, errors in the high one (sections 2.2.17
/// and 2.2.18).
pub(super) mod interrupt {
    pub(super) const COMMAND_COMPLETE: u32 = 1;
    pub(in super::super) const TRANSFER_COMPLETE: u32 = 1 << 1;
    pub(super) const ALL: u32 = 0x03ff_00ff;
    pub(in super::super) const ERRORS: u32 = 0xffff_8000;
}

/// Error interrupts and what they are called (section 2.2.18).
const ERRORS: &[(u32, &str)] = &[
    (1 << 16, "command timeout error"),
    (1 << 17, "command CRC error"),
    (1 << 18, "command end bit error"),
    (1 << 19, "command index error"),
    (1 << 20, "data timeout error"),
    (1 << 21, "data CRC error"),
    (1 << 22, "data end bit error"),
    (1 << 23, "current limit error"),
    (1 << 24, "auto CMD error"),
    (1 << 25, "ADMA error"),
];

/// Software reset (section 2.2.16): everything; the line of commands; the lines of data.
const RESET_ALL: u64 = 1;
const RESET_COMMAND: u64 = 1 << 1;
const RESET_DATA: u64 = 1 << 2;

/// Clock control (section 2.2.14): the internal clock, that it is stable, and the card's.
const CLOCK_INTERNAL: u64 = 1;
const CLOCK_STABLE: u64 = 1 << 1;
const CLOCK_CARD: u64 = 1 << 2;

/// Power control: on, with 3.3 V.
const POWER_ON: u64 = 0x0f;

/// Command register (section 2.2.6): data follow.
pub(super) const DATA_PRESENT: u16 = 1 << 5;

/// Present state (section 2.2.9): data can be written, and read.
const WRITE_READY: u64 = 1 << 10;
const READ_READY: u64 = 1 << 11;

/// What a card answers to a command (Physical Layer Specification, section 4.9), as flags of
/// the command register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response {
    None,
    /// The card's status.
    R1,
    /// The card's status, after which it may be busy.
    R1b,
    /// A register of 128 bits.
    R2,
    /// The operating conditions.
    R3,
    /// The card's address.
    R6,
    /// The card's interface conditions.
    R7,
}

impl Response {
    const fn flags(self) -> u16 {
        const LONG: u16 = 1;
        const SHORT: u16 = 2;
        const SHORT_BUSY: u16 = 3;
        const CHECK_CRC: u16 = 1 << 3;
        const CHECK_INDEX: u16 = 1 << 4;
        match self {
            Self::None => 0,
            Self::R1 | Self::R6 | Self::R7 => SHORT | CHECK_CRC | CHECK_INDEX,
            Self::R1b => SHORT_BUSY | CHECK_CRC | CHECK_INDEX,
            Self::R2 => LONG | CHECK_CRC,
            Self::R3 => SHORT,
        }
    }
}

/// What error interrupts are called.
pub(super) fn words(interrupts: u32) -> String {
    let set = ERRORS.iter().filter(|(bit, _)| interrupts & bit != 0);
    let words: Vec<&str> = set.map(|(_, word)| *word).collect();
    if words.is_empty() {
        format!("error interrupts {:#06x}", interrupts >> 16)
    } else {
        words.join(", ")
    }
}

/// A host controller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    registers: u64,
}

impl Host {
    /// With registers at this address.
    pub(super) const fn new(registers: u64) -> Self {
        Self { registers }
    }

    /// Reads a register.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn read(&self, guest: &mut Guest, width: Width, at: u64) -> Result<u64> {
        guest.read(width, self.registers + at)
    }

    /// Writes a register.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn write(
        &self,
        guest: &mut Guest,
        label: &'static str,
        width: Width,
        at: u64,
        value: u64,
    ) -> Result<()> {
        guest.label(label);
        guest.write(width, self.registers + at, value)
    }

    /// Resets the controller and gives the card power and a clock (sections 3.2 and 3.3).
    ///
    /// # Errors
    ///
    /// Fails if it does not come back.
    pub(super) fn reset(&self, guest: &mut Guest) -> Result<()> {
        self.reset_part(guest, RESET_ALL)?;
        self.write(
            guest,
            "sd power control",
            Width::B,
            register::POWER,
            POWER_ON,
        )?;
        let label = "sd clock control";
        self.write(guest, label, Width::W, register::CLOCK, CLOCK_INTERNAL)?;
        guest.wait(NAME, "a stable clock", |guest| {
            let clock = self.read(guest, Width::W, register::CLOCK)?;
            Ok((clock & CLOCK_STABLE != 0).then_some(()))
        })?;
        let clock = CLOCK_INTERNAL | CLOCK_CARD;
        self.write(guest, label, Width::W, register::CLOCK, clock)?;
        const LONGEST_TIMEOUT: u64 = 0x0e;
        let at = register::TIMEOUT;
        self.write(guest, "sd timeout control", Width::B, at, LONGEST_TIMEOUT)?;
        let all = interrupt::ALL.into();
        let label = "sd interrupt enable";
        self.write(guest, label, Width::L, register::INTERRUPTS_ENABLED, all)?;
        self.write(guest, label, Width::L, register::INTERRUPTS_SIGNALLED, all)
    }

    /// Resets the lines of commands and data after an error (section 3.10).
    ///
    /// # Errors
    ///
    /// Fails if they do not come back.
    pub(super) fn reset_lines(&self, guest: &mut Guest) -> Result<()> {
        self.reset_part(guest, RESET_COMMAND)?;
        self.reset_part(guest, RESET_DATA)?;
        self.write(guest, "sd block count", Width::W, register::BLOCK_COUNT, 0)?;
        self.acknowledge(guest, u32::MAX)
    }

    fn reset_part(&self, guest: &mut Guest, part: u64) -> Result<()> {
        self.write(guest, "sd software reset", Width::B, register::RESET, part)?;
        guest.wait(NAME, "the end of a reset", |guest| {
            let left = self.read(guest, Width::B, register::RESET)?;
            Ok((left & part == 0).then_some(()))
        })
    }

    /// The interrupts that came.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    #[expect(clippy::cast_possible_truncation, reason = "four bytes were read")]
    pub(super) fn interrupts(&self, guest: &mut Guest) -> Result<u32> {
        Ok(self.read(guest, Width::L, register::INTERRUPTS)? as u32)
    }

    /// Takes interrupts back.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn acknowledge(&self, guest: &mut Guest, interrupts: u32) -> Result<()> {
        let at = register::INTERRUPTS;
        self.write(
            guest,
            "sd interrupt status",
            Width::L,
            at,
            interrupts.into(),
        )
    }

    /// Sends a command without waiting; data follow if `mode` is given.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn send(
        &self,
        guest: &mut Guest,
        index: u8,
        argument: u32,
        response: Response,
        mode: Option<u16>,
    ) -> Result<()> {
        self.acknowledge(guest, u32::MAX)?;
        self.write(
            guest,
            "sd argument",
            Width::L,
            register::ARGUMENT,
            argument.into(),
        )?;
        let mut command = u16::from(index) << 8 | response.flags();
        if let Some(mode) = mode {
            command |= DATA_PRESENT;
            let at = register::TRANSFER_MODE;
            self.write(guest, "sd transfer mode", Width::W, at, mode.into())?;
        }
        self.write(
            guest,
            "sd command",
            Width::W,
            register::COMMAND,
            command.into(),
        )
    }

    /// Waits for the response to a command; what the controller objects to, if it does.
    ///
    /// # Errors
    ///
    /// Fails if nothing comes in time.
    pub(super) fn await_response(&self, guest: &mut Guest) -> Result<Result<(), String>> {
        let came = guest.wait(NAME, "the response to a command", |guest| {
            let came = self.interrupts(guest)?;
            let ended = interrupt::COMMAND_COMPLETE | interrupt::ERRORS;
            Ok((came & ended != 0).then_some(came))
        })?;
        if came & interrupt::ERRORS != 0 {
            self.reset_lines(guest)?;
            return Ok(Err(words(came)));
        }
        Ok(Ok(()))
    }

    /// Carries a command without data out; the first word of its response.
    ///
    /// # Errors
    ///
    /// Fails if the controller or the card objects.
    pub(super) fn command(
        &self,
        guest: &mut Guest,
        index: u8,
        argument: u32,
        response: Response,
    ) -> Result<u32> {
        self.send(guest, index, argument, response, None)?;
        if let Err(why) = self.await_response(guest)? {
            return Err(Error::device(NAME, format!("CMD{index}: {why}")));
        }
        self.response(guest, 0)
    }

    /// A word of the response, 0 to 3.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    #[expect(clippy::cast_possible_truncation, reason = "four bytes were read")]
    pub(super) fn response(&self, guest: &mut Guest, word: u64) -> Result<u32> {
        Ok(self.read(guest, Width::L, register::RESPONSE + 4 * word)? as u32)
    }

    /// Lets the processor transfer a block, if the controller is ready for it; whether it was.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn transfer(&self, guest: &mut Guest, write: bool, block: &Buffer) -> Result<bool> {
        let state = self.read(guest, Width::L, register::PRESENT_STATE)?;
        let ready = if write { WRITE_READY } else { READ_READY };
        if state & ready == 0 {
            return Ok(false);
        }
        let address = self.registers + register::DATA;
        let width = Width::L;
        if write {
            let bytes = guest.buffer_bytes(block)?;
            guest.label("sd data");
            let words = bytes.chunks(4).map(|word| {
                let value = word.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b));
                Op::Write {
                    width,
                    address,
                    value,
                }
            });
            guest.run_all(words.collect())?;
        } else {
            let count = block.len() / 4;
            let ops = (0..count).map(|_| Op::Read { width, address });
            let answers = guest.run_all(ops.collect())?;
            let words = answers.iter().map(|a| a.value().to_le_bytes());
            let bytes: Vec<u8> = words.flat_map(|w| w.into_iter().take(4)).collect();
            guest.label("data");
            guest.fill_buffer(block, &bytes)?;
        }
        Ok(true)
    }
}
