//! Virtio 1.2: devices of a virtual machine, reached over PCI or by registers in memory.
//!
//! [`Transport`] is where a device is, [`Virtqueue`] how requests get there, [`Device`] both
//! together, set up. [`Blk`] and [`Scsi`] are the drivers. Queues are public, so that tests can
//! write into them what no driver would.

mod blk;
mod device;
mod mmio;
mod packed;
mod pci_legacy;
mod pci_modern;
mod queue;
mod scsi;
mod split;
mod virtqueue;

pub use blk::Blk;
pub use device::Device;
pub use mmio::Mmio;
pub use packed::PackedQueue;
pub use pci_legacy::PciLegacy;
pub use pci_modern::PciModern;
pub use queue::{Options, Segment, Used};
pub use scsi::{Event, Scsi, TaskManagement};
pub use split::SplitQueue;
pub use virtqueue::Virtqueue;

use std::fmt;

use crate::error::Result;
use crate::guest::Guest;
use crate::op::Width;
use crate::pci::Msix;

/// Bits of the features that all devices have: section 6.
pub mod feature {
    /// Tables of descriptors outside of the queue: `VIRTIO_F_INDIRECT_DESC`.
    pub const INDIRECT: u64 = 1 << 28;
    /// Notifications at a given index: `VIRTIO_F_EVENT_IDX`.
    pub const EVENT_INDEX: u64 = 1 << 29;
    /// The device is no legacy device: `VIRTIO_F_VERSION_1`.
    pub const VERSION_1: u64 = 1 << 32;
    /// Queues have the packed layout: `VIRTIO_F_RING_PACKED`.
    pub const PACKED: u64 = 1 << 34;
}

/// Bits of the device's status: section 2.1.
pub mod status {
    /// The driver has seen the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// The driver knows the device.
    pub const DRIVER: u8 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u8 = 4;
    /// The driver has said which features it uses.
    pub const FEATURES_OK: u8 = 8;
    /// The device cannot go on without a reset.
    pub const NEEDS_RESET: u8 = 0x40;
}

/// The numbers of devices: section 5.
pub mod id {
    /// The vendor of all of them on the PCI bus: section 4.1.2.
    pub const PCI_VENDOR: u16 = 0x1af4;

    /// The PCI device number of a transitional device: section 4.1.2.1.
    #[must_use]
    pub const fn transitional(id: u16) -> u16 {
        match id {
            BLK => 0x1001,
            SCSI => 0x1004,
            _ => 0x1000,
        }
    }

    /// A disk.
    pub const BLK: u16 = 2;
    /// A host adapter for SCSI.
    pub const SCSI: u16 = 8;
}

/// Where the three parts of a queue are in the guest's memory: section 2.6. They are called
/// descriptor table, available ring and used ring where the queue is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Areas {
    /// The number of descriptors.
    pub size: u16,
    /// The descriptors.
    pub descriptors: u64,
    /// What the driver writes.
    pub driver: u64,
    /// What the device writes.
    pub device: u64,
}

/// How a device is reached: section 4.
pub trait Transport: fmt::Debug {
    /// Whether it is one from before virtio 1.0.
    fn is_legacy(&self) -> bool;

    /// The features that the device offers.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    fn features(&mut self, guest: &mut Guest) -> Result<u64>;

    /// Says which features the driver uses.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    fn set_features(&mut self, guest: &mut Guest, features: u64) -> Result<()>;

    /// The status of the device: [`status`].
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    fn status(&mut self, guest: &mut Guest) -> Result<u8>;

    /// Sets the status; 0 resets the device.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    fn set_status(&mut self, guest: &mut Guest, status: u8) -> Result<()>;

    /// How many descriptors a queue may have, 0 if there is none of this number.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    fn queue_size(&mut self, guest: &mut Guest, queue: u16) -> Result<u16>;

    /// Says where a queue is, and turns it on. Legacy devices find the parts by themselves: one
    /// behind the other, the used ring at a multiple of 4096.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    fn enable_queue(&mut self, guest: &mut Guest, queue: u16, areas: &Areas) -> Result<()>;

    /// Tells the device that there is something in a queue.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    fn notify(&mut self, guest: &mut Guest, queue: u16) -> Result<()>;

    /// Why the device interrupted since the last call: bit 0 for a queue, bit 1 for its
    /// configuration.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    fn interrupt_status(&mut self, guest: &mut Guest) -> Result<u8>;

    /// Reads from the configuration of the device.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    fn config(&mut self, guest: &mut Guest, width: Width, offset: u16) -> Result<u64>;

    /// Writes to the configuration of the device.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    fn set_config(
        &mut self,
        guest: &mut Guest,
        width: Width,
        offset: u16,
        value: u64,
    ) -> Result<()>;

    /// A number that changes with the configuration; always 0 for legacy devices.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    fn generation(&mut self, guest: &mut Guest) -> Result<u32>;

    /// Lets interrupts be messages: vector 0 for the configuration, and one for each of the
    /// queues as far as there are vectors. Nothing if it cannot.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    fn use_messages(&mut self, guest: &mut Guest, queues: u16) -> Result<Option<Msix>>;
}

/// Which vector a queue has, where as many as possible have one of their own.
fn vector(msix: &Msix, queue: u16) -> u16 {
    if msix.vectors < 2 {
        0
    } else {
        1 + queue % (msix.vectors - 1)
    }
}
