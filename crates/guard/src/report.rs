//! The line that says what was done to which block, and where. Nothing here allocates.
#![allow(unsafe_code)] // write(2), abort(3); each block says why it is sound.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::block::Block;
use crate::code::{self, Unwound};

/// What the line begins with.
const PREFIX: &str = "image-fuzzer guard: ";

/// The longest line, in bytes; the end of a longer one is left out.
const LINE: usize = 2048;

/// What was done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    Read,
    Write,
    /// By a system call of this name.
    ReadBy(&'static str),
    WriteBy(&'static str),
    DoubleFree,
    InvalidFree,
    /// Found when the block is freed, or at the end of the program.
    Damage,
}

/// Where it was done, seen from a block.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// The number of bytes between the end of the block and the byte.
    PastEnd(usize),
    /// The byte is this many before the start.
    BeforeStart(usize),
    /// The byte is this many after the start.
    Inside(usize),
}

impl Place {
    pub(crate) fn of(block: &Block, address: usize) -> Self {
        if address < block.address {
            return Self::BeforeStart(block.address.wrapping_sub(address));
        }
        let offset = address.wrapping_sub(block.address);
        if offset < block.size || offset == 0 && block.is_freed() {
            Self::Inside(offset)
        } else {
            Self::PastEnd(offset.wrapping_sub(block.size))
        }
    }
}

/// One finding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) access: Access,
    pub(crate) place: Option<Place>,
    pub(crate) block: Option<Block>,
}

impl Fault {
    /// What was overwritten in or around a block, if anything was.
    pub(crate) fn damage(block: &Block) -> Option<Self> {
        let at = block.damaged_byte()?;
        Some(Self {
            access: Access::Damage,
            place: Some(Place::of(block, at)),
            block: Some(*block),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.access {
            Access::Read => f.write_str("read"),
            Access::Write => f.write_str("write"),
            Access::ReadBy(call) => write!(f, "read by {call}"),
            Access::WriteBy(call) => write!(f, "write by {call}"),
            Access::DoubleFree => f.write_str("double free"),
            Access::InvalidFree => f.write_str("free of an address that is no block"),
            Access::Damage => f.write_str("overwritten byte"),
        }?;
        let Some(block) = self.block else {
            return Ok(());
        };
        let freed = if block.is_freed() { "freed " } else { "" };
        match self.place {
            Some(Place::Inside(0)) if matches!(self.access, Access::DoubleFree) => {
                f.write_str(" of")?;
            }
            Some(Place::PastEnd(bytes)) => write!(f, " {} past the end of", Bytes(bytes))?,
            Some(Place::BeforeStart(bytes)) => {
                write!(f, " {} before the start of", Bytes(bytes))?;
            }
            Some(Place::Inside(bytes)) => write!(f, " {} into", Bytes(bytes))?,
            None => f.write_str(" near")?,
        }
        write!(f, " a {freed}block of {}", Bytes(block.size))
    }
}

struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = self;
        write!(f, "{bytes} byte{}", if *bytes == 1 { "" } else { "s" })
    }
}

/// Addresses as modules and places in them, joined by ` < `.
struct Frames<'a>(&'a [usize]);

impl fmt::Display for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, &address) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str(" < ")?;
            }
            code::with_module(address, |module| match module {
                Some((name, offset)) => {
                    for &byte in name {
                        f.write_char(if byte.is_ascii_graphic() {
                            byte as char
                        } else {
                            '?'
                        })?;
                    }
                    write!(f, "+{offset:#x}")
                }
                None => write!(f, "{address:#x}"),
            })?;
        }
        Ok(())
    }
}

/// Text of a bounded length; what does not fit is left out.
struct Line {
    bytes: [u8; LINE],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The last byte is the newline's.
        let room = LINE.saturating_sub(1).saturating_sub(self.len);
        let text = text
            .as_bytes()
            .get(..room.min(text.len()))
            .unwrap_or_default();
        if let Some(place) = self.bytes.get_mut(self.len..self.len + text.len()) {
            place.copy_from_slice(text);
            self.len += text.len();
        }
        Ok(())
    }
}

/// Whether a thread has reported: there is one line.
static REPORTED: AtomicBool = AtomicBool::new(false);

/// Whether this is the first report, which is then the caller's to make.
pub(crate) fn is_first() -> bool {
    !REPORTED.swap(true, Ordering::Relaxed)
}

/// Prints the line.
pub(crate) fn print(fault: &Fault, accessed: &Unwound) {
    let mut line = Line {
        bytes: [0; LINE],
        len: 0,
    };
    let _ = write!(
        line,
        "{PREFIX}{fault}; accessed at {}",
        Frames(accessed.addresses())
    );
    if let Some(block) = &fault.block {
        let _ = write!(
            line,
            "; allocated at {}",
            Frames(block.allocated.addresses())
        );
        if block.is_freed() {
            let _ = write!(line, "; freed at {}", Frames(block.freed.addresses()));
        }
    }
    if let Some(end) = line.bytes.get_mut(line.len) {
        *end = b'\n';
    }
    let mut rest = line.bytes.get(..=line.len).unwrap_or_default();
    while !rest.is_empty() {
        // SAFETY: pointer and length of a live slice. Directly, past our own write(2).
        let written = unsafe {
            libc::syscall(
                libc::SYS_write,
                libc::STDERR_FILENO,
                rest.as_ptr(),
                rest.len(),
            )
        };
        match usize::try_from(written) {
            Ok(written) if written > 0 => rest = rest.get(written..).unwrap_or_default(),
            _ => break,
        }
    }
}

/// Prints the line and aborts the program.
pub(crate) fn abort_with(fault: &Fault) -> ! {
    if is_first() {
        code::record_modules();
        print(fault, &Unwound::capture(None));
    } else {
        wait_for_the_end();
    }
    // SAFETY: the call has no arguments and does not return.
    unsafe { libc::abort() }
}

/// Another thread is reporting, and ends the process.
pub(crate) fn wait_for_the_end() -> ! {
    loop {
        // SAFETY: the call has no arguments.
        unsafe { libc::pause() };
    }
}
