//! Queue heads and transfer descriptors (EHCI 1.0, sections 3.5 and 3.6).

use super::NAME;
use crate::drivers::usb::{Ending, Endpoint};
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};
use crate::op::Width;

/// A pointer that leads nowhere; one that leads to a queue head.
const TERMINATE: u32 = 1;
const QUEUE_HEAD: u32 = 1 << 1;

/// Fields of a queue head in bytes: the next one, what the endpoint is, and the overlay.
const LINK: u64 = 0x00;
const CHARACTERISTICS: u64 = 0x04;
const OVERLAY_NEXT: u64 = 0x10;
const OVERLAY_TOKEN: u64 = 0x18;

/// Characteristics: high speed; the toggle is that of descriptors; the first of the list.
const HIGH_SPEED: u32 = 2 << 12;
const TOGGLE_OF_DESCRIPTOR: u32 = 1 << 14;
const FIRST: u32 = 1 << 15;

/// Capabilities: one transaction at a time.
const MULTIPLIER_1: u32 = 1 << 30;

/// The token of a descriptor: to be done, halted, three tries, interrupt, the other toggle.
const ACTIVE: u32 = 1 << 7;
const HALTED: u32 = 1 << 6;
const TRIES: u32 = 3 << 10;
const INTERRUPT: u32 = 1 << 15;
const TOGGLE: u32 = 1 << 31;

/// Errors of a token and what they are called.
const ERRORS: &[(u32, &str)] = &[
    (1 << 5, "data buffer error"),
    (1 << 4, "babble detected"),
    (1 << 3, "transaction error"),
    (1 << 2, "missed micro-frame"),
];

/// A descriptor names five pages at most.
const PAGE: u64 = 4096;
const PAGES: u64 = 5;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pid {
    Out = 0,
    In = 1,
    Setup = 2,
}

/// A descriptor: contiguous memory, and whether its first packet has DATA1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pid: Pid,
    address: u64,
    length: u32,
    toggle: bool,
    /// Where the descriptor is, once it is written.
    memory: u64,
}

impl Part {
    /// Without data.
    pub(super) const fn empty(pid: Pid) -> Self {
        Self {
            pid,
            address: 0,
            length: 0,
            toggle: false,
            memory: 0,
        }
    }

    /// The same with DATA1.
    pub(super) const fn toggled(mut self) -> Self {
        self.toggle = true;
        self
    }

    fn encode(&self, next: u32, last: bool) -> Vec<u8> {
        let mut token = ACTIVE | TRIES | (self.pid as u32) << 8 | self.length << 16;
        if last {
            token |= INTERRUPT;
        }
        if self.toggle {
            token |= TOGGLE;
        }
        let mut words = vec![next, TERMINATE, token];
        for page in 0..PAGES {
            let at = if page == 0 {
                self.address
            } else {
                (self.address / PAGE + page) * PAGE
            };
            words.push(u32::try_from(at).unwrap_or(0));
        }
        // The upper halves of the pointers.
        words.resize(13, 0);
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }
}

/// The parts of a buffer. Packets do not go over the end of a part.
pub(super) fn parts(data: &Buffer, pid: Pid, packet: u16) -> Result<Vec<Part>> {
    let packet = u64::from(packet.max(1));
    let last = data.pieces.len().saturating_sub(1);
    let mut parts = Vec::new();
    for (index, &(start, length)) in data.pieces.iter().enumerate() {
        let length = u64::from(length);
        if index < last && !length.is_multiple_of(packet) {
            return Err(Error::device(NAME, "a packet does not go over two pieces"));
        }
        if start + length > 1 << 32 {
            return Err(Error::device(NAME, "memory is below 4 GiB"));
        }
        let mut done = 0;
        while done < length {
            let at = start + done;
            let room = PAGE * PAGES - at % PAGE;
            let mut now = (length - done).min(room);
            if now < length - done {
                now -= now % packet;
            }
            parts.push(Part {
                address: at,
                length: u32::try_from(now).unwrap_or(0),
                ..Part::empty(pid)
            });
            done += now;
        }
    }
    if parts.is_empty() {
        parts.push(Part::empty(pid));
    }
    Ok(parts)
}

/// The queue head of an endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) memory: u64,
    /// The largest packet in bytes.
    pub(super) packet: u16,
}

impl Head {
    /// Of the control pipe, the first of a list of its own.
    ///
    /// # Errors
    ///
    /// As [`Guest::allocate`].
    pub(super) fn control(guest: &mut Guest, packet: u16) -> Result<Self> {
        let flags = TOGGLE_OF_DESCRIPTOR | FIRST;
        let head = Self::new(guest, packet, flags)?;
        let link = u32::try_from(head.memory).unwrap_or(0) | QUEUE_HEAD;
        head.write(guest, LINK, link)?;
        Ok(head)
    }

    /// Of a bulk endpoint of the device with this address.
    ///
    /// # Errors
    ///
    /// As [`Guest::allocate`].
    pub(super) fn bulk(guest: &mut Guest, address: u8, endpoint: Endpoint) -> Result<Self> {
        let which = u32::from(address) | u32::from(endpoint.number) << 8;
        Self::new(guest, endpoint.packet, which)
    }

    fn new(guest: &mut Guest, packet: u16, flags: u32) -> Result<Self> {
        let memory = guest.allocate(0x44, 64)?;
        let characteristics = HIGH_SPEED | u32::from(packet) << 16 | flags;
        let words = [
            TERMINATE,
            characteristics,
            MULTIPLIER_1,
            0,
            TERMINATE,
            TERMINATE,
        ];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        guest.label("ehci queue head");
        guest.write_block(memory, &bytes)?;
        Ok(Self { memory, packet })
    }

    fn write(&self, guest: &mut Guest, at: u64, value: u32) -> Result<()> {
        guest.label("ehci queue head");
        guest.write_block(self.memory + at, &value.to_le_bytes())
    }

    /// Puts another head behind this one.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn insert(&self, guest: &mut Guest, other: &Self) -> Result<()> {
        let next = guest.read(Width::L, self.memory + LINK)?;
        other.write(guest, LINK, u32::try_from(next).unwrap_or(TERMINATE))?;
        let link = u32::try_from(other.memory).unwrap_or(0) | QUEUE_HEAD;
        self.write(guest, LINK, link)
    }

    /// Says which address the device has.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn set_address(&self, guest: &mut Guest, address: u8) -> Result<()> {
        let at = self.memory + CHARACTERISTICS;
        let old = u32::try_from(guest.read(Width::L, at)?).unwrap_or(0);
        self.write(guest, CHARACTERISTICS, old & !0x7f | u32::from(address))
    }

    /// Writes descriptors and lets the controller carry them out; nothing may be on its way.
    ///
    /// # Errors
    ///
    /// As [`Guest::allocate`].
    pub(super) fn send(&self, guest: &mut Guest, mut parts: Vec<Part>) -> Result<Vec<Part>> {
        for part in &mut parts {
            part.memory = guest.allocate(64, 64)?;
        }
        let mut next = TERMINATE;
        let last = parts.len().saturating_sub(1);
        for (index, part) in parts.iter().enumerate().rev() {
            guest.label("ehci transfer descriptor");
            guest.write_block(part.memory, &part.encode(next, index == last))?;
            next = u32::try_from(part.memory).unwrap_or(TERMINATE);
        }
        self.write(guest, OVERLAY_NEXT, next)?;
        Ok(parts)
    }

    /// How a transfer ended, if it has ended.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn ending(&self, guest: &mut Guest, parts: &[Part]) -> Result<Option<Ending>> {
        const TOKEN: u64 = 8;
        let mut done = 0;
        for part in parts {
            let token = guest.read(Width::L, part.memory + TOKEN)?;
            let token = u32::try_from(token).unwrap_or(ACTIVE);
            if token & ACTIVE != 0 {
                return Ok(None);
            }
            if token & HALTED != 0 {
                return Ok(Some(Ending::Failed(words(token))));
            }
            let left = token >> 16 & 0x7fff;
            done += u64::from(part.length.saturating_sub(left));
            if left > 0 && part.pid == Pid::In {
                return Ok(Some(Ending::Done(done)));
            }
        }
        Ok(Some(Ending::Done(done)))
    }

    /// Gives the memory of descriptors back.
    pub(super) fn end(&self, guest: &mut Guest, parts: Vec<Part>) {
        for part in parts {
            guest.free(part.memory);
        }
    }

    /// Lets an endpoint that was halted go on, with DATA0.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn recover(&self, guest: &mut Guest) -> Result<()> {
        self.write(guest, OVERLAY_NEXT, TERMINATE)?;
        self.write(guest, OVERLAY_TOKEN, 0)
    }
}

fn words(token: u32) -> String {
    let set = ERRORS.iter().filter(|(bit, _)| token & bit != 0);
    let words: Vec<&str> = set.map(|(_, word)| *word).collect();
    if words.is_empty() {
        "stall".to_owned()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_name_five_pages() {
        let data = Buffer {
            pieces: vec![(0x1200, 0x6000), (0x9000, 100)],
        };
        let parts = parts(&data, Pid::In, 512).unwrap();
        let places: Vec<_> = parts.iter().map(|p| (p.address, p.length)).collect();
        assert_eq!(places, [(0x1200, 0x4e00), (0x6000, 0x1200), (0x9000, 100)]);
        let bytes = parts[0].encode(0x40, false);
        assert_eq!(bytes.len(), 52);
        assert_eq!(bytes[8..12], [0x80, 0x0d, 0, 0x4e]);
        assert_eq!(bytes[12..20], [0, 0x12, 0, 0, 0, 0x20, 0, 0]);
        let odd = Buffer {
            pieces: vec![(0, 100), (0x1000, 100)],
        };
        assert!(super::parts(&odd, Pid::Out, 512).is_err());
    }
}
