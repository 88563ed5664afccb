//! Where code is, and which of it was being run: modules, a cheap trace of an allocation, and
//! an exact one of a fault.
#![allow(unsafe_code)] // Reads the stack, code and the loader's tables; each block says why it is sound.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::lock::Locked;
use crate::pages::PAGE;

/// How many return addresses are kept of an allocation.
const DEPTH: usize = 4;

/// How far above the stack pointer return addresses are looked for, in words.
const WORDS: usize = 64;

/// The most modules that are recorded; an address in a further one is shown as a number.
const MODULES: usize = 192;

/// The longest name of a module, in bytes; of a longer one the end is left out.
const NAME: usize = 48;

/// The addresses of a call and its callers, innermost first; zeros fill the rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace(pub(crate) [usize; DEPTH]);

impl Trace {
    pub(crate) const NONE: Self = Self([0; DEPTH]);

    /// The trace of a call that will return to `address`, with the stack pointer `stack`
    /// after that: whatever above it looks like the address behind a call. Stale ones are
    /// among them; the same run has the same ones.
    pub(crate) fn scan(address: usize, stack: usize) -> Self {
        let mut trace = [0; DEPTH];
        trace[0] = address;
        let mut found = 1;
        for word in 0..WORDS {
            let at = stack.wrapping_add(word * size_of::<usize>());
            if at.is_multiple_of(PAGE) && !is_readable(at) {
                break;
            }
            // SAFETY: the address is aligned, and in a page that is on the stack or that was
            // just found to be readable.
            let value = unsafe { ptr::read_volatile(at as *const usize) };
            if is_return_address(value) {
                trace[found] = value;
                found += 1;
                if found == DEPTH {
                    break;
                }
            }
        }
        Self(trace)
    }

    /// The addresses.
    pub(crate) fn addresses(&self) -> &[usize] {
        let used = self.0.iter().take_while(|&&address| address != 0).count();
        self.0.get(..used).unwrap_or_default()
    }
}

/// One library or program.
#[derive(Clone, Copy)]
struct Module {
    /// What is added to the addresses in its file.
    base: usize,
    /// Start and end of its code.
    code: (usize, usize),
    name: [u8; NAME],
    name_len: usize,
}

/// The modules known, by the start of their code.
struct Modules {
    list: [Module; MODULES],
    /// The same starts, close together: most words of a stack are looked up here alone.
    starts: [usize; MODULES],
    count: usize,
}

static KNOWN: Locked<Modules> = Locked::new(Modules {
    list: [Module {
        base: 0,
        code: (0, 0),
        name: [0; NAME],
        name_len: 0,
    }; MODULES],
    starts: [0; MODULES],
    count: 0,
});

/// The start of the code of the program and of the library with the lowest address, each with
/// the end of its part of memory: a quick test that rules out the addresses of stacks and
/// heaps. What the kernel maps next to a stack is left out.
static BOUNDS: [(AtomicUsize, AtomicUsize); 2] =
    [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; 2];

/// The name of what the kernel maps.
const VDSO: &[u8] = b"linux-vdso.so.1";

/// Records the modules that are loaded. To be called before any trace is asked for, where no
/// other thread runs, and again after libraries were loaded.
pub(crate) fn record_modules() {
    KNOWN.with(|known| known.count = 0);
    // SAFETY: the callback has the signature that the call asks for and reads what it is
    // given.
    unsafe { libc::dl_iterate_phdr(Some(record_module), ptr::null_mut()) };
    KNOWN.with(|known| {
        let list = known.list.get_mut(..known.count).unwrap_or_default();
        list.sort_unstable_by_key(|module| module.code);
        for (start, module) in known.starts.iter_mut().zip(&*list) {
            *start = module.code.0;
        }
        if let [first, second, .., last] = list {
            let bounds = [(first.code.0, first.code.1), (second.code.0, last.code.1)];
            for (place, (start, end)) in BOUNDS.iter().zip(bounds) {
                place.0.store(start, Relaxed);
                place.1.store(end, Relaxed);
            }
        }
    });
}

extern "C" fn record_module(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the loader passes a valid structure, whose headers are an array of that length
    // and whose name is NUL-terminated.
    let (base, headers, path) = unsafe {
        let info = &*info;
        let headers = if info.dlpi_phdr.is_null() {
            &[]
        } else {
            std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum))
        };
        let path = if info.dlpi_name.is_null() {
            c""
        } else {
            CStr::from_ptr(info.dlpi_name)
        };
        (info.dlpi_addr as usize, headers, path)
    };
    let mut own_path = [0_u8; 512];
    let path = match path.to_bytes() {
        // The program itself has no name.
        b"" => executable(&mut own_path),
        path => path,
    };
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    for header in headers.iter().filter(|_| name != VDSO) {
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
            let start = base.wrapping_add(header.p_vaddr as usize);
            let end = start.wrapping_add(header.p_memsz as usize);
            KNOWN.with(|known| known.add(base, (start, end), name));
        }
    }
    0
}

impl Modules {
    fn add(&mut self, base: usize, code: (usize, usize), path: &[u8]) {
        let Some(place) = self.list.get_mut(self.count) else {
            return;
        };
        let len = path.len().min(NAME);
        let mut name = [0; NAME];
        name[..len].copy_from_slice(&path[..len]);
        *place = Module {
            base,
            code,
            name,
            name_len: len,
        };
        self.count += 1;
    }

    fn find(&self, address: usize) -> Option<&Module> {
        let starts = self.starts.get(..self.count)?;
        let after = starts.partition_point(|&start| start <= address);
        let module = self.list.get(after.checked_sub(1)?)?;
        (address < module.code.1).then_some(module)
    }
}

/// The path of the program's file.
fn executable(buffer: &mut [u8]) -> &[u8] {
    // SAFETY: a NUL-terminated path, and pointer and length of a live slice.
    let len = unsafe {
        libc::readlink(
            c"/proc/self/exe".as_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    usize::try_from(len)
        .ok()
        .and_then(|len| buffer.get(..len))
        .unwrap_or(b"program")
}

/// Gives `show` the name of the module that an address is in, and its place in that file.
pub(crate) fn with_module<R>(address: usize, show: impl FnOnce(Option<(&[u8], usize)>) -> R) -> R {
    // SAFETY: modules are plain numbers and bytes, bounded by their arrays.
    unsafe {
        KNOWN.peek(|known| {
            let module = known.find(address);
            show(module.and_then(|module| {
                let name = module.name.get(..module.name_len)?;
                Some((name, address.wrapping_sub(module.base)))
            }))
        })
    }
}

/// Whether an address is in the code of this library.
fn is_own(address: usize) -> bool {
    // SAFETY: as above.
    unsafe {
        KNOWN.peek(|known| {
            let own = known.find(is_own as *const () as usize);
            own.is_some_and(|own| (own.code.0..own.code.1).contains(&address))
        })
    }
}

/// Whether an address is in code and directly behind a call.
fn is_return_address(address: usize) -> bool {
    let inside = |(start, end): &(AtomicUsize, AtomicUsize)| {
        (start.load(Relaxed)..end.load(Relaxed)).contains(&address)
    };
    if !BOUNDS.iter().any(inside) {
        return false;
    }
    // SAFETY: as above.
    let start = unsafe { KNOWN.peek(|known| known.find(address).map(|module| module.code.0)) };
    start.is_some_and(|start| address.wrapping_sub(start) >= CALL && is_after_call(address))
}

/// Bytes of the longest call instruction that is recognised.
#[cfg(target_arch = "x86_64")]
const CALL: usize = 7;
#[cfg(not(target_arch = "x86_64"))]
const CALL: usize = 4;

/// Whether a call ends at this address of code: `call` to an offset, or through a register or
/// memory (opcode ff /2).
#[cfg(target_arch = "x86_64")]
fn is_after_call(address: usize) -> bool {
    // SAFETY: the caller has found the bytes before the address to be code, which is
    // readable.
    let code = unsafe { std::slice::from_raw_parts((address - CALL) as *const u8, CALL) };
    code[CALL - 5] == 0xe8
        || [2, 3, 4, 6, 7]
            .into_iter()
            .any(|len| code[CALL - len] == 0xff && code[CALL - len + 1] & 0x38 == 0x10)
}

/// Whether a call ends at this address of code: `bl` or `blr`.
#[cfg(target_arch = "aarch64")]
fn is_after_call(address: usize) -> bool {
    // SAFETY: the caller has found the bytes before the address to be code, which is
    // readable; instructions are aligned.
    let code = unsafe { ptr::read_unaligned((address - CALL) as *const u32) };
    code >> 26 == 0x25 || code & 0xffff_fc1f == 0xd63f_0000
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn is_after_call(_: usize) -> bool {
    true
}

/// Whether a word can be read there: the kernel copies it before it refuses the first
/// argument.
fn is_readable(address: usize) -> bool {
    // SAFETY: the kernel reads eight bytes, or fails where it can't; nothing is changed.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        let invalid = !0_i32;
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            invalid,
            address,
            ptr::null_mut::<c_void>(),
            8_usize,
        );
        let readable = *errno != libc::EFAULT;
        *errno = saved;
        readable
    }
}

unsafe extern "C" {
    fn _Unwind_Backtrace(
        callback: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

/// How many return addresses are kept of a fault.
const UNWOUND: usize = 8;

/// The calls that led to a fault, innermost first.
pub(crate) struct Unwound {
    /// Frames up to this instruction are left out; 0 for none.
    from: usize,
    addresses: [usize; UNWOUND],
    count: usize,
    begun: bool,
}

impl Unwound {
    /// The calls above the instruction at `from`, itself included; those above this library
    /// where that is `None`.
    pub(crate) fn capture(from: Option<usize>) -> Self {
        let mut unwound = Self::only(from.unwrap_or(0));
        unwound.count = 0;
        // SAFETY: the callback has the signature that the unwinder calls, and is given a
        // pointer to a live structure.
        unsafe { _Unwind_Backtrace(record_frame, (&raw mut unwound).cast()) };
        if unwound.count == 0 {
            unwound = Self::only(unwound.from);
        }
        unwound
    }

    /// One instruction without its callers.
    pub(crate) fn only(address: usize) -> Self {
        let mut addresses = [0; UNWOUND];
        addresses[0] = address;
        Self {
            from: address,
            addresses,
            count: usize::from(address != 0),
            begun: false,
        }
    }

    /// The addresses.
    pub(crate) fn addresses(&self) -> &[usize] {
        self.addresses.get(..self.count).unwrap_or_default()
    }
}

extern "C" fn record_frame(context: *mut c_void, unwound: *mut c_void) -> c_int {
    const NO_REASON: c_int = 0;
    const END_OF_STACK: c_int = 5;
    // SAFETY: `capture` passes a pointer to a live structure, and the unwinder its context.
    let (unwound, address) = unsafe { (&mut *unwound.cast::<Unwound>(), _Unwind_GetIP(context)) };
    unwound.begun |= match unwound.from {
        0 => !is_own(address),
        from => address == from,
    };
    if unwound.begun && address != 0 {
        match unwound.addresses.get_mut(unwound.count) {
            Some(place) => *place = address,
            None => return END_OF_STACK,
        }
        unwound.count += 1;
    }
    NO_REASON
}
