//! Pages for blocks of any size, given out round and round a reserved range: a freed block
//! stays inaccessible until everything behind it has been given out. This is the quarantine,
//! bounded by the length of the range and the number of its extents.

use std::ptr;

use crate::block::{Block, State};
use crate::code::Trace;
use crate::pages::{self, PAGE};

/// Bytes of the range; less where the system refuses that much.
const LONGEST: usize = 8 << 30;
const SHORTEST: usize = 64 << 20;

/// The largest block that is guarded, in bytes: a larger one is left to the C library, which
/// refuses what the system's limits do not allow.
const LARGEST: usize = 1 << 30;

/// The most extents of the range. The kernel allows 65,530 mappings of a process; a guarded
/// block takes two.
const EXTENTS: usize = 1 << 15;

/// No extent.
const NONE: u32 = 0;

/// Neighbouring pages: those of a block, with its guard page, or ones never used. Together
/// the extents cover the range.
struct Extent {
    block: Block,
    /// The extents before and after it in the range; [`NONE`] at the range's ends.
    before: u32,
    after: u32,
    /// All bytes of it.
    len: usize,
}

/// The range. Extents are numbered from 1.
pub(crate) struct Ring {
    base: usize,
    len: usize,
    /// For each page of the range the number of the extent that begins with it, or [`NONE`].
    page_map: *mut u32,
    /// Room for [`EXTENTS`] extents, and how many have been used.
    extents: *mut Extent,
    used: u32,
    /// A list of extents that are used no more, linked by `after`.
    spare: u32,
    /// Where the next block is looked for.
    cursor: u32,
}

// SAFETY: the pointers are to memory of its own.
unsafe impl Send for Ring {}

impl Ring {
    pub(crate) const EMPTY: Self = Self {
        base: 0,
        len: 0,
        page_map: ptr::null_mut(),
        extents: ptr::null_mut(),
        used: 0,
        spare: NONE,
        cursor: NONE,
    };

    /// Reserves the range; it stays empty where the system refuses.
    pub(crate) fn prepare(&mut self) {
        let mut len = LONGEST;
        let base = loop {
            if let Some(base) = pages::reserve_closed(len) {
                break base;
            }
            len /= 2;
            if len < SHORTEST {
                return;
            }
        };
        let map = pages::reserve(len / PAGE * size_of::<u32>());
        let extents = pages::reserve((EXTENTS + 1) * size_of::<Extent>());
        if let (Some(map), Some(extents)) = (map, extents) {
            // The first page is a guard page: no block can begin at it.
            self.base = base.wrapping_add(PAGE);
            self.len = len - PAGE;
            self.page_map = map as *mut u32;
            self.extents = extents as *mut Extent;
            self.cursor = self
                .new_extent(self.base, self.len, NONE, NONE)
                .unwrap_or(NONE);
        }
    }

    /// A block; `None` where it is too large, or no room is left.
    pub(crate) fn allocate(
        &mut self,
        size: usize,
        align: usize,
        zeroed: bool,
        trace: Trace,
    ) -> Option<usize> {
        if size > LARGEST || self.cursor == NONE {
            return None;
        }
        let room = size.max(1).next_multiple_of(PAGE);
        let number = self.find_gap(room.wrapping_add(PAGE))?;
        let first = self.extent(number)?.block.first;
        if !pages::open(first, room) {
            return None;
        }
        // Opened pages are zero.
        let block = Block::place(first, room, size, align, trace);
        if !zeroed {
            block.fill_fresh();
        }
        self.extent_mut(number)?.block = block;
        Some(block.address)
    }

    /// An extent of exactly `len` bytes with no live block, the next from the cursor on.
    fn find_gap(&mut self, len: usize) -> Option<u32> {
        let mut at = self.cursor;
        // Each extent is looked at twice at most: merging leaves the cursor in the middle.
        for _ in 0..=2 * self.used {
            if !self.is_live(at) {
                while self.extent(at)?.len < len {
                    let after = self.extent(at)?.after;
                    if after == NONE || self.is_live(after) {
                        break;
                    }
                    self.merge(at, after)?;
                }
                if self.extent(at)?.len >= len {
                    self.split(at, len)?;
                    return Some(at);
                }
            }
            at = self.following(at)?;
        }
        None
    }

    /// Joins an extent with the one after it; what was known of both blocks is forgotten.
    fn merge(&mut self, number: u32, after: u32) -> Option<()> {
        let (len, next, first) = {
            let gone = self.extent(after)?;
            (gone.len, gone.after, gone.block.first)
        };
        self.map(first, NONE);
        if self.cursor == after {
            self.cursor = number;
        }
        let extent = self.extent_mut(number)?;
        extent.len = extent.len.wrapping_add(len);
        extent.after = next;
        extent.block.state = State::Unused;
        if next != NONE {
            self.extent_mut(next)?.before = number;
        }
        self.extent_mut(after)?.after = self.spare;
        self.spare = after;
        Some(())
    }

    /// Cuts an extent to `len` bytes, if another fits behind, and puts the cursor behind it.
    fn split(&mut self, number: u32, len: usize) -> Option<()> {
        let (first, whole, after) = {
            let extent = self.extent(number)?;
            (extent.block.first, extent.len, extent.after)
        };
        if whole > len {
            let rest = self.new_extent(first.wrapping_add(len), whole - len, number, after)?;
            if after != NONE {
                self.extent_mut(after)?.before = rest;
            }
            let extent = self.extent_mut(number)?;
            extent.len = len;
            extent.after = rest;
        }
        self.cursor = self.following(number)?;
        Some(())
    }

    /// A new extent without a block; `None` when all are used.
    fn new_extent(&mut self, first: usize, len: usize, before: u32, after: u32) -> Option<u32> {
        let number = if self.spare != NONE {
            let number = self.spare;
            self.spare = self.extent(number)?.after;
            number
        } else if (self.used as usize) < EXTENTS {
            self.used += 1;
            self.used
        } else {
            return None;
        };
        *self.extent_mut(number)? = Extent {
            block: Block {
                first,
                room: 0,
                address: first,
                size: 0,
                state: State::Unused,
                allocated: Trace::NONE,
                freed: Trace::NONE,
            },
            before,
            after,
            len,
        };
        self.map(first, number);
        Some(number)
    }

    /// The extent after this one, round and round.
    fn following(&self, number: u32) -> Option<u32> {
        match self.extent(number)?.after {
            NONE => self.beginning(self.base),
            after => Some(after),
        }
    }

    fn is_live(&self, number: u32) -> bool {
        self.extent(number)
            .is_some_and(|extent| extent.block.state == State::Live)
    }

    /// The block that begins in the page of this address.
    pub(crate) fn find(&mut self, address: usize) -> Option<&mut Block> {
        let number = self.beginning(address)?;
        self.extent_mut(number).map(|extent| &mut extent.block)
    }

    /// Makes the pages of a freed block inaccessible.
    pub(crate) fn close(&mut self, address: usize) {
        if let Some(block) = self.find(address)
            && pages::discard(block.first, block.room)
        {
            block.state = State::Closed;
        }
    }

    /// Whether an address is in the range.
    pub(crate) fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.base.wrapping_sub(PAGE)) < self.len.wrapping_add(PAGE)
    }

    /// The block nearest to an address in the range, and whether the address is accessible.
    pub(crate) fn nearest(&self, address: usize) -> Option<(&Block, bool)> {
        let mut page = address.max(self.base) & !(PAGE - 1);
        let number = loop {
            if let Some(number) = self.beginning(page) {
                break number;
            }
            page = page.checked_sub(PAGE).filter(|&page| page >= self.base)?;
        };
        let extent = self.extent(number)?;
        let block = &extent.block;
        if address.wrapping_sub(block.first) < block.room && block.state != State::Unused {
            return Some((block, block.state != State::Closed));
        }
        let before = self.extent(extent.before);
        let after = self.extent(extent.after);
        [Some(extent), after, before]
            .into_iter()
            .flatten()
            .map(|extent| &extent.block)
            .filter(|block| block.state != State::Unused)
            .min_by_key(|block| block.distance(address))
            .map(|block| (block, false))
    }

    /// The blocks in use or freed.
    pub(crate) fn used(&self) -> impl Iterator<Item = &Block> {
        (1..=self.used)
            .filter_map(|number| self.extent(number))
            .map(|extent| &extent.block)
            .filter(|block| self.beginning(block.first).is_some())
    }

    /// The extent that begins with the page of this address.
    fn beginning(&self, address: usize) -> Option<u32> {
        let place = self.page_place(address)?;
        // SAFETY: the place is in the map.
        Some(unsafe { *place }).filter(|&number| number != NONE)
    }

    fn map(&mut self, address: usize, number: u32) {
        if let Some(place) = self.page_place(address) {
            // SAFETY: the place is in the map, and nobody else has a reference to it.
            unsafe { *place = number };
        }
    }

    fn page_place(&self, address: usize) -> Option<*mut u32> {
        let offset = address.checked_sub(self.base)?;
        // SAFETY: the map has an entry for each page of the range.
        (offset < self.len).then(|| unsafe { self.page_map.add(offset / PAGE) })
    }

    fn extent(&self, number: u32) -> Option<&Extent> {
        // SAFETY: the memory has room for this number, is zeroed, which is a valid extent,
        // and is changed only through `self`.
        (number != NONE && number <= self.used)
            .then(|| unsafe { &*self.extents.add(number as usize) })
    }

    fn extent_mut(&mut self, number: u32) -> Option<&mut Extent> {
        // SAFETY: as above.
        (number != NONE && number <= self.used)
            .then(|| unsafe { &mut *self.extents.add(number as usize) })
    }
}
