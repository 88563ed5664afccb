//! Small drivers, as the specifications of the devices describe them.

pub mod ahci;
pub mod ata;
pub mod floppy;
pub mod ide;
pub mod nvme;
pub mod sdhci;
