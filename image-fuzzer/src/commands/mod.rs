//! The commands that are run on an image: given by the user or drawn at random.

pub mod build;
pub mod drawn;
pub mod encrypted;
pub mod given;
mod programs;
mod qemu_io;
mod reads;
mod verbs;

pub use crate::input::command::{Command, quote};
pub use programs::{ITSELF, Programs};
pub use reads::{Reads, Shown};
