//! What happens where a validation is missing.

#![allow(unsafe_code)] // Accesses to memory that is not the program's own are what is planted.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::process::ExitCode;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::signal::{Signal, raise};

use super::reader::{BUFFER, Opened};

/// What a missing validation leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Consequence {
    /// The program gets this signal.
    Signal(Signal),
    /// It prints this, and aborts.
    Aborts(&'static str),
    /// It prints this, and exits with that status.
    Prints(&'static str, u8),
    /// It takes an entry of a table that has fewer.
    Panics,
    /// A loop does not end.
    Spins,
    /// Memory is taken without end.
    Allocates,
    /// Output is printed without end.
    Floods,
    /// A file grows.
    Grows,
    /// A byte behind a block of memory is read.
    OverReads,
    /// A byte behind a block of memory is written.
    OverWrites,
    /// A block of memory of many pages is read that is free.
    ReadsFreed,
    /// A byte is printed that was never written.
    PrintsUnwritten,
    /// Tables of the image are overwritten, and success is reported.
    DamagesTables,
    /// The data of the disk is overwritten, and success is reported.
    ChangesData,
    /// A repair reports success and does nothing; a check still finds the error.
    RepairsNothing,
    /// The image is used as if it were valid.
    Accepts,
}

impl Consequence {
    /// The class of findings that it shows as.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Signal(_) | Self::Aborts(_) | Self::Panics => "crash",
            Self::Prints(text, _) if text.contains("Sanitizer") => "sanitizer",
            Self::Prints(text, _) if text.contains("runtime error: signed") => "sanitizer",
            Self::Prints(..) => "crash",
            Self::Spins => "hang",
            Self::Allocates | Self::Floods | Self::Grows => "resource-use",
            Self::OverReads | Self::OverWrites | Self::ReadsFreed => "memory-error",
            Self::PrintsUnwritten => "uninitialised",
            Self::DamagesTables => "metadata-damage",
            Self::ChangesData => "data-change",
            Self::RepairsNothing => "false-repair",
            Self::Accepts => "accepted-invalid",
        }
    }

    /// Lets it happen. `None`: the command goes on.
    pub(crate) fn happen(self, opened: &mut Opened) -> std::io::Result<Option<ExitCode>> {
        match self {
            Self::Signal(signal) => {
                // The first one only takes away a handler that Rust has set.
                let _ = raise(signal);
                let _ = raise(signal);
            }
            Self::Aborts(text) => {
                eprintln!("{text}");
                let _ = raise(Signal::SIGABRT);
            }
            Self::Prints(text, status) => {
                eprintln!("{text}");
                return Ok(Some(ExitCode::from(status)));
            }
            Self::Panics => {
                let table = [0_u8; 4];
                let index = std::hint::black_box(opened.len as usize);
                println!("{}", table[index]);
            }
            Self::Spins => {
                let mut turns = 0_u64;
                while std::hint::black_box(turns) != u64::MAX {
                    turns += 1;
                }
            }
            Self::Allocates => {
                let mut memory: Vec<Vec<u8>> = Vec::new();
                for piece in 0..1536_usize {
                    memory.push(vec![piece as u8 | 1; 1 << 20]);
                }
                println!("{}", std::hint::black_box(memory).len());
            }
            Self::Floods => {
                for _ in 0..4096 {
                    std::io::stdout().write_all(&[b'x'; 4096])?;
                }
            }
            Self::Grows => {
                let file = File::create("grown")?;
                for gib in 0..4 {
                    fallocate(&file, FallocateFlags::empty(), gib << 30, 1 << 30)?;
                }
            }
            Self::OverReads => {
                // SAFETY: none, which is the fault.
                let byte = unsafe { opened.buffer.as_ptr().add(BUFFER).read_volatile() };
                std::hint::black_box(byte);
            }
            Self::OverWrites => {
                let end = opened.buffer.as_mut_ptr().wrapping_add(BUFFER);
                // SAFETY: none, which is the fault. What is there stays the same.
                unsafe { end.write_volatile(end.read_volatile()) };
            }
            Self::ReadsFreed => {
                let block = std::hint::black_box(vec![1_u8; 8 * BUFFER * BUFFER]);
                let start = block.as_ptr();
                drop(block);
                // SAFETY: none, which is the fault.
                std::hint::black_box(unsafe { start.add(40).read_volatile() });
            }
            Self::PrintsUnwritten => {
                let mut block = Vec::<u8>::with_capacity(BUFFER);
                // SAFETY: none, which is the fault.
                let byte = unsafe { block.as_mut_ptr().add(40).read_volatile() };
                println!("{byte:02x}");
            }
            Self::DamagesTables => {
                // The offset of a refcount block, which is then unaligned.
                poke(opened, opened.n("header.refcount_table_offset") + 6)?;
                return Ok(Some(ExitCode::SUCCESS));
            }
            Self::ChangesData => {
                poke(opened, opened.n("l2[0].entry[0].offset"))?;
                return Ok(Some(ExitCode::SUCCESS));
            }
            Self::RepairsNothing if opened.verb == "check -r" => {
                return Ok(Some(ExitCode::SUCCESS));
            }
            Self::RepairsNothing => return Ok(Some(ExitCode::from(2))),
            Self::Accepts => {}
        }
        Ok(None)
    }
}

/// Writes a byte into the image.
fn poke(opened: &Opened, at: u64) -> std::io::Result<()> {
    let mut file = File::options().write(true).open(&opened.path)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&[7])
}
