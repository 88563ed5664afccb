//! Virtio by registers in memory: virtio 1.2, section 4.2.

use super::{Areas, Transport};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;
use crate::pci::Msix;

/// The registers: sections 4.2.2 and 4.2.4.
mod register {
    pub(super) const MAGIC_VALUE: u64 = 0x000;
    pub(super) const VERSION: u64 = 0x004;
    pub(super) const DEVICE_ID: u64 = 0x008;
    pub(super) const DEVICE_FEATURES: u64 = 0x010;
    pub(super) const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub(super) const DRIVER_FEATURES: u64 = 0x020;
    pub(super) const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub(super) const GUEST_PAGE_SIZE: u64 = 0x028;
    pub(super) const QUEUE_SEL: u64 = 0x030;
    pub(super) const QUEUE_NUM_MAX: u64 = 0x034;
    pub(super) const QUEUE_NUM: u64 = 0x038;
    pub(super) const QUEUE_ALIGN: u64 = 0x03c;
    pub(super) const QUEUE_PFN: u64 = 0x040;
    pub(super) const QUEUE_READY: u64 = 0x044;
    pub(super) const QUEUE_NOTIFY: u64 = 0x050;
    pub(super) const INTERRUPT_STATUS: u64 = 0x060;
    pub(super) const INTERRUPT_ACK: u64 = 0x064;
    pub(super) const STATUS: u64 = 0x070;
    pub(super) const QUEUE_DESC: u64 = 0x080;
    pub(super) const QUEUE_DRIVER: u64 = 0x090;
    pub(super) const QUEUE_DEVICE: u64 = 0x0a0;
    pub(super) const CONFIG_GENERATION: u64 = 0x0fc;
    pub(super) const CONFIG: u64 = 0x100;
}

/// `virt`
const MAGIC: u64 = 0x7472_6976;

/// Where the machine `microvm` has its devices, how far apart, and the most that there are.
const FIRST: u64 = 0xfeb0_0000;
const STEP: u64 = 0x200;
const MOST: u64 = 24;

/// The page size of legacy devices, in bytes.
const PAGE: u64 = 4096;

/// A device with registers in memory.
#[derive(Debug)]
pub struct Mmio {
    base: u64,
    legacy: bool,
}

impl Mmio {
    /// Finds the first device with this number of section 5.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub fn find(guest: &mut Guest, name: &'static str, id: u16) -> Result<Self> {
        for base in (0..MOST).map(|n| FIRST + n * STEP) {
            if guest.read(Width::L, base + register::MAGIC_VALUE)? == MAGIC
                && guest.read(Width::L, base + register::DEVICE_ID)? == u64::from(id)
            {
                let legacy = guest.read(Width::L, base + register::VERSION)? == 1;
                return Ok(Self { base, legacy });
            }
        }
        Err(Error::device(
            name,
            "not found among the virtio-mmio devices",
        ))
    }

    fn set(&self, guest: &mut Guest, register: u64, value: u64) -> Result<()> {
        guest.label("virtio mmio register");
        guest.write(Width::L, self.base + register, value)
    }

    fn get(&self, guest: &mut Guest, register: u64) -> Result<u64> {
        guest.read(Width::L, self.base + register)
    }

    /// An address of 64 bits, as two registers.
    fn set_address(&self, guest: &mut Guest, register: u64, address: u64) -> Result<()> {
        self.set(guest, register, address & 0xffff_ffff)?;
        self.set(guest, register + 4, address >> 32)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "registers have four bytes, of which some mean something"
)]
impl Transport for Mmio {
    fn is_legacy(&self) -> bool {
        self.legacy
    }

    fn features(&mut self, guest: &mut Guest) -> Result<u64> {
        let mut features = 0;
        for half in 0..if self.legacy { 1 } else { 2 } {
            self.set(guest, register::DEVICE_FEATURES_SEL, half)?;
            features |= self.get(guest, register::DEVICE_FEATURES)? << (32 * half);
        }
        Ok(features)
    }

    fn set_features(&mut self, guest: &mut Guest, features: u64) -> Result<()> {
        for half in 0..if self.legacy { 1 } else { 2 } {
            self.set(guest, register::DRIVER_FEATURES_SEL, half)?;
            let bits = features >> (32 * half) & 0xffff_ffff;
            self.set(guest, register::DRIVER_FEATURES, bits)?;
        }
        Ok(())
    }

    fn status(&mut self, guest: &mut Guest) -> Result<u8> {
        Ok(self.get(guest, register::STATUS)? as u8)
    }

    fn set_status(&mut self, guest: &mut Guest, status: u8) -> Result<()> {
        self.set(guest, register::STATUS, status.into())
    }

    fn queue_size(&mut self, guest: &mut Guest, queue: u16) -> Result<u16> {
        self.set(guest, register::QUEUE_SEL, queue.into())?;
        Ok(self.get(guest, register::QUEUE_NUM_MAX)? as u16)
    }

    fn enable_queue(&mut self, guest: &mut Guest, queue: u16, areas: &Areas) -> Result<()> {
        if self.legacy {
            self.set(guest, register::GUEST_PAGE_SIZE, PAGE)?;
        }
        self.set(guest, register::QUEUE_SEL, queue.into())?;
        self.set(guest, register::QUEUE_NUM, areas.size.into())?;
        if self.legacy {
            self.set(guest, register::QUEUE_ALIGN, PAGE)?;
            return self.set(guest, register::QUEUE_PFN, areas.descriptors / PAGE);
        }
        self.set_address(guest, register::QUEUE_DESC, areas.descriptors)?;
        self.set_address(guest, register::QUEUE_DRIVER, areas.driver)?;
        self.set_address(guest, register::QUEUE_DEVICE, areas.device)?;
        self.set(guest, register::QUEUE_READY, 1)
    }

    fn notify(&mut self, guest: &mut Guest, queue: u16) -> Result<()> {
        guest.label("virtio mmio notification");
        guest.write(Width::L, self.base + register::QUEUE_NOTIFY, queue.into())
    }

    fn interrupt_status(&mut self, guest: &mut Guest) -> Result<u8> {
        let status = self.get(guest, register::INTERRUPT_STATUS)?;
        if status != 0 {
            self.set(guest, register::INTERRUPT_ACK, status)?;
        }
        Ok(status as u8)
    }

    fn config(&mut self, guest: &mut Guest, width: Width, offset: u16) -> Result<u64> {
        let at = self.base + register::CONFIG + u64::from(offset);
        if width == Width::Q {
            let low = guest.read(Width::L, at)?;
            return Ok(guest.read(Width::L, at + 4)? << 32 | low);
        }
        guest.read(width, at)
    }

    fn set_config(
        &mut self,
        guest: &mut Guest,
        width: Width,
        offset: u16,
        value: u64,
    ) -> Result<()> {
        let at = self.base + register::CONFIG + u64::from(offset);
        guest.label("virtio device configuration");
        if width == Width::Q {
            guest.write(Width::L, at, value & 0xffff_ffff)?;
            return guest.write(Width::L, at + 4, value >> 32);
        }
        guest.write(width, at, value)
    }

    fn generation(&mut self, guest: &mut Guest) -> Result<u32> {
        if self.legacy {
            return Ok(0);
        }
        Ok(self.get(guest, register::CONFIG_GENERATION)? as u32)
    }

    fn use_messages(&mut self, _guest: &mut Guest, _queues: u16) -> Result<Option<Msix>> {
        Ok(None)
    }
}
