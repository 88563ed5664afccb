//! Small drivers, as the specifications of the devices describe them.

pub mod esp;
pub mod lsi;
pub mod megasas;
pub mod mptsas;
pub mod pvscsi;
pub mod scsi;
pub mod virtio;
