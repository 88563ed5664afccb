//! References: which one applies, whether an output equals it, and how a new one
//! is written.

mod equal;
mod find;

pub use equal::{equal, lines, trim_line_end};
pub use find::{NO_REFERENCE, find, no_reference};
