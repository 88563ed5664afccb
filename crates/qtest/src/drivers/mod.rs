//! Small drivers, as the specifications of the devices describe them.

pub mod ahci;
pub mod ata;
pub mod esp;
pub mod floppy;
pub mod ide;
pub mod lsi;
pub mod megasas;
pub mod mptsas;
pub mod nvme;
pub mod pvscsi;
pub mod scsi;
pub mod sdhci;
pub mod ufs;
pub mod usb;
pub mod virtio;
