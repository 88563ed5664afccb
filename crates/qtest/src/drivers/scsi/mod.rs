//! Disks and CD drives that take SCSI commands, whatever transport carries them.
//!
//! [`ScsiTransport`] is what a host adapter, a USB bridge or a UFS controller does: it carries a
//! command and its data. [`ScsiDisk`] makes a disk of it. SPC-4, SBC-3 and MMC-6.

pub mod cdb;
mod disk;
pub mod sense;
mod slots;

pub use disk::ScsiDisk;
pub use slots::Slots;

use crate::block::Tag;
use crate::error::Result;
use crate::guest::{Buffer, Guest};

/// What a command transfers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// Nothing.
    #[default]
    None,
    /// From the device.
    In(Buffer),
    /// To the device.
    Out(Buffer),
}

impl Data {
    /// The buffer, if there is one.
    #[must_use]
    pub const fn buffer(&self) -> Option<&Buffer> {
        match self {
            Self::None => None,
            Self::In(buffer) | Self::Out(buffer) => Some(buffer),
        }
    }

    /// The pieces of the buffer: address and length in bytes.
    #[must_use]
    pub fn pieces(&self) -> &[(u64, u32)] {
        self.buffer().map_or(&[], |buffer| &buffer.pieces)
    }

    /// In bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.buffer().map_or(0, Buffer::len)
    }

    /// Whether nothing is transferred.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it comes from the device.
    #[must_use]
    pub const fn is_in(&self) -> bool {
        matches!(self, Self::In(_))
    }
}

/// A command descriptor block and its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// 6, 10, 12 or 16 bytes: see [`cdb`].
    pub cdb: Vec<u8>,
    /// What is transferred.
    pub data: Data,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The device said how.
    Ended {
        /// The status, SAM-5 5.3.1: see [`sense::status_words`].
        status: u8,
        /// Sense data, none where the transport does not carry them: they are asked for.
        sense: Vec<u8>,
    },
    /// The transport could not carry it.
    Lost {
        /// In the words of the transport's specification.
        why: String,
    },
}

impl Outcome {
    /// The device said GOOD.
    pub const GOOD: Self = Self::status(0);

    /// The device said CHECK CONDITION, and the transport carries no sense data.
    pub const CHECK_CONDITION: Self = Self::status(sense::CHECK_CONDITION);

    /// With a status and without sense data.
    #[must_use]
    pub const fn status(status: u8) -> Self {
        Self::Ended {
            status,
            sense: Vec::new(),
        }
    }
}

/// What carries commands to one logical unit.
pub trait ScsiTransport {
    /// The driver's name.
    fn name(&self) -> &'static str;

    /// How many commands can be on their way at once, at least 1.
    fn depth(&self) -> usize {
        1
    }

    /// How many queues there are, at least 1.
    fn queues(&self) -> usize {
        1
    }

    /// The longest transfer in bytes.
    fn longest(&self) -> u64;

    /// Whether data may be in several pieces.
    fn scatter(&self) -> bool {
        true
    }

    /// Whether commands of 16 bytes are used for all reads and writes, not only where they have
    /// to be. A transport may not carry any: then the disk has at most 2^32 blocks.
    fn long_commands(&self) -> bool {
        false
    }

    /// The longest command descriptor block in bytes, 12 or 16.
    fn longest_command(&self) -> usize {
        16
    }

    /// Starts a command on a queue from 0 to below [`Self::queues`]. Data may be shorter than
    /// the buffer.
    ///
    /// # Errors
    ///
    /// Fails if the transport cannot express the command, or the emulator is gone.
    fn start(&mut self, guest: &mut Guest, queue: usize, command: &Command) -> Result<Tag>;

    /// What ended since the last call, without waiting.
    ///
    /// # Errors
    ///
    /// Fails if the device is not as it has to be, or the emulator is gone.
    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Outcome)>>;

    /// Resets the transport and sets it up again. Commands on their way are given up.
    ///
    /// # Errors
    ///
    /// Fails if it does not come back.
    fn reset(&mut self, guest: &mut Guest) -> Result<()>;
}
