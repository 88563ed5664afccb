//! A reset of the whole machine, as a guest asks for it.
//!
//! The emulator carries it out when it comes back to its main loop, behind the lines that it has
//! read already: up to [`READ_AT_ONCE`] bytes. A line that is longer than that is answered only
//! after the reset, so a trace in a file can have resets in it. Another one before the reset lets
//! devices begin what the last accesses asked for: many do that in the main loop as well.

use std::fmt;

use crate::op::{Op, Width};

/// As many bytes as the emulator reads at once (`qtest_can_read` in QEMU's `system/qtest.c`).
pub const READ_AT_ONCE: usize = 1024;

/// The register that resets a PC, both with the chipsets PIIX3 (`pc`) and ICH9 (`q35`): Intel
/// 82371SB, section 2.7.1, and Intel ICH9, section 13.7.5.
pub const CONTROL: Op = Op::Out {
    width: Width::B,
    port: 0xcf9,
    value: 6,
};

/// How the line before a reset begins. The emulator looks at the first word alone.
pub const BEFORE: &str = "endianness # before a reset ";

/// How the line behind a reset begins.
pub const BEHIND: &str = "endianness # behind a reset ";

/// After so many long lines, devices have begun what they put off, and what that puts off in turn.
pub const TURNS: usize = 4;

/// A line that does nothing and is longer than what the emulator reads at once.
#[must_use]
pub fn long_line() -> String {
    format!("{BEFORE}{:->READ_AT_ONCE$}", "")
}

/// The three lines of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines;

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let long = format_args!("{:->READ_AT_ONCE$}", "");
        write!(f, "{BEFORE}{long}\n{CONTROL}\n{BEHIND}{long}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_around_it_are_longer_than_what_is_read_at_once() {
        let lines = Lines.to_string();
        let [before, control, behind] = lines.split('\n').collect::<Vec<_>>()[..] else {
            panic!("{lines}");
        };
        assert_eq!(control.parse(), Ok(CONTROL));
        for line in [before, behind] {
            assert_eq!(line.parse(), Ok(Op::Endianness));
            assert!(line.len() > READ_AT_ONCE);
        }
    }
}
