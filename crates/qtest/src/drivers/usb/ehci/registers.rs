//! Registers of a controller (EHCI 1.0, section 2).

use super::NAME;
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;

/// Capability registers (section 2.2): the length of these, and what is there.
const LENGTH: u64 = 0x00;
const STRUCTURAL: u64 = 0x04;

/// Operational registers (section 2.3).
mod operational {
    pub(super) const COMMAND: u64 = 0x00;
    pub(super) const STATUS: u64 = 0x04;
    pub(super) const SEGMENT: u64 = 0x10;
    pub(super) const ASYNCHRONOUS_LIST: u64 = 0x18;
    pub(super) const CONFIGURED: u64 = 0x40;
    pub(super) const PORTS: u64 = 0x44;
}

/// USB command: run, reset, and the asynchronous list.
const RUN: u64 = 1;
const RESET: u64 = 1 << 1;
const ASYNCHRONOUS: u64 = 1 << 5;

/// USB status: halted; the asynchronous list goes on.
const HALTED: u64 = 1 << 12;
const ASYNCHRONOUS_RUNS: u64 = 1 << 15;

/// Port status and control (section 2.3.9).
const CONNECTED: u64 = 1;
const ENABLED: u64 = 1 << 2;
const PORT_RESET: u64 = 1 << 8;
const POWER: u64 = 1 << 12;

/// Where the registers are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers {
    operational: u64,
    ports: u64,
}

impl Registers {
    /// Of a controller whose registers start here.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn new(guest: &mut Guest, base: u64) -> Result<Self> {
        let length = guest.read(Width::B, base + LENGTH)?;
        let structural = guest.read(Width::L, base + STRUCTURAL)?;
        Ok(Self {
            operational: base + length,
            ports: structural & 15,
        })
    }

    fn read(&self, guest: &mut Guest, at: u64) -> Result<u64> {
        guest.read(Width::L, self.operational + at)
    }

    fn set(&self, guest: &mut Guest, label: &'static str, at: u64, value: u64) -> Result<()> {
        guest.label(label);
        guest.write(Width::L, self.operational + at, value)
    }

    /// Stops and resets the controller (section 2.3.1).
    ///
    /// # Errors
    ///
    /// Fails if it does not come back.
    pub(super) fn reset(&self, guest: &mut Guest) -> Result<()> {
        self.set(guest, "ehci command register", operational::COMMAND, 0)?;
        guest.wait(NAME, "a controller that is halted", |guest| {
            let state = self.read(guest, operational::STATUS)?;
            Ok((state & HALTED != 0).then_some(()))
        })?;
        self.set(guest, "ehci command register", operational::COMMAND, RESET)?;
        guest.wait(NAME, "the end of a reset", |guest| {
            let state = self.read(guest, operational::COMMAND)?;
            Ok((state & RESET == 0).then_some(()))
        })
    }

    /// Starts the controller with a list of queue heads (section 4.1).
    ///
    /// # Errors
    ///
    /// Fails if it does not start.
    pub(super) fn start(&self, guest: &mut Guest, list: u64) -> Result<()> {
        self.set(guest, "ehci segment", operational::SEGMENT, 0)?;
        let label = "ehci asynchronous list address";
        self.set(guest, label, operational::ASYNCHRONOUS_LIST, list)?;
        let command = RUN | ASYNCHRONOUS;
        self.set(
            guest,
            "ehci command register",
            operational::COMMAND,
            command,
        )?;
        self.set(guest, "ehci configure flag", operational::CONFIGURED, 1)?;
        guest.wait(NAME, "a controller that runs", |guest| {
            let state = self.read(guest, operational::STATUS)?;
            let runs = state & HALTED == 0 && state & ASYNCHRONOUS_RUNS != 0;
            Ok(runs.then_some(()))
        })
    }

    /// Resets the first port with a device (section 4.2.2).
    ///
    /// # Errors
    ///
    /// Fails if there is none of high speed, or it does not get enabled.
    pub(super) fn attach(&self, guest: &mut Guest) -> Result<()> {
        for number in 0..self.ports {
            let at = operational::PORTS + 4 * number;
            self.set(guest, "ehci port status and control", at, POWER)?;
            if self.read(guest, at)? & CONNECTED == 0 {
                continue;
            }
            self.set(
                guest,
                "ehci port status and control",
                at,
                POWER | PORT_RESET,
            )?;
            self.set(guest, "ehci port status and control", at, POWER)?;
            return guest.wait(NAME, "a port that is enabled", |guest| {
                let state = self.read(guest, at)?;
                let ready = state & ENABLED != 0 && state & PORT_RESET == 0;
                Ok(ready.then_some(()))
            });
        }
        Err(Error::device(NAME, "no device is attached"))
    }
}
