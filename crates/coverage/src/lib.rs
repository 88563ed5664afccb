//! Notes which basic blocks of an unmodified program are reached.
//!
//! The first byte of each block that was not reached yet is replaced, in the memory of the
//! process, by one that is no instruction. A process that gets there receives SIGILL; the
//! handler puts the byte back, notes the block in shared memory, and the instruction is run.
//! So a block costs once, and what is reached all the time costs nothing.
//!
//! SIGTRAP would not do: QEMU blocks it in its worker threads, and a signal of an instruction
//! that is blocked ends the process. SIGILL it leaves alone.
//!
//! One side is the controller: it has a [`Map`] of the blocks, which the crate `blocks` finds,
//! and reads from it what was reached. The other is the program, into which a library is
//! loaded that calls [`trap::arm`] before the program starts, and [`trap::forget_reached`]
//! before each fork of a fork server.
//!
//! A controller that does not start the processes itself has the map in two files instead
//! ([`record`]): the processes find it by what an environment variable says.
//!
//! Where it cannot work the program is left alone and the map says why ([`Obstacle`]).

pub mod map;
pub mod record;
pub mod trap;

mod clock;
mod text;

pub use map::{Map, Module, Obstacle};
pub use text::{Code, SharedText, TEXT_PATH};
