//! PCI as a firmware sees it: what is there, where its registers are, how it interrupts.
//!
//! PCI Local Bus Specification 3.0, chapter 6; PCI Express Base Specification, chapter 7. The
//! configuration space is reached by the ports 0xcf8 and 0xcfc, which all PC machines have.

use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;

/// Where a function of a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The number of the bus.
    pub bus: u8,
    /// The number of the device, 0 to 31.
    pub device: u8,
    /// The number of the function, 0 to 7.
    pub function: u8,
}

/// Where registers of a device are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// Ports.
    Io {
        /// The first.
        base: u16,
        /// How many.
        size: u32,
    },
    /// Memory.
    Memory {
        /// The first byte.
        base: u64,
        /// In bytes.
        size: u64,
    },
}

/// A function that was found, with its registers mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Where it is.
    pub address: Address,
    /// Who made it, and what it is: the vendor's number and the vendor's number for it.
    pub id: (u16, u16),
    /// What it does: class, subclass and interface, 24 bits.
    pub class: u32,
    /// Its registers; those of 64 bits take one entry, and leave the next one empty.
    pub bars: [Option<Bar>; 6],
    /// Whether it is a bridge.
    pub bridge: bool,
}

/// Offsets in the configuration space.
mod offset {
    pub(super) const ID: u8 = 0;
    pub(super) const COMMAND: u8 = 4;
    pub(super) const STATUS: u8 = 6;
    pub(super) const CLASS: u8 = 8;
    pub(super) const HEADER_TYPE: u8 = 0x0e;
    pub(super) const BAR0: u8 = 0x10;
    pub(super) const PRIMARY_BUS: u8 = 0x18;
    pub(super) const SECONDARY_BUS: u8 = 0x19;
    pub(super) const SUBORDINATE_BUS: u8 = 0x1a;
    pub(super) const IO_BASE: u8 = 0x1c;
    pub(super) const MEMORY_BASE: u8 = 0x20;
    pub(super) const PREFETCHABLE_BASE: u8 = 0x24;
    pub(super) const CAPABILITIES: u8 = 0x34;
}

/// Answers to ports and memory, and masters the bus.
const COMMAND_ALL: u64 = 7;

/// The capability with the registers of MSI-X.
const MSIX: u8 = 0x11;

impl Address {
    fn select(self, offset: u8) -> u32 {
        1 << 31
            | u32::from(self.bus) << 16
            | u32::from(self.device & 31) << 11
            | u32::from(self.function & 7) << 8
            | u32::from(offset & 0xfc)
    }

    /// Reads the configuration space.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub fn read(self, guest: &mut Guest, width: Width, offset: u8) -> Result<u32> {
        guest.port_out(Width::L, 0xcf8, self.select(offset))?;
        guest.port_in(width, 0xcfc + u16::from(offset & 3))
    }

    /// Writes the configuration space.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub fn write(self, guest: &mut Guest, width: Width, offset: u8, value: u64) -> Result<()> {
        guest.label("pci configuration");
        guest.port_out(Width::L, 0xcf8, self.select(offset))?;
        #[expect(clippy::cast_possible_truncation, reason = "at most four bytes")]
        let value = width.truncate(value) as u32;
        guest.port_out(width, 0xcfc + u16::from(offset & 3), value)
    }

    fn byte(self, guest: &mut Guest, offset: u8) -> Result<u8> {
        #[expect(clippy::cast_possible_truncation, reason = "one byte was read")]
        Ok(self.read(guest, Width::B, offset)? as u8)
    }
}

/// What is still free for the registers of devices.
#[derive(Debug)]
struct Windows {
    io: u64,
    memory: u64,
    bus: u8,
}

impl Windows {
    const IO_END: u64 = 0x1_0000;
    const MEMORY_END: u64 = 0xfe00_0000;

    const fn new() -> Self {
        Self {
            io: 0xc000,
            memory: 0xe000_0000,
            bus: 0,
        }
    }
}

/// What is on the buses of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pci {
    /// In the order of their addresses.
    pub functions: Vec<Function>,
}

impl Pci {
    /// Finds what is there, behind bridges too, and maps its registers.
    ///
    /// # Errors
    ///
    /// Fails if there is no PCI, no place for the registers, or as [`Guest::run`].
    pub fn enumerate(guest: &mut Guest) -> Result<Self> {
        let mut pci = Self::default();
        let mut windows = Windows::new();
        pci.scan(guest, &mut windows, 0)?;
        if pci.functions.is_empty() {
            return Err(Error::device("pci", "the machine has no PCI bus"));
        }
        pci.functions.sort_by_key(|f| f.address);
        Ok(pci)
    }

    fn scan(&mut self, guest: &mut Guest, windows: &mut Windows, bus: u8) -> Result<()> {
        for device in 0..32 {
            for function in 0..8 {
                let address = Address {
                    bus,
                    device,
                    function,
                };
                let id = address.read(guest, Width::L, offset::ID)?;
                if id == u32::MAX {
                    if function == 0 {
                        break;
                    }
                    continue;
                }
                let kind = address.byte(guest, offset::HEADER_TYPE)?;
                self.add(guest, windows, address, id, kind & 0x7f == 1)?;
                if function == 0 && kind & 0x80 == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        guest: &mut Guest,
        windows: &mut Windows,
        address: Address,
        id: u32,
        bridge: bool,
    ) -> Result<()> {
        let class = address.read(guest, Width::L, offset::CLASS)? >> 8;
        let mut bars = [None; 6];
        let count = if bridge { 2 } else { 6 };
        let mut index = 0;
        while index < count {
            let (bar, wide) = map(guest, windows, address, index)?;
            bars[usize::from(index)] = bar;
            index += 1 + u8::from(wide);
        }
        if bridge {
            self.behind(guest, windows, address)?;
        }
        address.write(guest, Width::W, offset::COMMAND, COMMAND_ALL)?;
        #[expect(clippy::cast_possible_truncation, reason = "the halves of four bytes")]
        let id = (id as u16, (id >> 16) as u16);
        self.functions.push(Function {
            address,
            id,
            class,
            bars,
            bridge,
        });
        Ok(())
    }

    /// Gives the bus behind a bridge a number and windows, with room for what is plugged in
    /// later.
    fn behind(&mut self, guest: &mut Guest, windows: &mut Windows, bridge: Address) -> Result<()> {
        const MIB: u64 = 1 << 20;
        windows.bus += 1;
        let bus = windows.bus;
        bridge.write(guest, Width::B, offset::PRIMARY_BUS, bridge.bus.into())?;
        bridge.write(guest, Width::B, offset::SECONDARY_BUS, bus.into())?;
        bridge.write(guest, Width::B, offset::SUBORDINATE_BUS, 0xff)?;
        windows.io = windows.io.next_multiple_of(0x1000);
        windows.memory = windows.memory.next_multiple_of(MIB);
        let (io, memory) = (windows.io, windows.memory);
        self.scan(guest, windows, bus)?;
        windows.io = (windows.io + 1).next_multiple_of(0x1000);
        windows.memory = (windows.memory + 1).next_multiple_of(2 * MIB);
        if windows.io > Windows::IO_END || windows.memory > Windows::MEMORY_END {
            return Err(Error::device("pci", "too many bridges"));
        }
        bridge.write(guest, Width::B, offset::SUBORDINATE_BUS, windows.bus.into())?;
        let io = (io >> 8) | (windows.io - 1) >> 8 << 8;
        bridge.write(guest, Width::W, offset::IO_BASE, io)?;
        let window = memory >> 16 | (windows.memory - 1) >> 16 << 16;
        bridge.write(guest, Width::L, offset::MEMORY_BASE, window)?;
        // An empty window: its start is behind its end.
        bridge.write(guest, Width::L, offset::PREFETCHABLE_BASE, 0xfff0)
    }

    /// The first function with one of these ids.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub fn find(&self, device: &'static str, ids: &[(u16, u16)]) -> Result<&Function> {
        self.functions
            .iter()
            .find(|f| ids.contains(&f.id))
            .ok_or_else(|| Error::device(device, "not found on the PCI bus"))
    }

    /// The first function of a class: 24 bits, of which those of `mask` count.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub fn find_class(&self, device: &'static str, class: u32, mask: u32) -> Result<&Function> {
        self.functions
            .iter()
            .find(|f| f.class & mask == class & mask)
            .ok_or_else(|| Error::device(device, "not found on the PCI bus"))
    }
}

/// Finds how large the registers are, and gives them a place; whether they have 64 bits.
fn map(
    guest: &mut Guest,
    windows: &mut Windows,
    address: Address,
    index: u8,
) -> Result<(Option<Bar>, bool)> {
    let at = offset::BAR0 + 4 * index;
    address.write(guest, Width::L, at, u32::MAX.into())?;
    let low = address.read(guest, Width::L, at)?;
    if low == 0 {
        return Ok((None, false));
    }
    let full = || Error::device("pci", "no place is left for the registers of devices");
    if low & 1 == 1 {
        let size = u64::from(!(low & !3 | 0xffff_0000)) + 1;
        let base = windows.io.next_multiple_of(size);
        windows.io = base + size;
        if windows.io > Windows::IO_END {
            return Err(full());
        }
        address.write(guest, Width::L, at, base)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "below the end of the ports"
        )]
        let (base, size) = (base as u16, size as u32);
        return Ok((Some(Bar::Io { base, size }), false));
    }
    let wide = low & 6 == 4 && index < 5;
    let mut mask = u64::from(low & !15) | 0xffff_ffff << 32;
    if wide {
        address.write(guest, Width::L, at + 4, u32::MAX.into())?;
        mask &= u64::from(address.read(guest, Width::L, at + 4)?) << 32 | 0xffff_ffff;
    }
    let size = (!mask).wrapping_add(1);
    let base = windows.memory.checked_next_multiple_of(size.max(1));
    let base = base.filter(|b| b.saturating_add(size) <= Windows::MEMORY_END);
    let base = base.ok_or_else(full)?;
    windows.memory = base + size;
    address.write(guest, Width::L, at, base)?;
    if wide {
        address.write(guest, Width::L, at + 4, 0)?;
    }
    Ok((Some(Bar::Memory { base, size }), wide))
}

impl Function {
    /// The address of the registers `index` in memory.
    ///
    /// # Errors
    ///
    /// Fails if they are not there, or are ports.
    pub fn memory(&self, device: &'static str, index: usize) -> Result<u64> {
        match self.bars.get(index) {
            Some(Some(Bar::Memory { base, .. })) => Ok(*base),
            _ => Err(Error::device(device, format!("BAR {index} is not memory"))),
        }
    }

    /// The first port of the registers `index`.
    ///
    /// # Errors
    ///
    /// Fails if they are not there, or are memory.
    pub fn io(&self, device: &'static str, index: usize) -> Result<u16> {
        match self.bars.get(index) {
            Some(Some(Bar::Io { base, .. })) => Ok(*base),
            _ => Err(Error::device(device, format!("BAR {index} is not ports"))),
        }
    }

    /// Where the capabilities with this number are in the configuration space, in their order.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub fn capabilities(&self, guest: &mut Guest, number: u8) -> Result<Vec<u8>> {
        const HAS_CAPABILITIES: u32 = 0x10;
        let mut found = Vec::new();
        let status = self.address.read(guest, Width::W, offset::STATUS)?;
        if status & HAS_CAPABILITIES == 0 {
            return Ok(found);
        }
        let mut at = self.address.byte(guest, offset::CAPABILITIES)? & 0xfc;
        // There is room for this many, so a list that is longer goes in a circle.
        for _ in 0..48 {
            if at == 0 {
                break;
            }
            if self.address.byte(guest, at)? == number {
                found.push(at);
            }
            at = self.address.byte(guest, at + 1)? & 0xfc;
        }
        Ok(found)
    }

    /// Lets interrupts of the function be messages: writes to the guest's memory. Nothing if it
    /// cannot.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub fn enable_msix(&self, guest: &mut Guest) -> Result<Option<Msix>> {
        const ENABLE: u64 = 1 << 15;
        let Some(&at) = self.capabilities(guest, MSIX)?.first() else {
            return Ok(None);
        };
        let control = self.address.read(guest, Width::W, at + 2)?;
        let table = self.address.read(guest, Width::L, at + 4)?;
        let table = self.memory("msi-x", (table & 7) as usize)? + u64::from(table & !7);
        let vectors = u16::try_from((control & 0x7ff) + 1).unwrap_or(u16::MAX);
        let words = guest.allocate(4 * u64::from(vectors), 4096)?;
        for vector in 0..u64::from(vectors) {
            guest.label("msi-x table");
            let entry = table + 16 * vector;
            guest.write(Width::L, entry, words + 4 * vector)?;
            guest.write(Width::L, entry + 4, 0)?;
            guest.write(Width::L, entry + 8, 1)?;
            guest.write(Width::L, entry + 12, 0)?;
        }
        let control = u64::from(control) | ENABLE;
        self.address.write(guest, Width::W, at + 2, control)?;
        Ok(Some(Msix { vectors, words }))
    }
}

/// Interrupts that are messages: each vector has a word of the guest's memory, which becomes 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msix {
    /// How many there are.
    pub vectors: u16,
    words: u64,
}

impl Msix {
    /// Whether the interrupt came since the last call.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub fn take(&self, guest: &mut Guest, vector: u16) -> Result<bool> {
        let word = self.words + 4 * u64::from(vector);
        let came = guest.read(Width::L, word)? != 0;
        if came {
            guest.write(Width::L, word, 0)?;
        }
        Ok(came)
    }

    /// Gives the memory of the words back; the function must not interrupt any more.
    pub fn free(&self, guest: &mut Guest) {
        guest.free(self.words);
    }
}
