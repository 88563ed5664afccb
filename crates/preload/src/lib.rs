//! A fork server for unmodified programs.
//!
//! Loaded with `LD_PRELOAD` into a dynamically linked program, this library interposes
//! `__libc_start_main`, the function that the program's first instructions call. By then all
//! libraries are loaded, linked and initialised, and no code of the program itself has run,
//! not even its constructors: no thread has been started that a fork would lose. There it
//! serves runs ([`runserver::server`]): each is a fork that continues into the program with
//! the arguments and the environment of the request.
//!
//! It can serve later instead ([`runserver::late`]): getopt(3) and its variants are interposed
//! too, and the first call of one is where the forks are then made.
//!
//! It also notes which blocks of the program are reached ([`coverage::trap`]), where the server
//! is asked to. The functions that set handlers and masks of signals are interposed for that.
//!
//! Without the variable [`runserver::wire::ENV`] it serves nothing. The program then runs as
//! it does without the library, with its blocks noted where [`coverage::record::ENV`] asks for
//! it.
#![allow(unsafe_code)] // Interposes a function of the C library; each block says why it is sound.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use coverage::trap;
use runserver::late::Late;
use runserver::server::{self, Run};
use runserver::wire;

type Main = extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char) -> c_int;
type Hook = Option<extern "C" fn()>;
type StartMain =
    extern "C" fn(Main, c_int, *mut *mut c_char, Hook, Hook, Hook, *mut c_void) -> c_int;

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
    static mut program_invocation_name: *mut c_char;
    static mut program_invocation_short_name: *mut c_char;
}

/// Interposes the C library's function of this name, and calls it.
///
/// # Safety
///
/// To be called once, by the program's start code, as the ABI of the C library demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __libc_start_main(
    main: Main,
    argc: c_int,
    argv: *mut *mut c_char,
    init: Hook,
    fini: Hook,
    loader_fini: Hook,
    stack_end: *mut c_void,
) -> c_int {
    // SAFETY: both names are NUL-terminated; the variable's value lives until it is changed.
    let (real, mode) = unsafe {
        let mode = libc::getenv(ENV.as_ptr());
        (
            libc::dlsym(libc::RTLD_NEXT, c"__libc_start_main".as_ptr()),
            (!mode.is_null()).then(|| CStr::from_ptr(mode).to_bytes() == wire::ENV_LATE.as_bytes()),
        )
    };
    if real.is_null() {
        return 126;
    }
    // SAFETY: this is the signature of the C library's function of this name.
    let real: StartMain = unsafe { std::mem::transmute::<*mut c_void, StartMain>(real) };
    let start = |run: Run| {
        adopt(&run);
        begin_guard();
        real(main, run.argc, run.argv, init, fini, loader_fini, stack_end)
    };
    match mode {
        None => {
            coverage::record::begin();
            real(main, argc, argv, init, fini, loader_fini, stack_end)
        }
        Some(false) => start(server::serve_by_fork()),
        Some(true) => {
            // Looked up now, not in each run.
            for function in [&GETOPT, &GETOPT_LONG, &GETOPT_LONG_ONLY] {
                function.address();
            }
            let mut late = Late::begin();
            let run = late.run();
            LATE.store(&raw mut late, Relaxed);
            start(run)
        }
    }
}

/// The server that waits for the first call of getopt(3), if there is one. It is on the stack
/// of [`__libc_start_main`], which does not return.
static LATE: AtomicPtr<Late> = AtomicPtr::new(ptr::null_mut());

/// Serves at the first call of getopt(3), and returns in the runs.
fn at_getopt(argc: c_int, argv: *const *mut c_char) {
    if !LATE.load(Relaxed).is_null() {
        let late = LATE.swap(ptr::null_mut(), Relaxed);
        // SAFETY: `__libc_start_main` stored a pointer to a value that it keeps, and only the
        // one who swaps it out uses it.
        if let Some(late) = unsafe { late.as_mut() } {
            late.serve(argc, argv);
        }
    }
}

/// A function of the C library that this one interposes, looked up once.
struct Real {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

static GETOPT: Real = Real::new(c"getopt");
static GETOPT_LONG: Real = Real::new(c"getopt_long");
static GETOPT_LONG_ONLY: Real = Real::new(c"getopt_long_only");

impl Real {
    const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            found: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Its address; null where there is none.
    fn address(&self) -> *mut c_void {
        let mut found = self.found.load(Relaxed);
        if found.is_null() {
            // SAFETY: a name ended by zero.
            found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
            self.found.store(found, Relaxed);
        }
        found
    }
}

static SIGACTION: Real = Real::new(c"sigaction");
static SIGNAL: Real = Real::new(c"signal");
static SYSV_SIGNAL: Real = Real::new(c"__sysv_signal");
static SIGPROCMASK: Real = Real::new(c"sigprocmask");
static PTHREAD_SIGMASK: Real = Real::new(c"pthread_sigmask");

/// What getopt(3) gives at the end of the options.
const NO_OPTION: c_int = -1;

/// Interposes the C library's function of this name, and calls it.
///
/// # Safety
///
/// As getopt(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getopt(
    argc: c_int,
    argv: *const *mut c_char,
    options: *const c_char,
) -> c_int {
    type Getopt = extern "C" fn(c_int, *const *mut c_char, *const c_char) -> c_int;
    at_getopt(argc, argv);
    let real = GETOPT.address();
    if real.is_null() {
        return NO_OPTION;
    }
    // SAFETY: this is the signature of the C library's function of this name.
    unsafe { std::mem::transmute::<*mut c_void, Getopt>(real)(argc, argv, options) }
}

/// Defines a variant of getopt(3) for long options.
macro_rules! getopt_long {
    ($name:ident, $real:ident) => {
        /// Interposes the C library's function of this name, and calls it.
        ///
        /// # Safety
        ///
        /// As getopt_long(3).
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            argc: c_int,
            argv: *const *mut c_char,
            options: *const c_char,
            long: *const c_void,
            index: *mut c_int,
        ) -> c_int {
            type Getopt = extern "C" fn(
                c_int,
                *const *mut c_char,
                *const c_char,
                *const c_void,
                *mut c_int,
            ) -> c_int;
            at_getopt(argc, argv);
            let real = $real.address();
            if real.is_null() {
                return NO_OPTION;
            }
            // SAFETY: as in `getopt`.
            let real = unsafe { std::mem::transmute::<*mut c_void, Getopt>(real) };
            real(argc, argv, options, long, index)
        }
    };
}

getopt_long!(getopt_long, GETOPT_LONG);
getopt_long!(getopt_long_only, GETOPT_LONG_ONLY);

/// A program that handles SIGILL itself is left alone: its blocks are not noted any more.
fn at_handler(signal: c_int, handler: libc::sighandler_t) {
    let is_own = ![libc::SIG_DFL, libc::SIG_IGN].contains(&handler);
    if signal == libc::SIGILL && is_own && trap::is_armed() {
        trap::disarm();
    }
}

/// Interposes the C library's function of this name, and calls it.
///
/// # Safety
///
/// As sigaction(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigaction(
    signal: c_int,
    action: *const libc::sigaction,
    previous: *mut libc::sigaction,
) -> c_int {
    type Sigaction = extern "C" fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int;
    let real = SIGACTION.address();
    if real.is_null() {
        return -1;
    }
    // SAFETY: the caller passes a null pointer or one to an action; this is the signature of
    // the C library's function of this name.
    let real = unsafe {
        if let Some(action) = action.as_ref() {
            at_handler(signal, action.sa_sigaction);
        }
        std::mem::transmute::<*mut c_void, Sigaction>(real)
    };
    real(signal, action, previous)
}

/// Defines a function that sets the handler of a signal.
macro_rules! signal {
    ($name:ident, $real:ident) => {
        /// Interposes the C library's function of this name, and calls it.
        ///
        /// # Safety
        ///
        /// As signal(2).
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            signal: c_int,
            handler: libc::sighandler_t,
        ) -> libc::sighandler_t {
            type Signal = extern "C" fn(c_int, libc::sighandler_t) -> libc::sighandler_t;
            let real = $real.address();
            if real.is_null() {
                return libc::SIG_ERR;
            }
            at_handler(signal, handler);
            // SAFETY: this is the signature of the C library's function of this name.
            let real = unsafe { std::mem::transmute::<*mut c_void, Signal>(real) };
            real(signal, handler)
        }
    };
}

signal!(signal, SIGNAL);
signal!(__sysv_signal, SYSV_SIGNAL);

/// Defines a function that changes which signals are blocked. A signal of an instruction that
/// is blocked ends the process: while blocks are noted, SIGILL is not.
macro_rules! mask {
    ($name:ident, $real:ident) => {
        /// Interposes the C library's function of this name, and calls it.
        ///
        /// # Safety
        ///
        /// As sigprocmask(2).
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            how: c_int,
            set: *const libc::sigset_t,
            previous: *mut libc::sigset_t,
        ) -> c_int {
            type Mask = extern "C" fn(c_int, *const libc::sigset_t, *mut libc::sigset_t) -> c_int;
            let real = $real.address();
            if real.is_null() {
                return libc::ENOSYS;
            }
            // SAFETY: the caller passes a null pointer or one to a set, which is copied; this
            // is the signature of the C library's function of this name.
            unsafe {
                let real = std::mem::transmute::<*mut c_void, Mask>(real);
                if how == libc::SIG_UNBLOCK || set.is_null() || !trap::is_armed() {
                    return real(how, set, previous);
                }
                let mut others = *set;
                libc::sigdelset(&raw mut others, libc::SIGILL);
                real(how, &raw const others, previous)
            }
        }
    };
}

mask!(sigprocmask, SIGPROCMASK);
mask!(pthread_sigmask, PTHREAD_SIGMASK);

/// The variable's name as a C string.
const ENV: &CStr = c"IMAGE_FUZZER_RUN_SERVER";
const _: () = assert!(ENV.count_bytes() == wire::ENV.len());

/// Sets the environment and the program's name of a run, as the loader would have.
fn adopt(run: &Run) {
    // SAFETY: this is the only thread, and the strings live as long as the process.
    unsafe {
        environ = run.envp;
        let name = *run.argv;
        if name.is_null() {
            return;
        }
        program_invocation_name = name;
        let slash = libc::strrchr(name, c_int::from(b'/'));
        program_invocation_short_name = if slash.is_null() { name } else { slash.add(1) };
    }
}

/// Tells the library `guard`, where it is loaded too, that a run begins, so that it does what
/// the environment of this run asks for.
fn begin_guard() {
    type Begin = extern "C" fn();
    // SAFETY: a NUL-terminated name; the function of this name has no arguments.
    unsafe {
        let begin = libc::dlsym(libc::RTLD_DEFAULT, c"image_fuzzer_guard_begin".as_ptr());
        if !begin.is_null() {
            std::mem::transmute::<*mut c_void, Begin>(begin)();
        }
    }
}
