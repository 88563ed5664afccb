//! The commands that are run on an image: given by the user or drawn at random.

mod amend;
mod blkdebug;
pub mod build;
mod creation;
mod draw;
mod drawn;
mod drivers;
mod encrypted;
mod fitting;
pub mod given;
mod image_opts;
mod img;
mod imported;
mod io_errors;
mod open_options;
mod other;
mod programs;
mod qemu_io;
mod raw;
mod reads;
mod verbs;
mod words;

pub use crate::input::command::{Command, quote};
pub use draw::{adapted, one, sequence, survey};
pub use programs::{ITSELF, Programs};
pub use reads::{Reads, Shown};
