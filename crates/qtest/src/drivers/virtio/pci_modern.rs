//! Virtio over PCI: virtio 1.2, section 4.1.

use super::{Areas, Transport, id};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;
use crate::pci::{Function, Msix, Pci};

/// The registers of the common configuration: section 4.1.4.3.
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub(super) const DEVICE_FEATURE: u64 = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(super) const DRIVER_FEATURE: u64 = 0x0c;
    pub(super) const CONFIG_MSIX_VECTOR: u64 = 0x10;
    pub(super) const DEVICE_STATUS: u64 = 0x14;
    pub(super) const CONFIG_GENERATION: u64 = 0x15;
    pub(super) const QUEUE_SELECT: u64 = 0x16;
    pub(super) const QUEUE_SIZE: u64 = 0x18;
    pub(super) const QUEUE_MSIX_VECTOR: u64 = 0x1a;
    pub(super) const QUEUE_ENABLE: u64 = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub(super) const QUEUE_DESC: u64 = 0x20;
    pub(super) const QUEUE_DRIVER: u64 = 0x28;
    pub(super) const QUEUE_DEVICE: u64 = 0x30;
}

/// What a capability describes: section 4.1.4.
mod structure {
    pub(super) const COMMON: usize = 1;
    pub(super) const NOTIFY: usize = 2;
    pub(super) const ISR: usize = 3;
    pub(super) const DEVICE: usize = 4;
}

/// A device with the structures of virtio 1.0 and later.
#[derive(Debug)]
pub struct PciModern {
    function: Function,
    common: u64,
    isr: u64,
    device: u64,
    notify: u64,
    /// In bytes, from one queue's place for notifications to the next.
    notify_multiplier: u32,
    /// The addresses to which notifications of each queue go.
    doorbells: Vec<u64>,
}

impl PciModern {
    /// Finds the first device with this number of section 5, transitional ones too.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub fn find(guest: &mut Guest, name: &'static str, device: u16) -> Result<Self> {
        let pci = Pci::enumerate(guest)?;
        let vendor = id::PCI_VENDOR;
        let ids = [
            (vendor, 0x1040 + device),
            (vendor, id::transitional(device)),
        ];
        Self::of(guest, name, pci.find(name, &ids)?)
    }

    /// Finds the structures of a device.
    ///
    /// # Errors
    ///
    /// Fails if one of them is not there.
    pub fn of(guest: &mut Guest, name: &'static str, function: &Function) -> Result<Self> {
        const VENDOR_SPECIFIC: u8 = 9;
        let mut places = [None; 5];
        let mut notify_multiplier = 0;
        for at in function.capabilities(guest, VENDOR_SPECIFIC)? {
            let kind = function.address.read(guest, Width::B, at + 3)? as usize;
            let bar = function.address.read(guest, Width::B, at + 4)? as usize;
            let offset = function.address.read(guest, Width::L, at + 8)?;
            if let Some(place @ None) = places.get_mut(kind) {
                *place = Some(function.memory(name, bar)? + u64::from(offset));
                if kind == structure::NOTIFY {
                    notify_multiplier = function.address.read(guest, Width::L, at + 16)?;
                }
            }
        }
        let place = |kind: usize| {
            let what = format!("no virtio structure of type {kind}: a legacy device");
            places[kind].ok_or_else(|| Error::device(name, what))
        };
        Ok(Self {
            function: function.clone(),
            common: place(structure::COMMON)?,
            isr: place(structure::ISR)?,
            device: place(structure::DEVICE)?,
            notify: place(structure::NOTIFY)?,
            notify_multiplier,
            doorbells: Vec::new(),
        })
    }

    fn set(&self, guest: &mut Guest, width: Width, offset: u64, value: u64) -> Result<()> {
        guest.label("virtio pci common configuration");
        guest.write(width, self.common + offset, value)
    }

    fn select(&self, guest: &mut Guest, queue: u16) -> Result<()> {
        self.set(guest, Width::W, common::QUEUE_SELECT, queue.into())
    }

    /// An address of 64 bits, as two registers.
    fn set_address(&self, guest: &mut Guest, offset: u64, address: u64) -> Result<()> {
        self.set(guest, Width::L, offset, address & 0xffff_ffff)?;
        self.set(guest, Width::L, offset + 4, address >> 32)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "registers have as many bytes as are read"
)]
impl Transport for PciModern {
    fn is_legacy(&self) -> bool {
        false
    }

    fn features(&mut self, guest: &mut Guest) -> Result<u64> {
        let mut features = 0;
        for half in 0..2 {
            self.set(guest, Width::L, common::DEVICE_FEATURE_SELECT, half)?;
            let bits = guest.read(Width::L, self.common + common::DEVICE_FEATURE)?;
            features |= bits << (32 * half);
        }
        Ok(features)
    }

    fn set_features(&mut self, guest: &mut Guest, features: u64) -> Result<()> {
        for half in 0..2 {
            self.set(guest, Width::L, common::DRIVER_FEATURE_SELECT, half)?;
            let bits = features >> (32 * half) & 0xffff_ffff;
            self.set(guest, Width::L, common::DRIVER_FEATURE, bits)?;
        }
        Ok(())
    }

    fn status(&mut self, guest: &mut Guest) -> Result<u8> {
        Ok(guest.read(Width::B, self.common + common::DEVICE_STATUS)? as u8)
    }

    fn set_status(&mut self, guest: &mut Guest, status: u8) -> Result<()> {
        self.set(guest, Width::B, common::DEVICE_STATUS, status.into())
    }

    fn queue_size(&mut self, guest: &mut Guest, queue: u16) -> Result<u16> {
        self.select(guest, queue)?;
        Ok(guest.read(Width::W, self.common + common::QUEUE_SIZE)? as u16)
    }

    fn enable_queue(&mut self, guest: &mut Guest, queue: u16, areas: &Areas) -> Result<()> {
        self.select(guest, queue)?;
        self.set(guest, Width::W, common::QUEUE_SIZE, areas.size.into())?;
        self.set_address(guest, common::QUEUE_DESC, areas.descriptors)?;
        self.set_address(guest, common::QUEUE_DRIVER, areas.driver)?;
        self.set_address(guest, common::QUEUE_DEVICE, areas.device)?;
        let offset = guest.read(Width::W, self.common + common::QUEUE_NOTIFY_OFF)?;
        let doorbell = self.notify + offset * u64::from(self.notify_multiplier);
        let index = usize::from(queue);
        if self.doorbells.len() <= index {
            self.doorbells.resize(index + 1, self.notify);
        }
        self.doorbells[index] = doorbell;
        self.set(guest, Width::W, common::QUEUE_ENABLE, 1)
    }

    fn notify(&mut self, guest: &mut Guest, queue: u16) -> Result<()> {
        let at = self.doorbells.get(usize::from(queue)).copied();
        guest.label("virtio pci notification");
        guest.write(Width::W, at.unwrap_or(self.notify), queue.into())
    }

    fn interrupt_status(&mut self, guest: &mut Guest) -> Result<u8> {
        Ok(guest.read(Width::B, self.isr)? as u8)
    }

    fn config(&mut self, guest: &mut Guest, width: Width, offset: u16) -> Result<u64> {
        guest.read(width, self.device + u64::from(offset))
    }

    fn set_config(
        &mut self,
        guest: &mut Guest,
        width: Width,
        offset: u16,
        value: u64,
    ) -> Result<()> {
        guest.label("virtio device configuration");
        guest.write(width, self.device + u64::from(offset), value)
    }

    fn generation(&mut self, guest: &mut Guest) -> Result<u32> {
        Ok(guest.read(Width::B, self.common + common::CONFIG_GENERATION)? as u32)
    }

    fn use_messages(&mut self, guest: &mut Guest, queues: u16) -> Result<Option<Msix>> {
        let Some(msix) = self.function.enable_msix(guest)? else {
            return Ok(None);
        };
        self.set(guest, Width::W, common::CONFIG_MSIX_VECTOR, 0)?;
        for queue in 0..queues {
            self.select(guest, queue)?;
            let vector = super::vector(&msix, queue);
            self.set(guest, Width::W, common::QUEUE_MSIX_VECTOR, vector.into())?;
        }
        Ok(Some(msix))
    }
}
