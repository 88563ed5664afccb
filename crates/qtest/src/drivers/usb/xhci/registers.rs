//! Registers of a controller (xHCI 1.2, section 5).

use super::NAME;
use super::ring::Events;
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;

/// Capability registers (section 5.3).
mod capability {
    pub(super) const LENGTH: u64 = 0x00;
    pub(super) const STRUCTURAL_1: u64 = 0x04;
    pub(super) const STRUCTURAL_2: u64 = 0x08;
    pub(super) const CAPABILITIES_1: u64 = 0x10;
    pub(super) const DOORBELLS: u64 = 0x14;
    pub(super) const RUNTIME: u64 = 0x18;
}

/// Operational registers (section 5.4).
mod operational {
    pub(super) const COMMAND: u64 = 0x00;
    pub(super) const STATUS: u64 = 0x04;
    pub(super) const COMMAND_RING: u64 = 0x18;
    pub(super) const CONTEXTS: u64 = 0x30;
    pub(super) const CONFIGURE: u64 = 0x38;
    pub(super) const PORTS: u64 = 0x400;
    pub(super) const PORT_LENGTH: u64 = 0x10;
}

/// Registers of the first interrupter (section 5.5.2).
mod interrupter {
    pub(super) const MANAGEMENT: u64 = 0x20;
    pub(super) const TABLE_LENGTH: u64 = 0x28;
    pub(super) const TABLE: u64 = 0x30;
    pub(super) const DEQUEUE: u64 = 0x38;
}

/// USB command: run, reset, interrupt.
const RUN: u64 = 1;
const RESET: u64 = 1 << 1;
const INTERRUPT: u64 = 1 << 2;

/// USB status: halted, event interrupt, not ready.
const HALTED: u64 = 1;
const EVENT: u64 = 1 << 3;
const NOT_READY: u64 = 1 << 11;

/// Port status and control (section 5.4.8): a device, enabled, reset, power, and the changes.
const CONNECTED: u64 = 1;
const ENABLED: u64 = 1 << 1;
const PORT_RESET: u64 = 1 << 4;
const POWER: u64 = 1 << 9;
const CHANGES: u64 = 0x7f << 17;

/// Interrupter management: pending and enabled; the dequeue pointer: the handler is busy.
const PENDING: u64 = 1;
const INTERRUPTER_ENABLED: u64 = 1 << 1;
const HANDLER_BUSY: u64 = 1 << 3;

/// A port with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Port {
    /// From 1.
    pub(super) number: u8,
    /// The protocol speed: 1 full, 2 low, 3 high, 4 super.
    pub(super) speed: u8,
}

/// Where the registers are, and what the controller can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers {
    operational: u64,
    runtime: u64,
    doorbells: u64,
    slots: u8,
    ports: u8,
    /// How many pages the controller wants for itself.
    pub(super) scratchpads: u32,
    /// The length of a context in bytes: 32 or 64.
    pub(super) context: u64,
    /// The most streams of an endpoint with stream 0, none where there are no streams.
    pub(super) streams: u16,
}

impl Registers {
    /// Of a controller whose registers start here.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn new(guest: &mut Guest, base: u64) -> Result<Self> {
        let length = guest.read(Width::L, base + capability::LENGTH)? & 0xff;
        let first = guest.read(Width::L, base + capability::STRUCTURAL_1)?;
        let second = guest.read(Width::L, base + capability::STRUCTURAL_2)?;
        let abilities = guest.read(Width::L, base + capability::CAPABILITIES_1)?;
        let doorbells = guest.read(Width::L, base + capability::DOORBELLS)? & !3;
        let runtime = guest.read(Width::L, base + capability::RUNTIME)? & !31;
        let streams = abilities >> 12 & 15;
        #[expect(clippy::cast_possible_truncation, reason = "fields of few bits")]
        Ok(Self {
            operational: base + length,
            runtime: base + runtime,
            doorbells: base + doorbells,
            slots: first as u8,
            ports: (first >> 24) as u8,
            scratchpads: ((second >> 21 & 31) << 5 | second >> 27) as u32,
            context: if abilities & 4 == 0 { 32 } else { 64 },
            streams: if streams == 0 {
                0
            } else {
                2 << streams.min(14)
            },
        })
    }

    fn set(&self, guest: &mut Guest, label: &'static str, at: u64, value: u64) -> Result<()> {
        guest.label(label);
        guest.write(Width::L, at, value)
    }

    /// Registers of 64 bits are written by halves, the lower first (section 5.1).
    fn set_long(&self, guest: &mut Guest, label: &'static str, at: u64, value: u64) -> Result<()> {
        self.set(guest, label, at, value & 0xffff_ffff)?;
        self.set(guest, label, at + 4, value >> 32)
    }

    /// Stops and resets the controller (section 4.2).
    ///
    /// # Errors
    ///
    /// Fails if it does not come back.
    pub(super) fn reset(&self, guest: &mut Guest) -> Result<()> {
        let command = self.operational + operational::COMMAND;
        let status = self.operational + operational::STATUS;
        self.set(guest, "xhci command register", command, 0)?;
        guest.wait(NAME, "a controller that is halted", |guest| {
            let state = guest.read(Width::L, status)?;
            Ok((state & HALTED != 0).then_some(()))
        })?;
        self.set(guest, "xhci command register", command, RESET)?;
        guest.wait(NAME, "the end of a reset", |guest| {
            let resets = guest.read(Width::L, command)? & RESET != 0;
            let ready = guest.read(Width::L, status)? & NOT_READY == 0;
            Ok((!resets && ready).then_some(()))
        })
    }

    /// Starts the controller with these device contexts, this command ring and these events.
    ///
    /// # Errors
    ///
    /// Fails if it does not start.
    pub(super) fn start(
        &self,
        guest: &mut Guest,
        contexts: u64,
        commands: u64,
        events: &Events,
    ) -> Result<()> {
        let base = self.operational;
        let slots = self.slots.into();
        self.set(
            guest,
            "xhci configure",
            base + operational::CONFIGURE,
            slots,
        )?;
        let label = "xhci device context base";
        self.set_long(guest, label, base + operational::CONTEXTS, contexts)?;
        let label = "xhci command ring control";
        self.set_long(guest, label, base + operational::COMMAND_RING, commands)?;
        let label = "xhci event ring";
        let runtime = self.runtime;
        self.set(guest, label, runtime + interrupter::TABLE_LENGTH, 1)?;
        self.set_long(
            guest,
            label,
            runtime + interrupter::DEQUEUE,
            events.pointer(),
        )?;
        self.set_long(guest, label, runtime + interrupter::TABLE, events.table)?;
        let label = "xhci interrupter management";
        let at = runtime + interrupter::MANAGEMENT;
        self.set(guest, label, at, INTERRUPTER_ENABLED)?;
        let command = base + operational::COMMAND;
        self.set(guest, "xhci command register", command, RUN | INTERRUPT)?;
        let status = base + operational::STATUS;
        guest.wait(NAME, "a controller that runs", |guest| {
            let state = guest.read(Width::L, status)?;
            Ok((state & HALTED == 0).then_some(()))
        })
    }

    /// Resets the first port with a device (section 4.3.1).
    ///
    /// # Errors
    ///
    /// Fails if there is none, or it does not get enabled.
    pub(super) fn attach(&self, guest: &mut Guest) -> Result<Port> {
        for number in 1..=self.ports {
            let at = self.operational
                + operational::PORTS
                + operational::PORT_LENGTH * u64::from(number - 1);
            if guest.read(Width::L, at)? & CONNECTED == 0 {
                continue;
            }
            self.set(
                guest,
                "xhci port status and control",
                at,
                POWER | PORT_RESET,
            )?;
            let state = guest.wait(NAME, "a port that is enabled", |guest| {
                let state = guest.read(Width::L, at)?;
                let ready = state & ENABLED != 0 && state & PORT_RESET == 0;
                Ok(ready.then_some(state))
            })?;
            self.set(guest, "xhci port status and control", at, POWER | CHANGES)?;
            let speed = (state >> 10 & 15) as u8;
            return Ok(Port { number, speed });
        }
        Err(Error::device(NAME, "no device is attached"))
    }

    /// Rings a doorbell: 0 of the commands, or that of a slot for an endpoint and a stream.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn ring(&self, guest: &mut Guest, slot: u64, target: u32) -> Result<()> {
        self.set(
            guest,
            "xhci doorbell",
            self.doorbells + 4 * slot,
            target.into(),
        )
    }

    /// Says up to where events were looked at.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn acknowledge(&self, guest: &mut Guest, pointer: u64) -> Result<()> {
        let status = self.operational + operational::STATUS;
        self.set(guest, "xhci status register", status, EVENT)?;
        let at = self.runtime + interrupter::MANAGEMENT;
        let value = PENDING | INTERRUPTER_ENABLED;
        self.set(guest, "xhci interrupter management", at, value)?;
        let at = self.runtime + interrupter::DEQUEUE;
        self.set_long(guest, "xhci event ring", at, pointer | HANDLER_BUSY)
    }
}
