//! Virtio over PCI before 1.0, with ports: virtio 1.2, section 4.1.4.10 (legacy interface).

use super::{Areas, Transport, id};
use crate::error::Result;
use crate::guest::Guest;
use crate::op::Width;
use crate::pci::{Function, Msix, Pci};

/// The ports, from the first one.
mod port {
    pub(super) const DEVICE_FEATURES: u16 = 0;
    pub(super) const DRIVER_FEATURES: u16 = 4;
    pub(super) const QUEUE_ADDRESS: u16 = 8;
    pub(super) const QUEUE_SIZE: u16 = 12;
    pub(super) const QUEUE_SELECT: u16 = 14;
    pub(super) const QUEUE_NOTIFY: u16 = 16;
    pub(super) const DEVICE_STATUS: u16 = 18;
    pub(super) const ISR_STATUS: u16 = 19;
    pub(super) const CONFIG_MSIX_VECTOR: u16 = 20;
    pub(super) const QUEUE_MSIX_VECTOR: u16 = 22;
    pub(super) const CONFIG: u16 = 20;
    /// With MSI-X, its registers are before the configuration.
    pub(super) const CONFIG_BEHIND_MSIX: u16 = 24;
}

/// Queues are at multiples of this many bytes.
const PAGE: u64 = 4096;

/// A legacy device, or a transitional one that is used as such.
#[derive(Debug)]
pub struct PciLegacy {
    function: Function,
    base: u16,
    msix: bool,
}

impl PciLegacy {
    /// Finds the first device with this number of section 5.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or it has no legacy interface.
    pub fn find(guest: &mut Guest, name: &'static str, device: u16) -> Result<Self> {
        let pci = Pci::enumerate(guest)?;
        Self::of(
            name,
            pci.find(name, &[(id::PCI_VENDOR, id::transitional(device))])?,
        )
    }

    /// With the ports of a device.
    ///
    /// # Errors
    ///
    /// Fails if it has none.
    pub fn of(name: &'static str, function: &Function) -> Result<Self> {
        Ok(Self {
            function: function.clone(),
            base: function.io(name, 0)?,
            msix: false,
        })
    }

    fn set(&self, guest: &mut Guest, width: Width, port: u16, value: u32) -> Result<()> {
        guest.label("virtio legacy register");
        guest.port_out(width, self.base + port, value)
    }

    fn get(&self, guest: &mut Guest, width: Width, port: u16) -> Result<u32> {
        guest.port_in(width, self.base + port)
    }

    fn select(&self, guest: &mut Guest, queue: u16) -> Result<()> {
        self.set(guest, Width::W, port::QUEUE_SELECT, queue.into())
    }

    const fn configuration(&self, offset: u16) -> u16 {
        if self.msix {
            port::CONFIG_BEHIND_MSIX + offset
        } else {
            port::CONFIG + offset
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "ports have as many bytes as are read or written"
)]
impl Transport for PciLegacy {
    fn is_legacy(&self) -> bool {
        true
    }

    fn features(&mut self, guest: &mut Guest) -> Result<u64> {
        Ok(self.get(guest, Width::L, port::DEVICE_FEATURES)?.into())
    }

    fn set_features(&mut self, guest: &mut Guest, features: u64) -> Result<()> {
        self.set(guest, Width::L, port::DRIVER_FEATURES, features as u32)
    }

    fn status(&mut self, guest: &mut Guest) -> Result<u8> {
        Ok(self.get(guest, Width::B, port::DEVICE_STATUS)? as u8)
    }

    fn set_status(&mut self, guest: &mut Guest, status: u8) -> Result<()> {
        self.set(guest, Width::B, port::DEVICE_STATUS, status.into())
    }

    fn queue_size(&mut self, guest: &mut Guest, queue: u16) -> Result<u16> {
        self.select(guest, queue)?;
        Ok(self.get(guest, Width::W, port::QUEUE_SIZE)? as u16)
    }

    fn enable_queue(&mut self, guest: &mut Guest, queue: u16, areas: &Areas) -> Result<()> {
        self.select(guest, queue)?;
        let page = (areas.descriptors / PAGE) as u32;
        self.set(guest, Width::L, port::QUEUE_ADDRESS, page)
    }

    fn notify(&mut self, guest: &mut Guest, queue: u16) -> Result<()> {
        self.set(guest, Width::W, port::QUEUE_NOTIFY, queue.into())
    }

    fn interrupt_status(&mut self, guest: &mut Guest) -> Result<u8> {
        Ok(self.get(guest, Width::B, port::ISR_STATUS)? as u8)
    }

    fn config(&mut self, guest: &mut Guest, width: Width, offset: u16) -> Result<u64> {
        let port = self.configuration(offset);
        if width == Width::Q {
            let low = u64::from(self.get(guest, Width::L, port)?);
            let high = u64::from(self.get(guest, Width::L, port + 4)?);
            return Ok(high << 32 | low);
        }
        Ok(self.get(guest, width, port)?.into())
    }

    fn set_config(
        &mut self,
        guest: &mut Guest,
        width: Width,
        offset: u16,
        value: u64,
    ) -> Result<()> {
        let port = self.configuration(offset);
        if width == Width::Q {
            self.set(guest, Width::L, port, value as u32)?;
            return self.set(guest, Width::L, port + 4, (value >> 32) as u32);
        }
        self.set(guest, width, port, value as u32)
    }

    fn generation(&mut self, _guest: &mut Guest) -> Result<u32> {
        Ok(0)
    }

    fn use_messages(&mut self, guest: &mut Guest, queues: u16) -> Result<Option<Msix>> {
        let Some(msix) = self.function.enable_msix(guest)? else {
            return Ok(None);
        };
        self.msix = true;
        self.set(guest, Width::W, port::CONFIG_MSIX_VECTOR, 0)?;
        for queue in 0..queues {
            self.select(guest, queue)?;
            let vector = super::vector(&msix, queue);
            self.set(guest, Width::W, port::QUEUE_MSIX_VECTOR, vector.into())?;
        }
        Ok(Some(msix))
    }
}
