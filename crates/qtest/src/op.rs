//! Operations of the protocol, as lines of text.
//!
//! The protocol is described in QEMU's `system/qtest.c`; numbers are C literals, so that
//! `0x10`, `16` and `020` are one number.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};

/// How much one access of a port or of memory takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// One byte.
    B,
    /// Two bytes.
    W,
    /// Four bytes.
    L,
    /// Eight bytes; memory only.
    Q,
}

impl Width {
    /// All widths, narrow ones first.
    pub const ALL: [Self; 4] = [Self::B, Self::W, Self::L, Self::Q];

    /// In bytes: 1, 2, 4 or 8.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Self::B => 1,
            Self::W => 2,
            Self::L => 4,
            Self::Q => 8,
        }
    }

    /// The bits of `value` that an access of this width transfers.
    #[must_use]
    pub const fn truncate(self, value: u64) -> u64 {
        match self {
            Self::Q => value,
            _ => value & ((1 << (8 * self.bytes())) - 1),
        }
    }

    const fn letter(self) -> char {
        match self {
            Self::B => 'b',
            Self::W => 'w',
            Self::L => 'l',
            Self::Q => 'q',
        }
    }

    fn of_letter(letter: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|w| letter.len() == 1 && letter.starts_with(w.letter()))
    }
}

/// One operation: a line that is sent to the emulator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Reads a port.
    In {
        /// Not [`Width::Q`].
        width: Width,
        /// The number of the port.
        port: u16,
    },
    /// Writes a port.
    Out {
        /// Not [`Width::Q`].
        width: Width,
        /// The number of the port.
        port: u16,
        /// What is written.
        value: u32,
    },
    /// Reads physical memory or a register there.
    Read {
        /// How much.
        width: Width,
        /// The physical address.
        address: u64,
    },
    /// Writes physical memory or a register there.
    Write {
        /// How much.
        width: Width,
        /// The physical address.
        address: u64,
        /// What is written.
        value: u64,
    },
    /// Reads a block of memory.
    ReadBlock {
        /// The physical address.
        address: u64,
        /// In bytes, at least 1.
        length: u64,
    },
    /// Writes a block of memory.
    WriteBlock {
        /// The physical address.
        address: u64,
        /// At least one byte.
        bytes: Vec<u8>,
    },
    /// Fills a block of memory.
    Fill {
        /// The physical address.
        address: u64,
        /// In bytes, at least 1.
        length: u64,
        /// With what.
        byte: u8,
    },
    /// Tells the virtual clock to go on; only with the accelerator `qtest`.
    ClockStep {
        /// In nanoseconds; to the next timer where none.
        nanoseconds: Option<u64>,
    },
    /// Reports the interrupts that come to a device from now on.
    InterceptIn {
        /// The QOM path of the device: `ioapic`.
        path: String,
    },
    /// Reports the interrupts that a device raises from now on.
    InterceptOut {
        /// The QOM path of the device.
        path: String,
    },
    /// Asks for the order of bytes of the target: `little` or `big`.
    Endianness,
}

impl Op {
    /// Whether it writes to a port or to memory.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Out { .. } | Self::Write { .. } | Self::WriteBlock { .. } | Self::Fill { .. }
        )
    }

    /// Whether a value or bytes come with the answer.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        matches!(
            self,
            Self::In { .. } | Self::Read { .. } | Self::ReadBlock { .. }
        )
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In { width, port } => write!(f, "in{} {port:#x}", width.letter()),
            Self::Out { width, port, value } => {
                write!(f, "out{} {port:#x} {value:#x}", width.letter())
            }
            Self::Read { width, address } => write!(f, "read{} {address:#x}", width.letter()),
            Self::Write {
                width,
                address,
                value,
            } => write!(f, "write{} {address:#x} {value:#x}", width.letter()),
            Self::ReadBlock { address, length } => write!(f, "b64read {address:#x} {length:#x}"),
            Self::WriteBlock { address, bytes } => {
                let text = BASE64.encode(bytes);
                write!(f, "b64write {address:#x} {:#x} {text}", bytes.len())
            }
            Self::Fill {
                address,
                length,
                byte,
            } => write!(f, "memset {address:#x} {length:#x} {byte:#x}"),
            Self::ClockStep { nanoseconds: None } => write!(f, "clock_step"),
            Self::ClockStep {
                nanoseconds: Some(n),
            } => write!(f, "clock_step {n}"),
            Self::InterceptIn { path } => write!(f, "irq_intercept_in {path}"),
            Self::InterceptOut { path } => write!(f, "irq_intercept_out {path}"),
            Self::Endianness => write!(f, "endianness"),
        }
    }
}

/// Why a line is no operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{line}': {why}")]
pub struct ParseOpError {
    /// The line.
    pub line: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A number as C's `strtoull` with base 0 reads it.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    u64::from_str_radix(digits, radix).ok()
}

impl FromStr for Op {
    type Err = ParseOpError;

    /// Reads a line as QEMU does: `write` and `read` of blocks in hexadecimal as well as in
    /// base64.
    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        parse(&words).map_err(|why| ParseOpError {
            line: line.chars().take(60).collect(),
            why,
        })
    }
}

fn parse(words: &[&str]) -> Result<Op, &'static str> {
    let &[name, ref rest @ ..] = words else {
        return Err("an empty line");
    };
    let at = |i: usize| -> Result<u64, &'static str> {
        let word = rest.get(i).ok_or("a value is missing")?;
        number(word).ok_or("a value is not a 64-bit number")
    };
    let port = || u16::try_from(at(0)?).map_err(|_| "there are 65536 ports");
    let block = || match (at(0)?, at(1)?) {
        (_, 0) => Err("a block has at least one byte"),
        pair => Ok(pair),
    };
    let path = || {
        rest.first()
            .map(|p| (*p).to_owned())
            .ok_or("a path is missing")
    };
    Ok(match name {
        "read" | "b64read" => {
            let (address, length) = block()?;
            Op::ReadBlock { address, length }
        }
        "write" | "b64write" => {
            let (address, length) = block()?;
            let text = rest.get(2).ok_or("the bytes are missing")?;
            let bytes = if name == "write" {
                let digits = text.strip_prefix("0x").ok_or("bytes start with 0x")?;
                HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()
            } else {
                BASE64.decode(text.as_bytes()).ok()
            };
            let bytes = bytes.ok_or("the bytes cannot be decoded")?;
            if bytes.len() as u64 != length {
                return Err("the length is not that of the bytes");
            }
            Op::WriteBlock { address, bytes }
        }
        "memset" => {
            let (address, length) = block()?;
            #[expect(clippy::cast_possible_truncation, reason = "QEMU takes the low byte")]
            let byte = at(2)? as u8;
            Op::Fill {
                address,
                length,
                byte,
            }
        }
        "clock_step" => Op::ClockStep {
            nanoseconds: if rest.is_empty() { None } else { Some(at(0)?) },
        },
        "irq_intercept_in" => Op::InterceptIn { path: path()? },
        "irq_intercept_out" => Op::InterceptOut { path: path()? },
        "endianness" => Op::Endianness,
        _ => {
            let access = |prefix: &str| name.strip_prefix(prefix).and_then(Width::of_letter);
            if let Some(width) = access("read") {
                let address = at(0)?;
                Op::Read { width, address }
            } else if let Some(width) = access("write") {
                let (address, value) = (at(0)?, width.truncate(at(1)?));
                Op::Write {
                    width,
                    address,
                    value,
                }
            } else if let Some(width) = access("in").filter(|w| *w != Width::Q) {
                Op::In {
                    width,
                    port: port()?,
                }
            } else if let Some(width) = access("out").filter(|w| *w != Width::Q) {
                #[expect(clippy::cast_possible_truncation, reason = "at most four bytes")]
                let value = width.truncate(at(1)?) as u32;
                Op::Out {
                    width,
                    port: port()?,
                    value,
                }
            } else {
                return Err("an unknown operation");
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn width() -> impl Strategy<Value = Width> {
        prop::sample::select(Width::ALL.to_vec())
    }

    fn op() -> impl Strategy<Value = Op> {
        let narrow = || prop::sample::select(vec![Width::B, Width::W, Width::L]);
        let bytes = prop::collection::vec(any::<u8>(), 1..40);
        prop_oneof![
            (narrow(), any::<u16>()).prop_map(|(width, port)| Op::In { width, port }),
            (narrow(), any::<u16>(), any::<u32>()).prop_map(|(width, port, value)| {
                let value = u32::try_from(width.truncate(value.into())).unwrap();
                Op::Out { width, port, value }
            }),
            (width(), any::<u64>()).prop_map(|(width, address)| Op::Read { width, address }),
            (width(), any::<u64>(), any::<u64>()).prop_map(|(width, address, value)| Op::Write {
                width,
                address,
                value: width.truncate(value)
            }),
            (any::<u64>(), 1..u64::MAX)
                .prop_map(|(address, length)| Op::ReadBlock { address, length }),
            (any::<u64>(), bytes).prop_map(|(address, bytes)| Op::WriteBlock { address, bytes }),
            (any::<u64>(), 1..u64::MAX, any::<u8>()).prop_map(|(address, length, byte)| {
                Op::Fill {
                    address,
                    length,
                    byte,
                }
            }),
            any::<Option<u64>>().prop_map(|nanoseconds| Op::ClockStep { nanoseconds }),
            "[a-z/]{1,10}".prop_map(|path| Op::InterceptIn { path }),
        ]
    }

    proptest! {
        #[test]
        fn a_line_is_read_back(op in op()) {
            prop_assert_eq!(op.to_string().parse::<Op>(), Ok(op));
        }

        #[test]
        fn any_line_is_an_operation_or_an_error(line in ".{0,60}") {
            let _ = line.parse::<Op>();
        }
    }

    #[test]
    fn numbers_are_those_of_c() {
        let read = |line: &str| line.parse::<Op>().unwrap();
        assert_eq!(read("inb 0x1f"), read("inb 31"));
        assert_eq!(read("inb 037"), read("inb 31"));
        assert_eq!(read("write 0x10 0x2 0xab12"), read("b64write 16 2 qxI="));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let why = |line: &str| line.parse::<Op>().unwrap_err().why;
        assert_eq!(why("inq 1"), "an unknown operation");
        assert_eq!(why("outb 65536 1"), "there are 65536 ports");
        assert_eq!(why("write 0 3 0xab"), "the length is not that of the bytes");
        assert_eq!(why("readl"), "a value is missing");
    }
}
