//! Which blocks are guarded, and what becomes of all of them.
#![allow(unsafe_code)] // Memory of the program; each block says why it is sound.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use crate::block::{Block, MIN_ALIGN, State, fill_fresh};
use crate::code::Trace;
use crate::config::{self, Mode};
use crate::lock::Locked;
use crate::pages::PAGE;
use crate::real::Real;
use crate::report::{self, Access, Fault, Place};
use crate::ring::Ring;
use crate::slots::Slots;

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_free(block: *mut c_void);
    fn __libc_memalign(align: usize, size: usize) -> *mut c_void;
}

/// Bytes at the start of a freed block that the C library uses, and checks.
const LINKS: usize = 16;

/// All guarded blocks.
struct Heap {
    slots: Slots,
    ring: Ring,
}

static HEAP: Locked<Heap> = Locked::new(Heap {
    slots: Slots::EMPTY,
    ring: Ring::EMPTY,
});

/// The C library's function of this name.
static USABLE_SIZE: Real = Real::new(c"malloc_usable_size");

/// Where a call to this library came from: its return address, and the stack pointer of the
/// caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) address: usize,
    pub(crate) stack: usize,
}

impl Caller {
    fn trace(self) -> Trace {
        Trace::scan(self.address, self.stack)
    }
}

/// A request for memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// Bytes.
    pub(crate) size: usize,
    /// A power of two.
    pub(crate) align: usize,
    /// Whether it must be zero.
    pub(crate) zeroed: bool,
}

/// Maps what is prepared, where no other thread runs; for a `server` of runs, or for this
/// process alone.
pub(crate) fn prepare(server: bool) {
    // Looked up now: later it would be in the midst of an allocation.
    USABLE_SIZE.address();
    HEAP.with(|heap| {
        heap.slots.prepare(server);
        heap.ring.prepare();
    });
    // SAFETY: the functions lock and unlock, which they may do around a fork.
    unsafe {
        libc::pthread_atfork(
            Some(before_fork),
            Some(after_in_parent),
            Some(after_in_child),
        )
    };
}

/// The ends of the pipe by which a process that forks learns that its fork has copied what
/// they share; -1 without one. Changed by the thread that has the lock.
static PIPE: [AtomicI32; 2] = [const { AtomicI32::new(-1) }; 2];

/// No thread is inside the allocator while the process forks.
extern "C" fn before_fork() {
    HEAP.acquire();
    // SAFETY: the lock is held.
    let shared = unsafe { HEAP.peek(|heap| heap.slots.is_shared()) };
    // The run server's own forks are the runs that the memory is shared with.
    if shared && config::mode() != Mode::Off {
        let mut ends = [-1; 2];
        // SAFETY: a live array of two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == 0 {
            PIPE[0].store(ends[0], Relaxed);
            PIPE[1].store(ends[1], Relaxed);
        }
    }
}

/// Closes one end of the pipe, if there is one, and gives the other.
fn close_end(end: usize) -> Option<c_int> {
    let close = PIPE[end].swap(-1, Relaxed);
    let keep = PIPE[1 - end].swap(-1, Relaxed);
    // SAFETY: a descriptor of ours.
    unsafe { libc::close(close) };
    (keep >= 0).then_some(keep)
}

extern "C" fn after_in_parent() {
    if PIPE[0].load(Relaxed) >= 0
        && let Some(read) = close_end(1)
    {
        let mut byte = 0_u8;
        // SAFETY: a live byte, and a descriptor of ours. It ends when the fork has copied, or
        // is no more.
        unsafe {
            while libc::syscall(libc::SYS_read, read, &raw mut byte, 1) == -1
                && *libc::__errno_location() == libc::EINTR
            {}
            libc::close(read);
        }
    }
    HEAP.release();
}

extern "C" fn after_in_child() {
    HEAP.release();
    if PIPE[0].load(Relaxed) >= 0
        && let Some(write) = close_end(0)
    {
        HEAP.with(|heap| heap.slots.unshare());
        // SAFETY: a descriptor of ours.
        unsafe { libc::close(write) };
    }
}

/// Allocates a block, or gives a null pointer.
pub(crate) fn allocate(request: Request, caller: Caller) -> *mut c_void {
    let mode = config::mode();
    if mode == Mode::Off {
        return unguarded(request);
    }
    let Request {
        size,
        align,
        zeroed,
    } = request;
    let large = size >= PAGE || mode == Mode::All;
    if align <= PAGE && (large || config::armed()) {
        let trace = caller.trace();
        let address = HEAP.with(|heap| {
            let slot = heap.slots.allocate(size, align, zeroed, trace);
            slot.or_else(|| large.then(|| heap.ring.allocate(size, align, zeroed, trace))?)
        });
        if let Some(address) = address {
            return address as *mut c_void;
        }
    }
    let block = unguarded(request);
    if !zeroed && !block.is_null() {
        // SAFETY: the C library gave this many bytes.
        unsafe { fill_fresh(block.cast(), usable_size_of_libc(block)) };
    }
    block
}

/// A block of the C library.
fn unguarded(request: Request) -> *mut c_void {
    // SAFETY: these functions take any size, and the alignment is a power of two.
    unsafe {
        if request.align > MIN_ALIGN {
            let block = __libc_memalign(request.align, request.size);
            if request.zeroed && !block.is_null() {
                ptr::write_bytes(block.cast::<u8>(), 0, request.size);
            }
            block
        } else if request.zeroed {
            __libc_calloc(1, request.size)
        } else {
            __libc_malloc(request.size)
        }
    }
}

/// Frees a block.
pub(crate) fn free(block: *mut c_void, caller: Caller) {
    let address = block as usize;
    if block.is_null() {
        return;
    }
    if !is_guarded(address) {
        // SAFETY: the program frees a block of the C library, which checks it.
        unsafe {
            if config::mode() != Mode::Off {
                let size = usable_size_of_libc(block);
                let at = block.cast::<u8>().wrapping_add(LINKS);
                ptr::write_bytes(at, config::freed_fill(), size.saturating_sub(LINKS));
            }
            __libc_free(block);
        }
        return;
    }
    // SAFETY: the C library gives a pointer to this thread's own number.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; free(3) leaves the number as it was.
    let saved = unsafe { *errno };
    let trace = caller.trace();
    let fault = HEAP.with(|heap| heap.free(address, trace));
    if let Some(fault) = fault {
        report::abort_with(&fault);
    }
    // SAFETY: as above.
    unsafe { *errno = saved };
}

impl Heap {
    fn free(&mut self, address: usize, trace: Trace) -> Option<Fault> {
        let in_slot = self.slots.contains(address);
        let found = if in_slot {
            self.slots.find(address)
        } else {
            self.ring.find(address)
        };
        let block = match found {
            Some(block) if block.address == address && block.state != State::Unused => block,
            _ => {
                let nearest = self.nearest(address).map(|(block, _)| *block);
                return Some(Fault {
                    access: Access::InvalidFree,
                    place: nearest.map(|block| Place::of(&block, address)),
                    block: nearest,
                });
            }
        };
        if block.is_freed() {
            return Some(Fault {
                access: Access::DoubleFree,
                place: Some(Place::of(block, address)),
                block: Some(*block),
            });
        }
        if let Some(fault) = Fault::damage(block) {
            return Some(fault);
        }
        block.state = State::Freed;
        block.freed = trace;
        if !in_slot {
            self.ring.close(address);
            return None;
        }
        let damaged = self.slots.close(address, config::mode() == Mode::All)?;
        Fault::damage(&damaged)
    }

    fn nearest(&self, address: usize) -> Option<(&Block, bool)> {
        if self.slots.contains(address) {
            self.slots.nearest(address)
        } else if self.ring.contains(address) {
            self.ring.nearest(address)
        } else {
            None
        }
    }
}

/// Changes the size of a block, or gives a null pointer and leaves it alone.
pub(crate) fn reallocate(block: *mut c_void, size: usize, caller: Caller) -> *mut c_void {
    let request = Request {
        size,
        align: MIN_ALIGN,
        zeroed: false,
    };
    if block.is_null() {
        return allocate(request, caller);
    }
    if config::mode() == Mode::Off {
        // SAFETY: no block is guarded in this mode; the C library checks its own.
        return unsafe { __libc_realloc(block, size) };
    }
    if size == 0 {
        free(block, caller);
        return ptr::null_mut();
    }
    let old = match guarded_size(block) {
        Some(old) => old,
        None if is_guarded(block as usize) => {
            // No block, or a freed one: this says so.
            free(block, caller);
            return ptr::null_mut();
        }
        // SAFETY: the program passes a block of the C library.
        None => unsafe { usable_size_of_libc(block) },
    };
    let new = allocate(request, caller);
    if !new.is_null() {
        // SAFETY: two blocks, of at least these sizes, that do not overlap.
        unsafe { ptr::copy_nonoverlapping(block.cast::<u8>(), new.cast(), old.min(size)) };
        free(block, caller);
    }
    new
}

/// Bytes of a block that the program may use.
pub(crate) fn usable_size(block: *mut c_void) -> usize {
    if block.is_null() {
        return 0;
    }
    // SAFETY: the program passes a block that it has allocated.
    guarded_size(block).unwrap_or_else(|| unsafe { usable_size_of_libc(block) })
}

/// Bytes of a live guarded block.
fn guarded_size(block: *mut c_void) -> Option<usize> {
    let address = block as usize;
    if !is_guarded(address) {
        return None;
    }
    HEAP.with(|heap| {
        let found = if heap.slots.contains(address) {
            heap.slots.find(address)
        } else {
            heap.ring.find(address)
        };
        found
            .filter(|block| block.address == address && block.state == State::Live)
            .map(|block| block.size)
    })
}

/// Bytes of a block of the C library; 0 where it does not tell.
///
/// # Safety
///
/// The block must be one of the C library.
unsafe fn usable_size_of_libc(block: *mut c_void) -> usize {
    type UsableSize = unsafe extern "C" fn(*mut c_void) -> usize;
    USABLE_SIZE.address().map_or(0, |function| {
        // SAFETY: the function of this name has this type; the caller promises the rest.
        unsafe { std::mem::transmute::<*mut c_void, UsableSize>(function)(block) }
    })
}

/// Whether an address is one of guarded blocks or the pages between.
pub(crate) fn is_guarded(address: usize) -> bool {
    // SAFETY: both ranges are fixed once they are prepared.
    unsafe { HEAP.peek(|heap| heap.slots.contains(address) || heap.ring.contains(address)) }
}

/// What an access to this address of ours is to be told as; `None` where it is accessible,
/// or not ours.
pub(crate) fn fault_at(address: usize, access: Access) -> Option<Fault> {
    // SAFETY: numbers are bounded by their tables, which are never unmapped.
    unsafe {
        HEAP.peek(|heap| {
            let (block, accessible) = heap.nearest(address)?;
            (!accessible).then(|| Fault {
                access,
                place: Some(Place::of(block, address)),
                block: Some(*block),
            })
        })
    }
}

/// The first byte of `start..start + len` that is ours and inaccessible.
pub(crate) fn first_inaccessible(start: usize, len: usize) -> Option<usize> {
    if len == 0 || !is_guarded(start) {
        return None;
    }
    // SAFETY: as above.
    unsafe {
        HEAP.peek(|heap| {
            let (block, accessible) = heap.nearest(start)?;
            if !accessible {
                return Some(start);
            }
            let end = block.first.wrapping_add(block.room);
            (end > start && end.wrapping_sub(start) < len).then_some(end)
        })
    }
}

/// Looks for damage around the blocks that were never freed, at the end of the program.
pub(crate) extern "C" fn check_at_end() {
    if config::mode() == Mode::Off {
        return;
    }
    let fault = HEAP.with(|heap| {
        let mut blocks = heap.slots.used().chain(heap.ring.used());
        blocks.find_map(Fault::damage)
    });
    if let Some(fault) = fault {
        report::abort_with(&fault);
    }
}
