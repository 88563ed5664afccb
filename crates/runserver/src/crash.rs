//! The place where a run under a fork server crashed, as a number: two crashes at the same
//! place have the same one.
//!
//! The address of the instruction that failed, with the return addresses found close above it
//! on the stack, tell crashes apart at no cost, while a debugger takes many times as long as
//! the run. Each address counts as a library and an offset in it, so that the number is the
//! same in every fork server of a program. Handlers that the program sets replace ours.
#![allow(unsafe_code)] // A signal handler that reads the stack; each block says why it is sound.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// Signals of instructions that fail.
const SIGNALS: [c_int; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];

/// How far above the stack pointer return addresses are looked for, in words.
const WORDS: usize = 64;

/// How many of them count.
const DEPTH: usize = 6;

/// What mixing begins with.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// The most code segments that are recorded; further ones of a program are ignored.
const SEGMENTS: usize = 256;

/// Where the handler stores the number, in memory shared with the server.
static PLACE: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// The code segments.
static CODE: [Segment; SEGMENTS] = [const {
    Segment {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        shift: AtomicUsize::new(0),
    }
}; SEGMENTS];

/// A segment of code.
struct Segment {
    start: AtomicUsize,
    end: AtomicUsize,
    /// What is to be added to an address, wrapping around, for a number that does not depend
    /// on where the library was loaded.
    shift: AtomicUsize,
}

/// How many segments there are.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Makes this process and its forks store the number of a crash in `place`. A signal that
/// already has a handler (of a sanitizer) keeps it.
///
/// To be called where no other thread runs.
pub(crate) fn watch(place: &'static AtomicU64) {
    PLACE.store(ptr::from_ref(place).cast_mut(), Ordering::Relaxed);
    // SAFETY: the callback has the signature that the call asks for and reads what it is
    // given; all-zero is valid for a `sigaction`, which the calls read and write.
    unsafe {
        libc::dl_iterate_phdr(Some(note_code), ptr::null_mut());
        for signal in SIGNALS {
            let mut action: libc::sigaction = std::mem::zeroed();
            let known = libc::sigaction(signal, ptr::null(), &raw mut action) == 0;
            if known && action.sa_sigaction == libc::SIG_DFL {
                let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = crashed;
                action.sa_sigaction = handler as libc::sighandler_t;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND | libc::SA_NODEFER;
                libc::sigaction(signal, &raw const action, ptr::null_mut());
            }
        }
    }
}

/// Records the code segments of one library or program.
extern "C" fn note_code(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the loader passes a valid structure, whose headers are an array of that length,
    // and whose name is a string ended by zero.
    let (base, name, headers) = unsafe {
        let info = &*info;
        let count = usize::from(info.dlpi_phnum);
        let headers = if info.dlpi_phdr.is_null() {
            &[]
        } else {
            std::slice::from_raw_parts(info.dlpi_phdr, count)
        };
        let name = if info.dlpi_name.is_null() {
            c""
        } else {
            CStr::from_ptr(info.dlpi_name)
        };
        (info.dlpi_addr as usize, name, headers)
    };
    let name = name
        .to_bytes()
        .iter()
        .fold(SEED, |number, &byte| mix(number, usize::from(byte)));
    for header in headers {
        let code = header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0;
        let number = COUNT.load(Ordering::Relaxed);
        if let Some(segment) = CODE.get(number).filter(|_| code) {
            let at = base.wrapping_add(header.p_vaddr as usize);
            let end = at.wrapping_add(header.p_memsz as usize);
            segment.start.store(at, Ordering::Relaxed);
            segment.end.store(end, Ordering::Relaxed);
            let shift = (name as usize).wrapping_sub(base);
            segment.shift.store(shift, Ordering::Relaxed);
            COUNT.store(number + 1, Ordering::Relaxed);
        }
    }
    0
}

/// The number of an address of code, wherever that was loaded.
fn code_number(address: usize) -> Option<usize> {
    let mut known = CODE.iter().take(COUNT.load(Ordering::Relaxed));
    let segment = known.find(|segment| {
        let start = segment.start.load(Ordering::Relaxed);
        (start..segment.end.load(Ordering::Relaxed)).contains(&address)
    })?;
    Some(address.wrapping_add(segment.shift.load(Ordering::Relaxed)))
}

/// Stores the number and lets the signal end the program.
extern "C" fn crashed(signal: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    let place = PLACE.load(Ordering::Relaxed);
    if !place.is_null()
        && let Some((at, stack)) = registers(context)
    {
        // SAFETY: `watch` stored a reference that lives as long as the process.
        let place = unsafe { &*place };
        let mut number = mix(SEED, code_number(at).unwrap_or(at));
        let mut depth = 0;
        for word in 0..WORDS {
            // What is known so far is stored first: should the stack end here, reading on
            // is a second fault, which ends the program.
            place.store(number, Ordering::Relaxed);
            let from = stack.wrapping_add(word * size_of::<usize>());
            // SAFETY: an address on or above the stack of the thread that crashed. Where
            // nothing is mapped there, the process is ended, as it is about to be anyway.
            let address = unsafe { ptr::read_volatile(from as *const usize) };
            if let Some(address) = code_number(address) {
                number = mix(number, address);
                depth += 1;
                if depth == DEPTH {
                    break;
                }
            }
        }
        place.store(number, Ordering::Relaxed);
    }
    // The default action applies again, and the signal is not blocked.
    // SAFETY: the call takes an integer.
    unsafe { libc::raise(signal) };
}

/// Mixes an address into a number; never 0, which stands for none.
fn mix(number: u64, address: usize) -> u64 {
    (number ^ address as u64)
        .wrapping_mul(0x0000_0100_0000_01b3)
        .rotate_left(23)
        .max(1)
}

/// Instruction pointer and stack pointer at the signal.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn registers(context: *mut c_void) -> Option<(usize, usize)> {
    // SAFETY: the kernel passes a handler with SA_SIGINFO a valid context.
    let context = unsafe { context.cast::<libc::ucontext_t>().as_ref()? };
    let register = |number: c_int| {
        let number = usize::try_from(number).ok()?;
        usize::try_from(context.uc_mcontext.gregs.get(number)?.cast_unsigned()).ok()
    };
    Some((register(libc::REG_RIP)?, register(libc::REG_RSP)? & !7))
}

/// Instruction pointer and stack pointer at the signal.
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
fn registers(context: *mut c_void) -> Option<(usize, usize)> {
    // SAFETY: the kernel passes a handler with SA_SIGINFO a valid context.
    let context = unsafe { context.cast::<libc::ucontext_t>().as_ref()? };
    let machine = &context.uc_mcontext;
    let number = |register: u64| usize::try_from(register).ok();
    Some((number(machine.pc)?, number(machine.sp)? & !7))
}

/// Instruction pointer and stack pointer at the signal; not known here.
#[cfg(not(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_os = "linux"
)))]
fn registers(_: *mut c_void) -> Option<(usize, usize)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status of a fork that reads from `address`, and the number it stores.
    fn crash(place: &AtomicU64, address: usize) -> (c_int, u64) {
        place.store(0, Ordering::Relaxed);
        // SAFETY: the child makes system calls and reads memory, and never returns.
        unsafe {
            let pid = libc::fork();
            if pid == 0 {
                ptr::read_volatile(address as *const u8);
                libc::_exit(0);
            }
            let mut status = 0;
            libc::waitpid(pid, &raw mut status, 0);
            (status, place.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn the_same_crash_has_the_same_number() {
        // SAFETY: fresh shared memory, zeroed, aligned to a page, never unmapped. The handler
        // of Rust's runtime is removed first, as in a program without one.
        let place: &'static AtomicU64 = unsafe {
            for signal in SIGNALS {
                libc::signal(signal, libc::SIG_DFL);
            }
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            let memory = libc::mmap(ptr::null_mut(), 4096, rights, flags, -1, 0);
            assert_ne!(memory, libc::MAP_FAILED);
            &*memory.cast::<AtomicU64>()
        };
        watch(place);
        assert!(code_number(crash as *const () as usize).is_some());
        assert!(code_number(ptr::from_ref(place) as usize).is_none());
        let byte = 1_u8;
        assert_eq!(crash(place, ptr::from_ref(&byte) as usize), (0, 0));
        let runs: Vec<_> = (0..3).map(|_| crash(place, 8)).collect();
        assert!(libc::WIFSIGNALED(runs[0].0) && libc::WTERMSIG(runs[0].0) == libc::SIGSEGV);
        assert_ne!(runs[0].1, 0);
        assert_eq!(runs[0], runs[1]);
        assert_eq!(runs[0], runs[2]);
        let elsewhere = crash(place, 8);
        assert_ne!(elsewhere.1, runs[0].1);
    }
}
