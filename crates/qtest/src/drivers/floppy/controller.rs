//! The controller, and the channel of the DMA controller that it has on PCs.
//!
//! Intel 82077AA data sheet, sections 2 and 5; Intel 8237A data sheet.

use super::NAME;
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::{Op, Width};

/// Ports (82077AA, section 2.1).
mod port {
    pub(super) const DIGITAL_OUTPUT: u16 = 0x3f2;
    pub(super) const MAIN_STATUS: u16 = 0x3f4;
    pub(super) const FIFO: u16 = 0x3f5;
    pub(super) const CONFIGURATION: u16 = 0x3f7;
}

/// Digital output: no reset, DMA and interrupts, the motor of the first drive.
const RUNNING: u32 = 1 << 2 | 1 << 3 | 1 << 4;

/// Main status (section 2.1.5): a byte can be transferred; to the processor.
const REQUEST: u32 = 1 << 7;
const TO_PROCESSOR: u32 = 1 << 6;
/// Main status: a command is on its way whose data the processor transfers.
const BY_PROCESSOR: u32 = 1 << 5;

/// Codes of commands (82077AA, section 5.1).
pub(super) mod command {
    pub(super) const SPECIFY: u8 = 0x03;
    pub(super) const SENSE_DRIVE: u8 = 0x04;
    pub(super) const RECALIBRATE: u8 = 0x07;
    pub(super) const SENSE_INTERRUPT: u8 = 0x08;
    pub(super) const SEEK: u8 = 0x0f;
    pub(in super::super) const WRITE: u8 = 0x05;
    pub(in super::super) const READ: u8 = 0x06;
    pub(super) const READ_ID: u8 = 0x0a;
    /// Modifiers: double density, and both heads.
    pub(in super::super) const MFM: u8 = 0x40;
    pub(in super::super) const MULTI_TRACK: u8 = 0x80;
}

/// The drive that is used.
pub(super) const DRIVE: u8 = 0;

/// Status register 0 says that there was no interrupt (section 4.1).
const INVALID_COMMAND: u8 = 0x80;

/// Ports of the DMA controller, for channel 2 (8237A, figure 4; the page is IBM's).
mod dma {
    pub(super) const ADDRESS: u16 = 0x04;
    pub(super) const COUNT: u16 = 0x05;
    pub(super) const MASK: u16 = 0x0a;
    pub(super) const MODE: u16 = 0x0b;
    pub(super) const CLEAR_FLIP_FLOP: u16 = 0x0c;
    pub(super) const PAGE: u16 = 0x81;
    pub(super) const CHANNEL: u32 = 2;
    /// Mask: no requests of the channel.
    pub(super) const MASKED: u32 = 4;
    /// Mode: single transfers, to memory or from it.
    pub(super) const SINGLE: u32 = 0x40;
    pub(super) const TO_MEMORY: u32 = 0x04;
    pub(super) const FROM_MEMORY: u32 = 0x08;
}

/// Sets the controller up (section 7.1): it is reset, and the drive's head is at cylinder 0.
///
/// # Errors
///
/// Fails if there is none, or it does not answer.
pub(super) fn reset(guest: &mut Guest) -> Result<()> {
    guest.label("floppy digital output");
    guest.port_out(Width::B, port::DIGITAL_OUTPUT, 0)?;
    guest.port_out(Width::B, port::DIGITAL_OUTPUT, RUNNING)?;
    if guest.port_in(Width::B, port::MAIN_STATUS)? == 0xff {
        return Err(Error::device(NAME, "there is no controller"));
    }
    // Each of the four drives reports that it may have changed.
    for _ in 0..4 {
        send(guest, &[command::SENSE_INTERRUPT])?;
        result::<2>(guest)?;
    }
    guest.label("floppy configuration control");
    // 500 kbit/s, for high density.
    guest.port_out(Width::B, port::CONFIGURATION, 0)?;
    specify(guest, true)?;
    send(guest, &[command::RECALIBRATE, DRIVE])?;
    await_seek(guest)
}

/// Sets times, and whether data are transferred by DMA (section 5.2.6).
///
/// # Errors
///
/// Fails if the controller does not take the command.
pub(super) fn specify(guest: &mut Guest, dma: bool) -> Result<()> {
    const STEP_AND_UNLOAD: u8 = 0xdf;
    const LOAD: u8 = 0x02;
    send(
        guest,
        &[command::SPECIFY, STEP_AND_UNLOAD, LOAD | u8::from(!dma)],
    )
}

/// Moves the head to a cylinder (section 5.2.5).
///
/// # Errors
///
/// Fails if it does not get there in time.
pub(super) fn seek(guest: &mut Guest, cylinder: u8) -> Result<()> {
    send(guest, &[command::SEEK, DRIVE, cylinder])?;
    await_seek(guest)
}

fn await_seek(guest: &mut Guest) -> Result<()> {
    guest.wait(NAME, "the end of a seek", |guest| {
        send(guest, &[command::SENSE_INTERRUPT])?;
        let mut first = [0];
        take(guest, &mut first)?;
        if first[0] == INVALID_COMMAND {
            return Ok(None);
        }
        take(guest, &mut [0])?;
        Ok(Some(()))
    })
}

/// Status register 3: what the drive says of itself (section 5.2.8).
///
/// # Errors
///
/// Fails if the controller does not answer.
pub(super) fn sense_drive(guest: &mut Guest) -> Result<u8> {
    send(guest, &[command::SENSE_DRIVE, DRIVE])?;
    Ok(result::<1>(guest)?[0])
}

/// Reads the next address mark (section 5.1.4): the seven bytes of the result.
///
/// # Errors
///
/// Fails if the controller does not answer in time.
pub(super) fn read_id(guest: &mut Guest) -> Result<[u8; 7]> {
    send(guest, &[command::READ_ID | command::MFM, DRIVE])?;
    result(guest)
}

/// Sends the bytes of a command.
///
/// # Errors
///
/// Fails if the controller does not take them in time.
pub(super) fn send(guest: &mut Guest, bytes: &[u8]) -> Result<()> {
    for &byte in bytes {
        guest.wait(NAME, "a controller that takes a command", |guest| {
            let state = guest.port_in(Width::B, port::MAIN_STATUS)?;
            Ok((state & (REQUEST | TO_PROCESSOR) == REQUEST).then_some(()))
        })?;
        guest.label("floppy command");
        guest.port_out(Width::B, port::FIFO, byte.into())?;
    }
    Ok(())
}

/// Waits for the result of a command.
///
/// # Errors
///
/// Fails if it does not come in time.
pub(super) fn result<const N: usize>(guest: &mut Guest) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    take(guest, &mut bytes)?;
    Ok(bytes)
}

fn take(guest: &mut Guest, bytes: &mut [u8]) -> Result<()> {
    for byte in bytes {
        guest.wait(NAME, "a result", |guest| {
            let state = guest.port_in(Width::B, port::MAIN_STATUS)?;
            let both = REQUEST | TO_PROCESSOR;
            Ok((state & both == both).then_some(()))
        })?;
        #[expect(clippy::cast_possible_truncation, reason = "one byte was read")]
        let read = guest.port_in(Width::B, port::FIFO)? as u8;
        *byte = read;
    }
    Ok(())
}

/// What the controller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// For the disk, or for the DMA controller.
    Busy,
    /// For the processor to transfer data.
    Data,
    /// For the processor to read the result.
    Result,
}

/// What the controller waits for while a command is on its way.
///
/// # Errors
///
/// As [`Guest::run`].
pub(super) fn phase(guest: &mut Guest) -> Result<Phase> {
    let state = guest.port_in(Width::B, port::MAIN_STATUS)?;
    Ok(if state & REQUEST == 0 {
        Phase::Busy
    } else if state & BY_PROCESSOR != 0 {
        Phase::Data
    } else if state & TO_PROCESSOR != 0 {
        Phase::Result
    } else {
        Phase::Busy
    })
}

/// Reads a sector of data by the processor.
///
/// # Errors
///
/// As [`Guest::run`].
pub(super) fn take_data(guest: &mut Guest, length: u64) -> Result<Vec<u8>> {
    guest.label("floppy data");
    let (width, port) = (Width::B, port::FIFO);
    let answers = guest.run_all((0..length).map(|_| Op::In { width, port }).collect())?;
    #[expect(clippy::cast_possible_truncation, reason = "single bytes were read")]
    Ok(answers.iter().map(|a| a.value() as u8).collect())
}

/// Tells the DMA controller where data are: below 16 MiB, without crossing a multiple of 64 KiB.
///
/// # Errors
///
/// As [`Guest::run`].
pub(super) fn prepare_dma(guest: &mut Guest, write: bool, address: u32, length: u32) -> Result<()> {
    let direction = if write {
        dma::FROM_MEMORY
    } else {
        dma::TO_MEMORY
    };
    // The number of transfers after the first.
    let count = length.saturating_sub(1);
    let writes = [
        (dma::MASK, dma::MASKED | dma::CHANNEL),
        (dma::MODE, dma::SINGLE | direction | dma::CHANNEL),
        (dma::CLEAR_FLIP_FLOP, 0),
        (dma::ADDRESS, address & 0xff),
        (dma::ADDRESS, address >> 8 & 0xff),
        (dma::PAGE, address >> 16 & 0xff),
        (dma::CLEAR_FLIP_FLOP, 0),
        (dma::COUNT, count & 0xff),
        (dma::COUNT, count >> 8 & 0xff),
        (dma::MASK, dma::CHANNEL),
    ];
    guest.label("isa dma");
    for (port, value) in writes {
        guest.port_out(Width::B, port, value)?;
    }
    Ok(())
}
