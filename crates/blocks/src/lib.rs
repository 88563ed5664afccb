#![doc = include_str!("../README.md")]

pub mod debug_files;
pub mod packages;

mod elf;
mod error;
mod file_glob;
mod functions;
mod hash;
mod leaders;
mod names;
mod program;
mod reason;
mod symbols;

pub use error::Error;
pub use file_glob::FileGlob;
pub use program::{Block, Function, LeftOut, Program, Segment};
pub use reason::Reason;
pub use symbols::{Frame, FunctionSymbol, Symbols};
