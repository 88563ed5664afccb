//! The functions that this library interposes, as the libraries behind it have them.
#![allow(unsafe_code)] // dlsym(3); each block says why it is sound.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// One function of the next library; looked up on the first use.
pub(crate) struct Real {
    name: &'static CStr,
    address: AtomicPtr<libc::c_void>,
}

impl Real {
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            address: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Its address; `None` where there is no such function.
    pub(crate) fn address(&self) -> Option<*mut libc::c_void> {
        let mut address = self.address.load(Relaxed);
        if address.is_null() {
            // SAFETY: a NUL-terminated name.
            address = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
            self.address.store(address, Relaxed);
        }
        (!address.is_null()).then_some(address)
    }
}

/// Calls the function of this name and type in the next library; `-1` and `ENOSYS` where
/// there is none.
macro_rules! real {
    ($name:ident($($argument:expr),* $(,)?) as $type:ty) => {{
        const NAME: &std::ffi::CStr =
            match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes())
            {
                Ok(name) => name,
                Err(_) => panic!("a name with a NUL byte"),
            };
        static REAL: $crate::real::Real = $crate::real::Real::new(NAME);
        match REAL.address() {
            // SAFETY: the function of this name has this type, and gets what the program
            // passed.
            Some(address) => unsafe {
                std::mem::transmute::<*mut libc::c_void, $type>(address)($($argument),*)
            },
            None => {
                // SAFETY: the C library gives a pointer to this thread's own number.
                unsafe { *libc::__errno_location() = libc::ENOSYS };
                -1
            }
        }
    }};
}
pub(crate) use real;
