//! A fork server for unmodified programs.
//!
//! Loaded with `LD_PRELOAD` into a dynamically linked program, this library interposes
//! `__libc_start_main`, the function that the program's first instructions call. By then all
//! libraries are loaded, linked and initialised, and no code of the program itself has run,
//! not even its constructors: no thread has been started that a fork would lose. There it
//! serves runs ([`runserver::server`]): each is a fork that continues into the program with
//! the arguments and the environment of the request.
//!
//! Without the variable [`runserver::wire::ENV`] it changes nothing.
#![allow(unsafe_code)] // Interposes a function of the C library; each block says why it is sound.

use std::ffi::{c_char, c_int, c_void};

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
    // SAFETY: both names are NUL-terminated.
    let (real, serve) = unsafe {
        (
            libc::dlsym(libc::RTLD_NEXT, c"__libc_start_main".as_ptr()),
            !libc::getenv(ENV.as_ptr()).is_null(),
        )
    };
    if real.is_null() {
        return 126;
    }
    // SAFETY: this is the signature of the C library's function of this name.
    let real: StartMain = unsafe { std::mem::transmute::<*mut c_void, StartMain>(real) };
    let (argc, argv) = if serve {
        let run = server::serve_by_fork();
        adopt(&run);
        begin_guard();
        (run.argc, run.argv)
    } else {
        (argc, argv)
    };
    real(main, argc, argv, init, fini, loader_fini, stack_end)
}

/// The variable's name as a C string.
const ENV: &std::ffi::CStr = c"IMAGE_FUZZER_RUN_SERVER";
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
