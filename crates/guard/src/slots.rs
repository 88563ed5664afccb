//! Pages prepared once, so that an allocation is neither a system call nor a page fault. A
//! slot holds one block and has a guard page on either side; it is used once in a process.
//!
//! Under the run server the pages are shared memory that has been touched, which a fork gets
//! mapped, so that a run does not pay for them. Runs of a server are one at a time, and what a
//! program forks itself gets a copy ([`Slots::unshare`]).
#![allow(unsafe_code)] // Maps memory and keeps a table in it; each block says why it is sound.

use std::ptr;

use crate::block::{Block, State};
use crate::code::Trace;
use crate::pages::{self, PAGE};

/// Slots of one size.
struct Class {
    /// Bytes of a slot's data pages.
    room: usize,
    /// How many there are.
    count: usize,
}

/// The classes, by size: a run of `qemu-img info` has 300 to 500 small blocks once its image
/// is open, a few dozen of 4 to 8 KiB, and a dozen of up to a cluster.
const CLASSES: [Class; 3] = [
    Class {
        room: PAGE,
        count: 512,
    },
    Class {
        room: 2 * PAGE,
        count: 64,
    },
    Class {
        room: 16 * PAGE,
        count: 24,
    },
];

/// All slots, and all bytes of them, with the guard page behind the last one.
const COUNT: usize = CLASSES[0].count + CLASSES[1].count + CLASSES[2].count;
const LEN: usize = CLASSES[0].len() + CLASSES[1].len() + CLASSES[2].len() + PAGE;

/// Bytes of the table of blocks, which follows the slots.
const TABLE: usize = (COUNT * size_of::<Block>()).next_multiple_of(PAGE);

/// Freed blocks smaller than this wait, filled, until there are [`BATCH`] of them, and become
/// inaccessible together: a system call for each would cost more than all the rest.
const WAITING_SIZE: usize = 256;
const BATCH: usize = 16;

impl Class {
    const fn stride(&self) -> usize {
        self.room + PAGE
    }

    const fn len(&self) -> usize {
        self.count * self.stride()
    }
}

/// A slot: its number in the table, and its data pages.
#[derive(Clone, Copy)]
struct Slot {
    number: usize,
    first: usize,
    room: usize,
}

/// The slots. `base` is the address of the first guard page; 0 before they are prepared.
pub(crate) struct Slots {
    base: usize,
    shared: bool,
    used: [usize; CLASSES.len()],
    waiting: [usize; BATCH],
    waiting_count: usize,
}

impl Slots {
    pub(crate) const EMPTY: Self = Self {
        base: 0,
        shared: false,
        used: [0; CLASSES.len()],
        waiting: [0; BATCH],
        waiting_count: 0,
    };

    /// Maps the slots; there are none where the system refuses. For a `server` of runs,
    /// everything a run needs is done now.
    pub(crate) fn prepare(&mut self, server: bool) {
        let private = || pages::reserve(LEN + TABLE).filter(|&base| close_guards(base));
        let shared = || pages::share(LEN + TABLE).filter(|&base| close_guards(base));
        let Some((base, is_shared)) = server
            .then(shared)
            .flatten()
            .map(|base| (base, true))
            .or_else(|| private().map(|base| (base, false)))
        else {
            return;
        };
        self.base = base;
        self.shared = is_shared;
        if is_shared {
            for slot in (0..COUNT).filter_map(|number| self.slot(number)) {
                // SAFETY: the pages of a slot are accessible.
                unsafe { ptr::write_bytes(slot.first as *mut u8, 0, slot.room) };
            }
            // SAFETY: the table is accessible, and nothing refers to it yet.
            unsafe { ptr::write_bytes((base + LEN) as *mut u8, 0, TABLE) };
        }
    }

    /// Gives this process, a fork of one that goes on, memory of its own.
    pub(crate) fn unshare(&mut self) {
        if !self.shared {
            return;
        }
        self.shared = false;
        let Some(copy) = pages::reserve(LEN + TABLE) else {
            return;
        };
        let accessible = |slots: &Self, number: usize| {
            slots
                .block(number)
                .is_some_and(|block| matches!(block.state, State::Live | State::Freed))
        };
        let offset = |address: usize| address.wrapping_sub(self.base);
        let copy_pages = |from: usize, to: usize, len: usize| {
            // SAFETY: pages of two different mappings of ours, of this length, all of them
            // accessible.
            unsafe { ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, len) };
        };
        copy_pages(self.base + LEN, copy + LEN, TABLE);
        for slot in (0..COUNT).filter_map(|number| self.slot(number)) {
            if accessible(self, slot.number) {
                copy_pages(slot.first, copy + offset(slot.first), slot.room);
            }
        }
        if !pages::replace(self.base, LEN + TABLE) {
            return;
        }
        copy_pages(copy + LEN, self.base + LEN, TABLE);
        close_guards(self.base);
        for slot in (0..COUNT).filter_map(|number| self.slot(number)) {
            if accessible(self, slot.number) {
                copy_pages(copy + offset(slot.first), slot.first, slot.room);
            } else if self.block(slot.number).is_some() {
                pages::close(slot.first, slot.room);
            }
        }
        pages::unmap(copy, LEN + TABLE);
    }

    /// Whether the memory is shared with what the process forks.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// A block in the smallest slot that it fits in; `None` when there is none left.
    pub(crate) fn allocate(
        &mut self,
        size: usize,
        align: usize,
        zeroed: bool,
        trace: Trace,
    ) -> Option<usize> {
        if self.base == 0 {
            return None;
        }
        let mut before = 0;
        for (class, used) in CLASSES.iter().zip(&mut self.used) {
            if size <= class.room && *used < class.count {
                let number = before + *used;
                *used += 1;
                let slot = self.slot(number)?;
                let block = Block::place(slot.first, slot.room, size, align, trace);
                if zeroed {
                    // SAFETY: the block is inside the slot's pages.
                    unsafe { ptr::write_bytes(block.address as *mut u8, 0, size) };
                } else {
                    block.fill_fresh();
                }
                // SAFETY: the table has an entry for each slot.
                unsafe { self.entry(number).write(block) };
                return Some(block.address);
            }
            before += class.count;
        }
        None
    }

    /// The block in whose data pages this address is, if it was ever used.
    pub(crate) fn find(&mut self, address: usize) -> Option<&mut Block> {
        let (slot, inside) = self.slot_at(address)?;
        let used = inside && self.is_used(slot.number);
        // SAFETY: the table has an entry for each slot, which is valid once it is used.
        used.then(|| unsafe { &mut *self.entry(slot.number) })
    }

    /// Makes the pages of a block that was freed inaccessible, perhaps later. Gives a block
    /// that was written to while it waited.
    pub(crate) fn close(&mut self, address: usize, at_once: bool) -> Option<Block> {
        let (slot, _) = self.slot_at(address)?;
        let block = *self.block(slot.number)?;
        if at_once || block.size >= WAITING_SIZE {
            self.close_slots(slot.number, slot.number);
            return None;
        }
        block.fill_freed();
        *self.waiting.get_mut(self.waiting_count)? = slot.number;
        self.waiting_count += 1;
        if self.waiting_count < BATCH {
            return None;
        }
        self.waiting_count = 0;
        let mut numbers = self.waiting;
        numbers.sort_unstable();
        let damaged = numbers
            .iter()
            .filter_map(|&number| self.block(number))
            .find(|block| block.damaged_byte().is_some())
            .copied();
        // Runs of neighbours are one system call.
        let mut start = 0;
        for end in 0..BATCH {
            if end + 1 == BATCH || numbers[end + 1] != numbers[end] + 1 {
                self.close_slots(numbers[start], numbers[end]);
                start = end + 1;
            }
        }
        damaged
    }

    /// Makes the pages of neighbouring slots inaccessible.
    fn close_slots(&mut self, from: usize, to: usize) {
        if let (Some(start), Some(end)) = (self.slot(from), self.slot(to)) {
            let len = end.first.wrapping_add(end.room).wrapping_sub(start.first);
            if pages::close(start.first, len) {
                for number in from..=to {
                    // SAFETY: the table has an entry for each slot; these were used.
                    unsafe { (*self.entry(number)).state = State::Closed };
                }
            }
        }
    }

    /// Whether an address is in a slot or a guard page between them.
    pub(crate) fn contains(&self, address: usize) -> bool {
        self.base != 0 && address.wrapping_sub(self.base) < LEN
    }

    /// The block nearest to an address in [`Slots::contains`], and whether the address is
    /// accessible.
    pub(crate) fn nearest(&self, address: usize) -> Option<(&Block, bool)> {
        let (slot, inside) = self.slot_at(address)?;
        if inside {
            let block = self.block(slot.number)?;
            return Some((block, block.state != State::Closed));
        }
        // The guard page is before this slot and behind the one before.
        let before = slot
            .number
            .checked_sub(1)
            .and_then(|number| self.block(number));
        let blocks = [before, self.block(slot.number)];
        blocks
            .into_iter()
            .flatten()
            .min_by_key(|block| block.distance(address))
            .map(|block| (block, false))
    }

    /// The blocks that were ever used.
    pub(crate) fn used(&self) -> impl Iterator<Item = &Block> {
        let count = if self.base == 0 { 0 } else { COUNT };
        (0..count).filter_map(|number| self.block(number))
    }

    fn is_used(&self, number: usize) -> bool {
        let mut before = 0;
        for (class, &used) in CLASSES.iter().zip(&self.used) {
            if number.wrapping_sub(before) < class.count {
                return number - before < used;
            }
            before += class.count;
        }
        false
    }

    fn block(&self, number: usize) -> Option<&Block> {
        // SAFETY: the table has an entry for each slot, which is valid once it is used.
        self.is_used(number)
            .then(|| unsafe { &*self.entry(number) })
    }

    fn entry(&self, number: usize) -> *mut Block {
        ((self.base + LEN) as *mut Block).wrapping_add(number)
    }

    /// The slot of a number.
    fn slot(&self, number: usize) -> Option<Slot> {
        let (mut base, mut before) = (self.base, 0);
        for class in &CLASSES {
            if number.wrapping_sub(before) < class.count {
                return Some(Slot {
                    number,
                    first: base + (number - before) * class.stride() + PAGE,
                    room: class.room,
                });
            }
            base += class.len();
            before += class.count;
        }
        None
    }

    /// The slot with this address in its data pages, or in the guard page before them; and
    /// whether it is in the data pages. The last guard page is that of no slot: it is taken
    /// as the one before a slot that is never used.
    fn slot_at(&self, address: usize) -> Option<(Slot, bool)> {
        let mut offset = address.checked_sub(self.base)?;
        let mut before = 0;
        for class in &CLASSES {
            if offset < class.len() {
                let slot = self.slot(before + offset / class.stride())?;
                return Some((slot, offset % class.stride() >= PAGE));
            }
            offset -= class.len();
            before += class.count;
        }
        let last = Slot {
            number: COUNT,
            first: self.base + LEN,
            room: 0,
        };
        (offset < PAGE).then_some((last, false))
    }
}

/// Makes all guard pages of slots at `base` inaccessible; unmaps all where that fails.
fn close_guards(base: usize) -> bool {
    let mut at = base;
    let mut closed = true;
    for class in &CLASSES {
        for _ in 0..class.count {
            closed = closed && pages::close(at, PAGE);
            at += class.stride();
        }
    }
    closed = closed && pages::close(at, PAGE);
    if !closed {
        pages::unmap(base, LEN + TABLE);
    }
    closed
}
