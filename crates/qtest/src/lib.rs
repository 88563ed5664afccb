//! The QTest protocol of QEMU, and what a guest's drivers do with it.
//!
//! An emulator that is started with `-qtest` does what a processor would do, by commands over
//! a connection: it reads and writes ports and memory. It needs no accelerator of that name;
//! any emulator does, if its processor does nothing ([`firmware`]).
//!
//! [`Client`] is the connection, [`Guest`] a machine with memory of its own, [`pci`] its bus,
//! [`block`] what all disks have in common, and `drivers` has a driver for each kind of storage
//! device. [`graph`] knows how devices are put together and has a driver for each path.

pub mod block;
mod client;
pub mod drivers;
mod error;
pub mod firmware;
pub mod graph;
mod guest;
mod memory;
mod op;
pub mod pci;
pub mod reset;

pub use client::{Answer, Client};
pub use error::{Error, Result};
pub use guest::{Buffer, Guest, Recorded};
pub use memory::Allocator;
pub use op::{Op, ParseOpError, Width};
