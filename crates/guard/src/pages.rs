//! Pages of memory: mapped, opened and closed.
#![allow(unsafe_code)] // mmap(2), madvise(2), mprotect(2); each block says why it is sound.

use std::ffi::c_void;
use std::ptr;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// madvise(2): makes pages inaccessible by their entries in the page table, without a mapping
/// of their own, and drops what they held. Since Linux 6.13, of shared memory since 6.15.
const MADV_GUARD_INSTALL: libc::c_int = 102;

const READ_WRITE: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;
const PRIVATE: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

/// Maps `len` fresh bytes that count as used only once they are touched.
pub(crate) fn reserve(len: usize) -> Option<usize> {
    map(len, READ_WRITE, PRIVATE)
}

/// Maps `len` bytes that are inaccessible until they are opened.
pub(crate) fn reserve_closed(len: usize) -> Option<usize> {
    map(len, libc::PROT_NONE, PRIVATE)
}

/// Maps `len` fresh bytes that are shared with what the process forks.
pub(crate) fn share(len: usize) -> Option<usize> {
    map(len, READ_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS)
}

fn map(len: usize, rights: libc::c_int, flags: libc::c_int) -> Option<usize> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice changes no memory of
    // ours.
    let at = unsafe { libc::mmap(ptr::null_mut(), len, rights, flags, -1, 0) };
    (at != libc::MAP_FAILED).then_some(at as usize)
}

/// Unmaps pages.
pub(crate) fn unmap(at: usize, len: usize) {
    // SAFETY: the pages are ours, and no reference into them is left.
    unsafe { libc::munmap(at as *mut c_void, len) };
}

/// Makes pages inaccessible by their entries in the page table, and drops what they held;
/// where the kernel cannot, by a mapping of their own. `false` where it refuses both.
pub(crate) fn close(at: usize, len: usize) -> bool {
    // SAFETY: the pages are ours, and no reference into them is left.
    unsafe {
        libc::madvise(at as *mut c_void, len, MADV_GUARD_INSTALL) == 0
            || libc::mprotect(at as *mut c_void, len, libc::PROT_NONE) == 0
    }
}

/// Makes pages of [`reserve_closed`] accessible; `false` where the system refuses.
pub(crate) fn open(at: usize, len: usize) -> bool {
    // SAFETY: the pages are ours.
    unsafe { libc::mprotect(at as *mut c_void, len, READ_WRITE) == 0 }
}

/// Makes opened pages as [`reserve_closed`] gave them; `false` where the system refuses.
pub(crate) fn discard(at: usize, len: usize) -> bool {
    map_over(at, len, libc::PROT_NONE)
}

/// Puts fresh private pages in the place of pages.
pub(crate) fn replace(at: usize, len: usize) -> bool {
    map_over(at, len, READ_WRITE)
}

fn map_over(at: usize, len: usize, rights: libc::c_int) -> bool {
    // SAFETY: the pages are ours, and no reference into them is left.
    let done = unsafe {
        libc::mmap(
            at as *mut c_void,
            len,
            rights,
            PRIVATE | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    done != libc::MAP_FAILED
}
