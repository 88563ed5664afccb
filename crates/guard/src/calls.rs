//! System calls: opening an image makes small blocks guarded, and a call that the kernel cut
//! short at a guard page or a freed block, where it raises no signal, is reported.
#![allow(unsafe_code)] // Interposes functions of the C library; each block says why it is sound.

use std::ffi::{CStr, c_char, c_int, c_void};

use crate::config;
use crate::heap;
use crate::real::real;
use crate::report::{self, Access};

/// Folders of files that are the system's, never images.
const SYSTEM: [&[u8]; 8] = [
    b"/lib", b"/usr/", b"/etc/", b"/proc/", b"/sys/", b"/dev/", b"/bin/", b"/sbin/",
];

/// Arms the guard of small blocks when a file is opened that is not the system's.
fn opening(path: *const c_char) {
    if path.is_null() || config::armed() {
        return;
    }
    // SAFETY: the program passes a NUL-terminated path.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    if !SYSTEM.iter().any(|folder| path.starts_with(folder)) {
        config::arm();
    }
}

macro_rules! open_calls {
    ($($name:ident([$($folder:ident: $folder_type:ty)?] $path:ident
        $(, $argument:ident: $type:ty)*) as $real:ty;)*) => { $(
        /// Interposes the C library's function of this name.
        ///
        /// # Safety
        ///
        /// As open(2).
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name(
            $($folder: $folder_type,)?
            $path: *const c_char,
            $($argument: $type),*
        ) -> c_int {
            opening($path);
            real!($name($($folder,)? $path, $($argument),*) as $real)
        }
    )* };
}

type Open = unsafe extern "C" fn(*const c_char, c_int, ...) -> c_int;
type OpenAt = unsafe extern "C" fn(c_int, *const c_char, c_int, ...) -> c_int;
type Open2 = unsafe extern "C" fn(*const c_char, c_int) -> c_int;
type OpenAt2 = unsafe extern "C" fn(c_int, *const c_char, c_int) -> c_int;

// The mode is there only with O_CREAT; where it is not, whatever is in its register is passed
// on unread.
open_calls! {
    open([] path, flags: c_int, mode: libc::mode_t) as Open;
    open64([] path, flags: c_int, mode: libc::mode_t) as Open;
    openat([folder: c_int] path, flags: c_int, mode: libc::mode_t) as OpenAt;
    openat64([folder: c_int] path, flags: c_int, mode: libc::mode_t) as OpenAt;
    __open_2([] path, flags: c_int) as Open2;
    __open64_2([] path, flags: c_int) as Open2;
    __openat_2([folder: c_int] path, flags: c_int) as OpenAt2;
    __openat64_2([folder: c_int] path, flags: c_int) as OpenAt2;
}

/// One buffer of a call.
fn buffer(start: *const c_void, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: start.cast_mut(),
        iov_len: len,
    }
}

/// Reports a call that failed, or stopped, at a byte that is ours and inaccessible.
#[inline]
fn check(result: isize, buffers: &[libc::iovec], access: Access) {
    // SAFETY: the C library gives a pointer to this thread's own number.
    let failed = result == -1 && unsafe { *libc::__errno_location() } == libc::EFAULT;
    let wanted = || {
        buffers
            .iter()
            .fold(0_usize, |sum, one| sum.saturating_add(one.iov_len))
    };
    if failed || usize::try_from(result).is_ok_and(|done| done < wanted()) {
        check_stopped(usize::try_from(result).ok(), buffers, access);
    }
}

/// `done` are the bytes that were transferred; `None` when the call failed.
#[cold]
fn check_stopped(done: Option<usize>, buffers: &[libc::iovec], access: Access) {
    if config::mode() == config::Mode::Off {
        return;
    }
    let byte = match done {
        None => buffers
            .iter()
            .find_map(|one| heap::first_inaccessible(one.iov_base as usize, one.iov_len)),
        Some(mut done) => buffers.iter().find_map(|one| {
            let inside = done < one.iov_len;
            let byte = (one.iov_base as usize).wrapping_add(done);
            done = done.saturating_sub(one.iov_len);
            inside.then_some(byte)
        }),
    };
    if let Some(fault) = byte.and_then(|byte| heap::fault_at(byte, access)) {
        report::abort_with(&fault);
    }
}

macro_rules! buffer_calls {
    ($($access:ident by $name:ident($start:ty $(, $argument:ident: $type:ty)?);)*) => { $(
        /// Interposes the C library's function of this name.
        ///
        /// # Safety
        ///
        /// As the system call of this name.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name(
            fd: c_int,
            start: $start,
            len: usize,
            $($argument: $type)?
        ) -> isize {
            type Real = unsafe extern "C" fn(c_int, $start, usize, $($type)?) -> isize;
            let result = real!($name(fd, start, len, $($argument)?) as Real);
            let access = Access::$access(stringify!($name));
            check(result, &[buffer(start.cast(), len)], access);
            result
        }
    )* };
}

buffer_calls! {
    WriteBy by read(*mut c_void);
    WriteBy by pread(*mut c_void, offset: libc::off_t);
    WriteBy by pread64(*mut c_void, offset: libc::off64_t);
    WriteBy by recv(*mut c_void, flags: c_int);
    ReadBy by write(*const c_void);
    ReadBy by pwrite(*const c_void, offset: libc::off_t);
    ReadBy by pwrite64(*const c_void, offset: libc::off64_t);
    ReadBy by send(*const c_void, flags: c_int);
}

macro_rules! vector_calls {
    ($($access:ident by $name:ident($($argument:ident: $type:ty),*);)*) => { $(
        /// Interposes the C library's function of this name.
        ///
        /// # Safety
        ///
        /// As the system call of this name.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name(
            fd: c_int,
            vector: *const libc::iovec,
            count: c_int,
            $($argument: $type),*
        ) -> isize {
            type Real = unsafe extern "C" fn(c_int, *const libc::iovec, c_int, $($type),*) -> isize;
            let result = real!($name(fd, vector, count, $($argument),*) as Real);
            // SAFETY: the program passes an array of this length.
            let buffers = unsafe { array(vector, usize::try_from(count).unwrap_or(0)) };
            check(result, buffers, Access::$access(stringify!($name)));
            result
        }
    )* };
}

vector_calls! {
    WriteBy by readv();
    WriteBy by preadv(offset: libc::off_t);
    WriteBy by preadv64(offset: libc::off64_t);
    ReadBy by writev();
    ReadBy by pwritev(offset: libc::off_t);
    ReadBy by pwritev64(offset: libc::off64_t);
}

macro_rules! message_calls {
    ($($access:ident by $name:ident($type:ty);)*) => { $(
        /// Interposes the C library's function of this name.
        ///
        /// # Safety
        ///
        /// As the system call of this name.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name(fd: c_int, message: $type, flags: c_int) -> isize {
            let result = real!($name(fd, message, flags)
                as unsafe extern "C" fn(c_int, $type, c_int) -> isize);
            // SAFETY: the program passes a null pointer or one to a message, whose buffers
            // are an array of the length it tells.
            let buffers = unsafe {
                message.as_ref().map(|message| array(message.msg_iov, message.msg_iovlen))
            };
            check(result, buffers.unwrap_or_default(), Access::$access(stringify!($name)));
            result
        }
    )* };
}

message_calls! {
    WriteBy by recvmsg(*mut libc::msghdr);
    ReadBy by sendmsg(*const libc::msghdr);
}

/// An array of buffers that the program passed.
///
/// # Safety
///
/// The pointer must be null or one to so many buffers.
unsafe fn array<'a>(start: *const libc::iovec, count: usize) -> &'a [libc::iovec] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: the caller promises it.
    unsafe { std::slice::from_raw_parts(start, count) }
}
