//! Small drivers, as the specifications of the devices describe them.

pub mod nvme;
