//! A guarding allocator for unmodified programs.
//!
//! Loaded with `LD_PRELOAD` into a dynamically linked program, this library interposes
//! malloc(3) and its relatives. A guarded block has pages of its own, with an inaccessible one
//! beside them, and becomes inaccessible when it is freed: an overflow, an access before the
//! start or after a free is a `SIGSEGV` at the instruction that does it. A line on stderr
//! says what was done, to which block, where it was allocated and freed:
//!
//! ```text
//! image-fuzzer guard: write by pread64 0 bytes past the end of a block of 65600 bytes;
//! accessed at qemu-img+0x12345 < ...; allocated at qemu-img+0x6789 < ...
//! ```
//!
//! Double frees, frees of what is no block, and damage within the few bytes that alignment
//! leaves between a block and its guard page are found by free(3) and at the end of the
//! program; these abort it, and so does a system call that ran into a guard page.
//!
//! What it does is chosen by the environment:
//!
//! | variable | values |
//! | --- | --- |
//! | `IMAGE_FUZZER_GUARD` | `off`, or not set: nothing. `ends`: guarded blocks end before an inaccessible page; they are those of 4 KiB and more, and, once a file has been opened that is not the system's, smaller ones until their pages are used up. `starts`: the same blocks begin after one. `all`: every block, from the first on, ends before one |
//! | `IMAGE_FUZZER_GUARD_FILL` | two hexadecimal digits, `a5` without: the byte that fresh memory is filled with; freed memory gets its complement |
//!
//! Blocks that are not guarded are those of the C library, filled too.
//!
//! Under the run server of the library `preload`, pages are prepared once, before the fork, and
//! each run has the mode of its own environment.
#![allow(unsafe_code)] // Interposes functions of the C library; each block says why it is sound.

mod block;
mod calls;
mod code;
mod config;
mod fault;
mod heap;
mod lock;
mod pages;
mod real;
mod report;
mod ring;
mod slots;

use std::ffi::{c_int, c_void};
use std::ptr;

use block::MIN_ALIGN;
use heap::{Caller, Request};
use pages::PAGE;

/// The variable by which the run server of the library `preload` is asked for.
const RUN_SERVER: &std::ffi::CStr = c"IMAGE_FUZZER_RUN_SERVER";

/// Runs when the library is loaded, before the program's own constructors.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = start;

/// Runs when the program exits.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = heap::check_at_end;

extern "C" fn start() {
    if !config::is_requested() {
        return;
    }
    let server = config::variable(RUN_SERVER).is_some();
    code::record_modules();
    heap::prepare(server);
    fault::install();
    if !server {
        config::apply();
    }
}

/// Puts the mode of the present environment in force. The run server calls it in each run.
#[unsafe(no_mangle)]
pub extern "C" fn image_fuzzer_guard_begin() {
    config::apply();
}

/// Defines the function `$name` with `$count` arguments: it calls `$implementation` with two
/// more, its return address and the stack pointer of its caller.
macro_rules! with_caller {
    ($name:ident($($argument:ident: $type:ty),*) -> $result:ty, $implementation:path,
     $x86_address:literal, $x86_stack:literal, $arm_address:literal, $arm_stack:literal) => {
        /// Interposes the C library's function of this name.
        ///
        /// # Safety
        ///
        /// As the C library's function of this name.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            #[cfg(target_arch = "x86_64")]
            std::arch::naked_asm!(
                concat!("mov ", $x86_address, ", [rsp]"),
                concat!("lea ", $x86_stack, ", [rsp + 8]"),
                "jmp {}",
                sym $implementation,
            );
            #[cfg(target_arch = "aarch64")]
            std::arch::naked_asm!(
                concat!("mov ", $arm_address, ", x30"),
                concat!("mov ", $arm_stack, ", sp"),
                "b {}",
                sym $implementation,
            );
        }
    };
}

with_caller!(malloc(size: usize) -> *mut c_void,
    allocate, "rsi", "rdx", "x1", "x2");
with_caller!(valloc(size: usize) -> *mut c_void,
    allocate_page, "rsi", "rdx", "x1", "x2");
with_caller!(calloc(count: usize, size: usize) -> *mut c_void,
    allocate_zeroed, "rdx", "rcx", "x2", "x3");
with_caller!(memalign(align: usize, size: usize) -> *mut c_void,
    allocate_aligned, "rdx", "rcx", "x2", "x3");
with_caller!(aligned_alloc(align: usize, size: usize) -> *mut c_void,
    allocate_aligned, "rdx", "rcx", "x2", "x3");
with_caller!(posix_memalign(place: *mut *mut c_void, align: usize, size: usize) -> c_int,
    allocate_to, "rcx", "r8", "x3", "x4");
with_caller!(realloc(block: *mut c_void, size: usize) -> *mut c_void,
    reallocate, "rdx", "rcx", "x2", "x3");
with_caller!(reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void,
    reallocate_array, "rcx", "r8", "x3", "x4");
with_caller!(free(block: *mut c_void) -> (),
    release, "rsi", "rdx", "x1", "x2");
with_caller!(cfree(block: *mut c_void) -> (),
    release, "rsi", "rdx", "x1", "x2");

/// Interposes the C library's function of this name.
///
/// # Safety
///
/// As malloc_usable_size(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    heap::usable_size(block)
}

extern "C" fn allocate(size: usize, address: usize, stack: usize) -> *mut c_void {
    request(size, MIN_ALIGN, false, Caller { address, stack })
}

extern "C" fn allocate_page(size: usize, address: usize, stack: usize) -> *mut c_void {
    request(size, PAGE, false, Caller { address, stack })
}

extern "C" fn allocate_zeroed(
    count: usize,
    size: usize,
    address: usize,
    stack: usize,
) -> *mut c_void {
    match count.checked_mul(size) {
        Some(size) => request(size, MIN_ALIGN, true, Caller { address, stack }),
        None => fail(libc::ENOMEM),
    }
}

extern "C" fn allocate_aligned(
    align: usize,
    size: usize,
    address: usize,
    stack: usize,
) -> *mut c_void {
    match align.checked_next_power_of_two() {
        Some(align) => request(size, align, false, Caller { address, stack }),
        None => fail(libc::EINVAL),
    }
}

extern "C" fn allocate_to(
    place: *mut *mut c_void,
    align: usize,
    size: usize,
    address: usize,
    stack: usize,
) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*mut c_void>()) {
        return libc::EINVAL;
    }
    let block = request(size, align, false, Caller { address, stack });
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the program passes a place for the result.
    unsafe { place.write(block) };
    0
}

extern "C" fn reallocate(
    block: *mut c_void,
    size: usize,
    address: usize,
    stack: usize,
) -> *mut c_void {
    heap::reallocate(block, size, Caller { address, stack })
}

extern "C" fn reallocate_array(
    block: *mut c_void,
    count: usize,
    size: usize,
    address: usize,
    stack: usize,
) -> *mut c_void {
    match count.checked_mul(size) {
        Some(size) => heap::reallocate(block, size, Caller { address, stack }),
        None => fail(libc::ENOMEM),
    }
}

extern "C" fn release(block: *mut c_void, address: usize, stack: usize) {
    heap::free(block, Caller { address, stack });
}

fn request(size: usize, align: usize, zeroed: bool, caller: Caller) -> *mut c_void {
    let request = Request {
        size,
        align,
        zeroed,
    };
    heap::allocate(request, caller)
}

/// Sets the error number and gives a null pointer.
fn fail(errno: c_int) -> *mut c_void {
    // SAFETY: the C library gives a pointer to this thread's own number.
    unsafe { *libc::__errno_location() = errno };
    ptr::null_mut()
}
