//! The handler of faults in guard pages and freed blocks, and what keeps it in place: the
//! program's own handler of `SIGSEGV` is kept aside and has its turn.
#![allow(unsafe_code)] // Signal handlers; each block says why it is sound.

use std::ffi::{c_int, c_void};
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::code::{self, Unwound};
use crate::heap;
use crate::lock::Locked;
use crate::real::real;
use crate::report::{self, Access};

/// The signal of a fault.
const FAULT: c_int = libc::SIGSEGV;

/// What the program has asked for, or what was there before ours; `None` is the default.
static PROGRAM: Locked<Option<libc::sigaction>> = Locked::new(None);

/// Whether our handler is in place.
static INSTALLED: AtomicBool = AtomicBool::new(false);

type Sigaction = unsafe extern "C" fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int;
type Sigmask = unsafe extern "C" fn(c_int, *const libc::sigset_t, *mut libc::sigset_t) -> c_int;
type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// Installs the handler, where no other thread runs.
pub(crate) fn install() {
    // SAFETY: all-zero is a valid action.
    let (mut action, mut before): (libc::sigaction, libc::sigaction) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    action.sa_sigaction = faulted as Handler as libc::sighandler_t;
    // Deferred, a fault inside the handler would end the program before the first is reported.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
    if real!(sigaction(FAULT, &raw const action, &raw mut before) as Sigaction) == 0 {
        PROGRAM.with(|program| *program = Some(before));
        INSTALLED.store(true, Relaxed);
    }
}

/// The program's action, all-zero for the default.
fn program_action() -> libc::sigaction {
    // SAFETY: a copy of plain numbers; all-zero is a valid action.
    unsafe { PROGRAM.peek(|program| program.unwrap_or(mem::zeroed())) }
}

/// Whether a thread is collecting the frames of a fault.
static UNWINDING: AtomicBool = AtomicBool::new(false);

extern "C" fn faulted(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a handler with SA_SIGINFO valid information.
    let (sent, address) = unsafe { ((*info).si_code <= 0, (*info).si_addr() as usize) };
    let (instruction, access) = registers(context);
    if UNWINDING.swap(false, Relaxed) {
        // The stack could not be unwound; the line must do without its frames.
        if let Some(fault) = REPORTING.with(Option::take) {
            report::print(&fault.0, &Unwound::only(fault.1));
        }
        restore_program_action();
        return;
    }
    let fault = if sent {
        None
    } else {
        heap::fault_at(address, access)
    };
    match fault {
        Some(fault) => {
            if !report::is_first() {
                report::wait_for_the_end();
            }
            REPORTING.with(|place| *place = Some((fault, instruction)));
            UNWINDING.store(true, Relaxed);
            code::record_modules();
            let accessed = Unwound::capture(Some(instruction));
            UNWINDING.store(false, Relaxed);
            if REPORTING.with(Option::take).is_some() {
                report::print(&fault, &accessed);
            }
            // The instruction fails once more, now in the program's hands.
            restore_program_action();
        }
        None => forward(signal, info, context, sent),
    }
}

/// The fault that is being reported, and its instruction.
static REPORTING: Locked<Option<(report::Fault, usize)>> = Locked::new(None);

/// Puts the program's action in the place of ours.
fn restore_program_action() {
    INSTALLED.store(false, Relaxed);
    let action = program_action();
    real!(sigaction(FAULT, &raw const action, ptr::null_mut()) as Sigaction);
}

/// Hands a fault that is none of ours to the program's action.
fn forward(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void, sent: bool) {
    let action = program_action();
    if matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
        if sent && action.sa_sigaction == libc::SIG_IGN {
            return;
        }
        restore_program_action();
        if sent {
            // SAFETY: the call takes an integer.
            unsafe { libc::raise(signal) };
        }
        return;
    }
    if action.sa_flags & libc::SA_RESETHAND != 0 {
        PROGRAM.with(|program| *program = None);
    }
    // SAFETY: the program installed a function of this type with these flags; its mask is
    // put in force for as long as it runs.
    unsafe {
        let mut before: libc::sigset_t = mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const action.sa_mask, &raw mut before);
        if action.sa_flags & libc::SA_SIGINFO == 0 {
            mem::transmute::<usize, extern "C" fn(c_int)>(action.sa_sigaction)(signal);
        } else {
            mem::transmute::<usize, Handler>(action.sa_sigaction)(signal, info, context);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
    }
}

/// The instruction that failed, and whether it read or wrote.
#[cfg(target_arch = "x86_64")]
fn registers(context: *mut c_void) -> (usize, Access) {
    /// Bit of the error code of a page fault: it was a write.
    const WRITE: i64 = 2;
    // SAFETY: the kernel passes a handler with SA_SIGINFO a valid context.
    let registers = unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let write = registers[libc::REG_ERR as usize] & WRITE != 0;
    (
        registers[libc::REG_RIP as usize] as usize,
        if write { Access::Write } else { Access::Read },
    )
}

/// The instruction that failed. Whether it wrote is not told in a fixed place here.
#[cfg(target_arch = "aarch64")]
fn registers(context: *mut c_void) -> (usize, Access) {
    // SAFETY: the kernel passes a handler with SA_SIGINFO a valid context.
    let machine = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    (machine.pc as usize, Access::Read)
}

/// Stands in for the C library's function: the action for `SIGSEGV` is kept aside.
///
/// # Safety
///
/// As sigaction(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn sigaction(
    signal: c_int,
    action: *const libc::sigaction,
    before: *mut libc::sigaction,
) -> c_int {
    if signal != FAULT || !INSTALLED.load(Relaxed) {
        return real!(sigaction(signal, action, before) as Sigaction);
    }
    // SAFETY: the program passes null pointers or ones to actions.
    unsafe {
        let new = action.as_ref().copied();
        let old = PROGRAM.with(|program| {
            let old = program.unwrap_or(mem::zeroed());
            *program = new.or(Some(old));
            old
        });
        if let Some(before) = before.as_mut() {
            *before = old;
        }
    }
    0
}

/// Stands in for the C library's function, as above.
///
/// # Safety
///
/// As signal(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn signal(
    signal: c_int,
    handler: libc::sighandler_t,
) -> libc::sighandler_t {
    if signal != FAULT || !INSTALLED.load(Relaxed) {
        type Signal = unsafe extern "C" fn(c_int, libc::sighandler_t) -> isize;
        return real!(signal(signal, handler) as Signal) as libc::sighandler_t;
    }
    // SAFETY: all-zero is a valid action.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    let before = program_action();
    PROGRAM.with(|program| *program = Some(action));
    before.sa_sigaction
}

/// Calls `set` with the signals of `mask` but for the fault's: a blocked one would end the
/// program without a line.
fn without_fault(
    how: c_int,
    mask: *const libc::sigset_t,
    set: impl FnOnce(*const libc::sigset_t) -> c_int,
) -> c_int {
    // SAFETY: the program passes a null pointer or one to a mask, which is copied.
    let Some(mut wanted) = (unsafe { mask.as_ref().copied() })
        .filter(|_| how != libc::SIG_UNBLOCK && INSTALLED.load(Relaxed))
    else {
        return set(mask);
    };
    // SAFETY: a live mask.
    unsafe { libc::sigdelset(&raw mut wanted, FAULT) };
    set(&raw const wanted)
}

/// Stands in for the C library's function: `SIGSEGV` is never blocked.
///
/// # Safety
///
/// As pthread_sigmask(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_sigmask(
    how: c_int,
    mask: *const libc::sigset_t,
    before: *mut libc::sigset_t,
) -> c_int {
    without_fault(how, mask, |mask| {
        real!(pthread_sigmask(how, mask, before) as Sigmask)
    })
}

/// Stands in for the C library's function: `SIGSEGV` is never blocked.
///
/// # Safety
///
/// As sigprocmask(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn sigprocmask(
    how: c_int,
    mask: *const libc::sigset_t,
    before: *mut libc::sigset_t,
) -> c_int {
    without_fault(how, mask, |mask| {
        real!(sigprocmask(how, mask, before) as Sigmask)
    })
}
