//! The contexts of the device (xHCI 1.2, section 6.2).

use std::collections::BTreeMap;

use super::registers::{Port, Registers};
use super::ring::Ring;
use super::{CONTROL, context_index};
use crate::drivers::usb::Endpoint;
use crate::error::Result;
use crate::guest::Guest;
use crate::op::Width;

/// Types of endpoints (table 6-9).
const TYPE_BULK_OUT: u32 = 2;
const TYPE_CONTROL: u32 = 4;
const TYPE_BULK_IN: u32 = 6;

/// How often a transaction is tried.
const TRIES: u32 = 3;

/// A context of a stream: its ring is a primary one (table 6-13).
const PRIMARY: u64 = 1 << 1;

/// The number of contexts of a device.
const CONTEXTS: u64 = 32;

/// What the controller knows of a device.
#[derive(Debug)]
pub(super) struct Device {
    /// The array with the address of each device's contexts.
    pub(super) contexts: u64,
    /// The input context, which commands pass to the controller.
    pub(super) input: u64,
    /// The output context, which the controller writes.
    output: u64,
    pub(super) slot: u8,
    port: Port,
    /// The length of a context in bytes.
    length: u64,
    /// The contexts that were added since the last command, a bit each; the highest of all.
    added: u32,
    highest: u8,
    /// Arrays of stream contexts.
    streams: Vec<u64>,
}

impl Device {
    /// Takes memory for a device and for the controller itself.
    ///
    /// # Errors
    ///
    /// As [`Guest::allocate`].
    pub(super) fn new(guest: &mut Guest, registers: &Registers) -> Result<Self> {
        let contexts = guest.allocate(8 * 256, 4096)?;
        let length = registers.context;
        if registers.scratchpads > 0 {
            let array = guest.allocate(8 * u64::from(registers.scratchpads), 4096)?;
            for index in 0..u64::from(registers.scratchpads) {
                let page = guest.allocate(4096, 4096)?;
                guest.label("xhci scratchpad array");
                guest.write_block(array + 8 * index, &page.to_le_bytes())?;
            }
            guest.label("xhci device context base");
            guest.write_block(contexts, &array.to_le_bytes())?;
        }
        Ok(Self {
            contexts,
            input: guest.allocate((CONTEXTS + 1) * length, 4096)?,
            output: guest.allocate(CONTEXTS * length, 4096)?,
            slot: 0,
            port: Port {
                number: 0,
                speed: 0,
            },
            length,
            added: 0,
            highest: CONTROL,
            streams: Vec::new(),
        })
    }

    /// Forgets the device, after a reset of the controller.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn clear(&mut self, guest: &mut Guest) -> Result<()> {
        for array in std::mem::take(&mut self.streams) {
            guest.free(array);
        }
        guest.label("xhci contexts");
        guest.fill(self.input, (CONTEXTS + 1) * self.length, 0)?;
        guest.fill(self.output, CONTEXTS * self.length, 0)?;
        (self.added, self.highest) = (0, CONTROL);
        Ok(())
    }

    /// Writes a context for the controller to read, from 0: that of the slot.
    fn write(
        &self,
        guest: &mut Guest,
        label: &'static str,
        index: u8,
        words: &[u32],
    ) -> Result<()> {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        guest.label(label);
        guest.write_block(self.input + self.length * (u64::from(index) + 1), &bytes)
    }

    /// Says which contexts are added (section 6.2.5.1).
    fn control(&self, guest: &mut Guest) -> Result<()> {
        let mut bytes = 0u32.to_le_bytes().to_vec();
        bytes.extend(self.added.to_le_bytes());
        guest.label("xhci input control context");
        guest.write_block(self.input, &bytes)
    }

    fn slot_context(&self, guest: &mut Guest) -> Result<()> {
        let first = u32::from(self.highest) << 27 | u32::from(self.port.speed) << 20;
        let words = [first, u32::from(self.port.number) << 16, 0, 0];
        self.write(guest, "xhci slot context", 0, &words)
    }

    /// Describes the device and its control pipe, for the command that addresses it.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn address(
        &mut self,
        guest: &mut Guest,
        slot: u8,
        port: Port,
        control: u64,
    ) -> Result<()> {
        const LOW: u8 = 2;
        const SUPER: u8 = 4;
        (self.slot, self.port) = (slot, port);
        guest.label("xhci device context base");
        let at = self.contexts + 8 * u64::from(slot);
        guest.write_block(at, &self.output.to_le_bytes())?;
        self.slot_context(guest)?;
        let packet = match port.speed {
            LOW => 8,
            SUPER.. => 512,
            _ => 64,
        };
        let kind = TYPE_CONTROL << 3 | TRIES << 1 | packet << 16;
        let words = endpoint_context(0, kind, control, 8);
        self.write(guest, "xhci endpoint context", CONTROL, &words)?;
        self.added = 3;
        self.control(guest)?;
        self.added = 1;
        Ok(())
    }

    /// Describes a bulk endpoint with this many streams, whose rings are among these.
    ///
    /// # Errors
    ///
    /// As [`Guest::allocate`].
    pub(super) fn add(
        &mut self,
        guest: &mut Guest,
        endpoint: Endpoint,
        streams: u16,
        rings: &BTreeMap<(u8, u16), Ring>,
    ) -> Result<()> {
        const LINEAR: u32 = 1 << 15;
        let index = context_index(endpoint);
        let ring = |stream| rings.get(&(index, stream)).map_or(0, Ring::pointer);
        let (first, pointer) = if streams > 0 {
            let array = guest.allocate(16 * u64::from(streams), 4096)?;
            self.streams.push(array);
            for stream in 1..streams {
                let context = (ring(stream) | PRIMARY).to_le_bytes();
                guest.label("xhci stream context");
                guest.write_block(array + 16 * u64::from(stream), &context)?;
            }
            // An array of 2^(n+1) contexts is written as n.
            (LINEAR | (streams.trailing_zeros() - 1) << 10, array)
        } else {
            (0, ring(0))
        };
        let kind = if endpoint.input {
            TYPE_BULK_IN
        } else {
            TYPE_BULK_OUT
        };
        let kind = kind << 3
            | TRIES << 1
            | u32::from(endpoint.burst) << 8
            | u32::from(endpoint.packet) << 16;
        let words = endpoint_context(first, kind, pointer, endpoint.packet.into());
        self.write(guest, "xhci endpoint context", index, &words)?;
        self.added |= 1 << index;
        self.highest = self.highest.max(index);
        Ok(())
    }

    /// Writes what is needed for the command that configures the endpoints that were added.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn finish(&mut self, guest: &mut Guest) -> Result<()> {
        self.slot_context(guest)?;
        self.control(guest)?;
        self.added = 1;
        Ok(())
    }

    /// Whether an endpoint is halted (section 6.2.3).
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn is_halted(&self, guest: &mut Guest, index: u8) -> Result<bool> {
        const HALTED: u64 = 2;
        let at = self.output + self.length * u64::from(index);
        Ok(guest.read(Width::L, at)? & 7 == HALTED)
    }
}

fn endpoint_context(first: u32, kind: u32, pointer: u64, average: u32) -> [u32; 5] {
    #[expect(clippy::cast_possible_truncation, reason = "the halves of an address")]
    [first, kind, pointer as u32, (pointer >> 32) as u32, average]
}
