//! A guarded block: where it is, what surrounds it, and who allocated and freed it.
#![allow(unsafe_code)] // Memory of blocks; each block says why it is sound.

use std::ptr;

use crate::code::Trace;
use crate::config::{self, Mode};

/// The alignment of every block, in bytes, as programs expect of malloc(3).
pub(crate) const MIN_ALIGN: usize = 16;

/// The most bytes before and after a block that are filled, and checked when it is freed.
const SLACK: usize = 64;

/// The most bytes that are filled at either end of a fresh block. Filling all of a large one
/// would touch pages that the program never does. In mode `all` everything is filled.
const FILL_LIMIT: usize = 4 << 10;

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Never allocated.
    Unused,
    /// Allocated.
    Live,
    /// Freed and filled, but accessible yet.
    Freed,
    /// Freed and inaccessible.
    Closed,
}

/// One block in pages of its own. All-zero is a valid one: unused, of no pages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// Address of its first page.
    pub(crate) first: usize,
    /// Bytes of its pages, without the guard page.
    pub(crate) room: usize,
    /// Address that the program knows.
    pub(crate) address: usize,
    /// Bytes that the program asked for.
    pub(crate) size: usize,
    pub(crate) state: State,
    pub(crate) allocated: Trace,
    pub(crate) freed: Trace,
}

impl Block {
    /// A block of `size` bytes in the accessible pages at `first`, of `room` bytes. `align` is
    /// a power of two of at most a page. The bytes around it are filled.
    pub(crate) fn place(
        first: usize,
        room: usize,
        size: usize,
        align: usize,
        allocated: Trace,
    ) -> Self {
        let address = if config::mode() == Mode::Starts {
            first
        } else {
            let align = align.max(MIN_ALIGN);
            // A block of no bytes has an address of its own too, which is in its page.
            first.wrapping_add(room).wrapping_sub(size.max(1)) & !align.wrapping_sub(1)
        };
        let block = Self {
            first,
            room,
            address,
            size,
            state: State::Live,
            allocated,
            freed: Trace::NONE,
        };
        let fill = config::fill();
        for (start, len) in block.slack() {
            // SAFETY: the slack is inside the block's accessible pages.
            unsafe { ptr::write_bytes(start as *mut u8, fill, len) };
        }
        block
    }

    /// Whether it was freed.
    pub(crate) fn is_freed(&self) -> bool {
        matches!(self.state, State::Freed | State::Closed)
    }

    /// Fills a fresh block.
    pub(crate) fn fill_fresh(&self) {
        // SAFETY: a live block is accessible, and nobody else's.
        unsafe { fill_fresh(self.address as *mut u8, self.size) };
    }

    /// Fills a freed block that is accessible yet.
    pub(crate) fn fill_freed(&self) {
        // SAFETY: the block is accessible, and nobody's.
        unsafe { ptr::write_bytes(self.address as *mut u8, config::freed_fill(), self.size) };
    }

    /// Start and length of the checked bytes after the block, and of those before it.
    fn slack(&self) -> [(usize, usize); 2] {
        let before = self.address.wrapping_sub(self.first).min(SLACK);
        let end = self.address.wrapping_add(self.size);
        let after = self.first.wrapping_add(self.room).wrapping_sub(end);
        [
            (end, after.min(SLACK)),
            (self.address.wrapping_sub(before), before),
        ]
    }

    /// The address of a byte that was overwritten: next to a live block, or in a freed one.
    pub(crate) fn damaged_byte(&self) -> Option<usize> {
        let fill = config::fill();
        match self.state {
            State::Live => self
                .slack()
                .into_iter()
                .find_map(|part| other_byte(part, fill)),
            State::Freed => other_byte((self.address, self.size), config::freed_fill()),
            State::Unused | State::Closed => None,
        }
    }

    /// How many bytes `address` is away from the block; 0 inside it.
    pub(crate) fn distance(&self, address: usize) -> usize {
        if address < self.address {
            self.address.wrapping_sub(address)
        } else {
            address.saturating_sub(self.address.wrapping_add(self.size.max(1) - 1))
        }
    }
}

/// The address of the first byte of memory, given as start and length, that is not `fill`.
fn other_byte((start, len): (usize, usize), fill: u8) -> Option<usize> {
    // SAFETY: the memory is in the pages of a block that is accessible, and nobody else is to
    // write there.
    let bytes = unsafe { std::slice::from_raw_parts(start as *const u8, len) };
    let at = bytes.iter().position(|&byte| byte != fill)?;
    Some(start.wrapping_add(at))
}

/// Fills fresh memory of `len` bytes.
///
/// # Safety
///
/// The memory must be writable, and nobody else's.
pub(crate) unsafe fn fill_fresh(at: *mut u8, len: usize) {
    let fill = config::fill();
    if len <= 2 * FILL_LIMIT || config::mode() == Mode::All {
        // SAFETY: the caller promises it.
        unsafe { ptr::write_bytes(at, fill, len) };
    } else {
        // SAFETY: both parts are inside the memory.
        unsafe {
            ptr::write_bytes(at, fill, FILL_LIMIT);
            ptr::write_bytes(at.add(len - FILL_LIMIT), fill, FILL_LIMIT);
        }
    }
}
