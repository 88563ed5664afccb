//! Where a program failed, in words that stay the same from run to run, machine to machine
//! and, as far as it goes, version to version: the names that findings are grouped by.
//!
//! Three sources, from the most telling to the least: what the program said as it gave up
//! ([`site`]), the report of a sanitizer ([`sanitizer`]), the stack that gdb shows
//! ([`Debugger`]; of a program that hangs, [`Sampler`]).

mod attach;
mod debugger;
mod frame;
mod message;

pub use attach::Sampler;
pub use debugger::{Debugger, parse_backtrace};
pub use frame::{Frame, Stack};
pub use message::{SanitizerReport, Site, sanitizer, site};
