//! The registers of a controller (UFSHCI 4.0, section 5).

use super::NAME;
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;
use crate::pci::Pci;

/// Mass storage, UFS, UFSHCI.
const CLASS: u32 = 0x01_09_00;
const CLASS_MASK: u32 = 0xff_ff_00;

/// Registers.
pub(super) mod register {
    pub(super) const CAPABILITIES: u64 = 0x00;
    pub(super) const QUEUE_CAPABILITIES: u64 = 0x04;
    pub(in super::super) const INTERRUPT_STATUS: u64 = 0x20;
    pub(super) const INTERRUPT_ENABLE: u64 = 0x24;
    pub(super) const STATUS: u64 = 0x30;
    pub(super) const ENABLE: u64 = 0x34;
    pub(in super::super) const LIST: u64 = 0x50;
    pub(in super::super) const LIST_HIGH: u64 = 0x54;
    pub(in super::super) const DOORBELL: u64 = 0x58;
    pub(in super::super) const RUN: u64 = 0x60;
    pub(in super::super) const COMPLETED: u64 = 0x64;
    pub(super) const COMMAND: u64 = 0x90;
    pub(super) const COMMAND_ARGUMENT_2: u64 = 0x98;
    pub(in super::super) const CONFIGURATION: u64 = 0x300;
}

/// Capabilities: several queues in memory.
const MULTIPLE_QUEUES: u64 = 1 << 30;

/// Status: a device is there; commands to the link are taken.
const DEVICE_PRESENT: u64 = 1;
const COMMAND_READY: u64 = 1 << 3;

/// Interrupt status: a command to the link has ended.
const COMMAND_ENDED: u64 = 1 << 10;
/// Interrupts: requests, commands, the queues, and all errors.
const INTERRUPTS: u64 = 0x0017_0e05;

/// The command that starts the link (section 5.6.1).
const LINK_STARTUP: u64 = 0x16;

/// A controller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Controller {
    registers: u64,
    /// How many requests its list has.
    pub(super) slots: u16,
    /// How many queues there are and where the registers with their places are; none where it
    /// has no queues.
    pub(super) queues: Option<(u8, u64)>,
}

impl Controller {
    /// Finds one.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub(super) fn find(guest: &mut Guest) -> Result<Self> {
        let pci = Pci::enumerate(guest)?;
        let function = pci.find_class(NAME, CLASS, CLASS_MASK)?;
        let registers = function.memory(NAME, 0)?;
        let abilities = guest.read(Width::L, registers + register::CAPABILITIES)?;
        let queues = guest.read(Width::L, registers + register::QUEUE_CAPABILITIES)?;
        #[expect(clippy::cast_possible_truncation, reason = "fields of few bits")]
        Ok(Self {
            registers,
            slots: (abilities & 31) as u16 + 1,
            queues: (abilities & MULTIPLE_QUEUES != 0)
                .then(|| (queues as u8 + 1, (queues >> 16 & 0xff) * 0x200)),
        })
    }

    /// Reads a register.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn read(&self, guest: &mut Guest, at: u64) -> Result<u64> {
        guest.read(Width::L, self.registers + at)
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
        at: u64,
        value: u64,
    ) -> Result<()> {
        guest.label(label);
        guest.write(Width::L, self.registers + at, value)
    }

    /// Disables and enables the controller, and starts the link to the device (section 7.1.1).
    ///
    /// # Errors
    ///
    /// Fails if there is no device, or they do not answer.
    pub(super) fn enable(&self, guest: &mut Guest) -> Result<()> {
        for wanted in [0, 1] {
            self.write(guest, "ufs controller enable", register::ENABLE, wanted)?;
            guest.wait(NAME, "a controller that is enabled", |guest| {
                let state = self.read(guest, register::ENABLE)?;
                Ok((state & 1 == wanted).then_some(()))
            })?;
        }
        guest.wait(NAME, "a controller that takes commands", |guest| {
            let state = self.read(guest, register::STATUS)?;
            Ok((state & COMMAND_READY != 0).then_some(()))
        })?;
        let at = register::INTERRUPT_ENABLE;
        self.write(guest, "ufs interrupt enable", at, INTERRUPTS)?;
        self.write(guest, "ufs link command", register::COMMAND, LINK_STARTUP)?;
        guest.wait(NAME, "the start of the link", |guest| {
            let came = self.read(guest, register::INTERRUPT_STATUS)?;
            Ok((came & COMMAND_ENDED != 0).then_some(()))
        })?;
        let at = register::INTERRUPT_STATUS;
        self.write(guest, "ufs interrupt status", at, COMMAND_ENDED)?;
        let result = self.read(guest, register::COMMAND_ARGUMENT_2)? & 0xff;
        let state = self.read(guest, register::STATUS)?;
        if result != 0 || state & DEVICE_PRESENT == 0 {
            return Err(Error::device(NAME, "the link to the device does not start"));
        }
        Ok(())
    }
}
