//! Fuzzes the devices of an emulator over the QTest protocol.
//!
//! An input is a program of accesses to ports and memory. It is drawn from what the emulator says
//! of its registers, recorded of a driver in the crate `qtest`, or made from another one; run on a
//! stock emulator, whose machine is reset behind it; kept where it reaches new blocks. Where the
//! emulator ends, hangs or grows, the inputs since its start are a trace that shows it again.

pub mod campaign;
mod catalogue;
pub mod disk;
mod draw;
mod emulator;
pub mod host;
pub mod judge;
pub mod machine;
pub mod minimise;
mod model;
mod monitor;
mod mutate;
pub mod program;
mod recording;
pub mod regions;
pub mod replay;
pub mod report;
mod run_inputs;
pub mod store;
mod surface;

pub use emulator::{Emulator, InputLimits, Ran, Setup};
pub use model::Model;
pub use surface::Surface;
