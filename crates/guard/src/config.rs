//! What the environment asks for, and whether small blocks are guarded yet.
#![allow(unsafe_code)] // getenv(3); each block says why it is sound.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

/// Where the inaccessible page is: `off`, `ends`, `starts` or `all`.
const MODE_VARIABLE: &CStr = c"IMAGE_FUZZER_GUARD";

/// The byte that fresh memory is filled with, as two hexadecimal digits.
const FILL_VARIABLE: &CStr = c"IMAGE_FUZZER_GUARD_FILL";

/// Without a choice: eight of them are no valid address, as a pointer or as its complement.
const DEFAULT_FILL: u8 = 0xa5;

/// Which blocks are guarded, and on which side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// None: everything is left to the C library.
    Off,
    /// Large blocks, and small ones once an image is open; they end before a guard page.
    Ends,
    /// The same blocks, beginning after a guard page.
    Starts,
    /// Every block, from the first on, ending before a guard page.
    All,
}

static MODE: AtomicU8 = AtomicU8::new(Mode::Off as u8);
static FILL: AtomicU8 = AtomicU8::new(DEFAULT_FILL);
static ARMED: AtomicBool = AtomicBool::new(false);

/// The mode in force.
pub(crate) fn mode() -> Mode {
    let number = MODE.load(Relaxed);
    [Mode::Ends, Mode::Starts, Mode::All]
        .into_iter()
        .find(|&mode| mode as u8 == number)
        .unwrap_or(Mode::Off)
}

/// The byte of fresh memory and of the slack around guarded blocks.
pub(crate) fn fill() -> u8 {
    FILL.load(Relaxed)
}

/// The byte of freed memory that remains accessible.
pub(crate) fn freed_fill() -> u8 {
    !fill()
}

/// Whether small blocks are guarded.
pub(crate) fn armed() -> bool {
    ARMED.load(Relaxed)
}

/// Guards small blocks from now on.
pub(crate) fn arm() {
    if !armed() && mode() != Mode::Off {
        ARMED.store(true, Relaxed);
    }
}

/// Whether the environment names a mode other than `off`.
pub(crate) fn is_requested() -> bool {
    requested_mode() != Mode::Off
}

/// Puts in force what the environment asks for.
pub(crate) fn apply() {
    let fill = variable(FILL_VARIABLE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| u8::from_str_radix(value, 16).ok());
    FILL.store(fill.unwrap_or(DEFAULT_FILL), Relaxed);
    let mode = requested_mode();
    ARMED.store(mode == Mode::All, Relaxed);
    MODE.store(mode as u8, Relaxed);
}

fn requested_mode() -> Mode {
    match variable(MODE_VARIABLE).map(CStr::to_bytes) {
        Some(b"ends") => Mode::Ends,
        Some(b"starts") => Mode::Starts,
        Some(b"all") => Mode::All,
        _ => Mode::Off,
    }
}

/// The value of an environment variable.
pub(crate) fn variable(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: the name is NUL-terminated. The value is part of the environment, which is
    // read only before the program can change it.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value))
    }
}
