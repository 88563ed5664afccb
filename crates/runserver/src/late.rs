//! A fork server that forks at the program's first call of getopt(3), see [`Late`].
#![allow(unsafe_code)] // Memory and descriptors of the program; each block says why it is sound.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use crate::inherited::{Inherited, threads, writable_shared_mappings};
use crate::server::{Job, Run, Server, map, reap, wait};
use crate::sys;
use crate::wire::{LATE_WORD, Step, fd};

/// The exit status of a server whose program cannot be forked late.
const DECLINED: c_int = 124;

unsafe extern "C" {
    static stdout: *mut libc::FILE;
    fn __fpending(stream: *mut libc::FILE) -> usize;
}

/// A fork server that is stopped at the program's first call of getopt(3) or one of its
/// variants, instead of before `main`: the program's constructors and the start of `main` are
/// done once.
///
/// It is started with one request, the template, which is not answered: its number of
/// arguments, `argv[0]`, its directory and its environment are those of every run. The other
/// arguments are at fixed addresses, and are only written in the forked child: until then
/// their memory is inaccessible, so that a program that reads one before its first getopt
/// crashes, and never becomes a server.
///
/// A run is to give what a new process gives. What the program has done before the fork is
/// therefore looked at, and where it cannot be shared the process exits without having become
/// a server; the caller then uses [`crate::server::serve_by_fork`]:
///
/// | state | what becomes of it |
/// | --- | --- |
/// | arguments | of each run; read too early, or passed to getopt in another array: no server |
/// | environment | of the template, and what the program has set in it |
/// | directory | of the template; changed by the program: no server |
/// | open files | eventfd, signalfd and epoll descriptors (these without members) are created anew in each child, at the same number and in the same state; any other: no server. The server's own are out of the way, so that the numbers are those of a new process |
/// | output | anything written or left in the buffer of `stdout`: no server |
/// | input | `/dev/null` before the fork, that of the run after it: a program that reads its input first is not recognised |
/// | files read and closed | the caller watches the folder of the run; files of the system are taken to stay as they are |
/// | children | any: no server |
/// | threads | no server, unless the program starts as many again in the child by pthread_atfork(3), as QEMU does, whose handlers also see to the locks |
/// | memory | private, so copied; a mapping that is shared and writable: no server |
/// | timers | interval and POSIX timers, which a fork does not inherit: no server |
/// | signals | dispositions and mask are inherited |
/// | address layout | shared by the runs of one server, as in every fork server |
/// | random numbers, times and process ids that were kept before the fork | shared by the runs; the C library keeps none, GLib draws its seed at the first use, GnuTLS draws again after a fork. A program that keeps one itself is not recognised |
pub struct Late {
    server: Server,
    run: Run,
    cwd: *const c_char,
    /// The memory of the arguments but for the first, [`LATE_WORD`] bytes for each.
    words: *mut u8,
    /// How many shared mappings there were before the program started.
    shared: usize,
}

impl Late {
    /// Reads the template. To be called before the program starts, where no other thread runs.
    /// Exits where there is no template.
    #[must_use]
    pub fn begin() -> Self {
        let begin = || {
            let mut server = Server::start(sys::Handlers::Keep)?;
            let job = server.next_job()?;
            server.keep_texts()?;
            server.move_descriptors()?;
            let Run { argc, argv, .. } = job.run;
            let count = usize::try_from(argc).ok()?;
            let words = map(words_len(count)?, libc::MAP_PRIVATE)?;
            // SAFETY: a mapping of this length; `argv` has `count` pointers, which are ours.
            // The calls take integers and a path ended by zero.
            let ready = unsafe {
                let closed = libc::mprotect(words.cast(), words_len(count)?, libc::PROT_NONE) == 0;
                for number in 1..count {
                    *argv.add(number) = words.add((number - 1) * LATE_WORD).cast();
                }
                closed
                    && libc::chdir(job.cwd) == 0
                    && libc::dup2(server.fd(fd::OUTPUT), 1) == 1
                    && libc::dup2(server.fd(fd::ERROR), 2) == 2
            };
            ready.then_some(())?;
            Some(Self {
                server,
                run: job.run,
                cwd: job.cwd,
                words,
                shared: writable_shared_mappings()?,
            })
        };
        begin().unwrap_or_else(|| sys::exit_now(DECLINED))
    }

    /// The arguments and the environment that the program is to be started with.
    #[must_use]
    pub fn run(&self) -> Run {
        self.run
    }

    /// Serves, as [`crate::server::serve_by_fork`] does. To be called in the program's first
    /// call of getopt(3), with the arguments of that. Returns only in a forked child, where
    /// the arguments are those of the run. Exits where the state of the program does not allow
    /// forks here.
    pub fn serve(&mut self, argc: c_int, argv: *const *mut c_char) {
        let same = argc == self.run.argc && ptr::eq(argv, self.run.argv.cast_const());
        let inherited = self.inherited().filter(|_| same && self.server.ready());
        let Some(inherited) = inherited else {
            sys::exit_now(DECLINED)
        };
        let (words, argc) = (self.words, self.run.argc);
        self.server.serve(|job, failure| {
            let ready = write_words(words, argc, job) && inherited.renew();
            if !ready {
                failure.note(Step::Prepare);
            }
            ready
        });
    }

    /// The descriptors that the program has opened; `None` where the children cannot have
    /// what the program has done so far.
    fn inherited(&self) -> Option<Inherited> {
        // SAFETY: calls without arguments; `stdout` is the C library's stream.
        let (main_thread, pending) =
            unsafe { (libc::gettid() == libc::getpid(), __fpending(stdout)) };
        let silent = pending == 0
            && [(1, fd::OUTPUT), (2, fd::ERROR)]
                .into_iter()
                .all(|(own, server)| is_same_and_empty(own, self.server.fd(server)));
        let same = main_thread
            && silent
            && is_current(self.cwd)
            && !has_timers()
            && reap(libc::WNOHANG)
            && writable_shared_mappings()? == self.shared
            && starts_its_threads_again();
        same.then(|| Inherited::find(self.server.fd(fd::CONTROL)))?
    }
}

/// Bytes of the arguments but for the first of `count`.
fn words_len(count: usize) -> Option<usize> {
    Some(count.checked_sub(1)?.max(1) * LATE_WORD)
}

/// Writes the arguments of a run to where the program looks for them; `false` where it has
/// another number of them, or one is too long.
fn write_words(words: *mut u8, argc: c_int, job: &Job) -> bool {
    let (true, Ok(count)) = (job.run.argc == argc, usize::try_from(argc)) else {
        return false;
    };
    let Some(len) = words_len(count) else {
        return false;
    };
    // SAFETY: the mapping has this length, with room for each of the arguments, whose length
    // is looked at; they are strings ended by zero.
    unsafe {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        if libc::mprotect(words.cast(), len, rights) != 0 {
            return false;
        }
        for number in 1..count {
            let word = CStr::from_ptr(*job.run.argv.add(number)).to_bytes_with_nul();
            if word.len() > LATE_WORD {
                return false;
            }
            let place = words.add((number - 1) * LATE_WORD);
            ptr::copy_nonoverlapping(word.as_ptr(), place, word.len());
        }
    }
    true
}

/// Whether two descriptors are of the same file, which is empty.
fn is_same_and_empty(fd: c_int, other: c_int) -> bool {
    // SAFETY: all-zero structures are valid, and the calls write to them.
    unsafe {
        let (mut one, mut two): (libc::stat, libc::stat) = (std::mem::zeroed(), std::mem::zeroed());
        let known = libc::fstat(fd, &raw mut one) == 0 && libc::fstat(other, &raw mut two) == 0;
        known && is_same_file(&one, &two) && one.st_size == 0
    }
}

/// Whether a folder is the current one.
fn is_current(folder: *const c_char) -> bool {
    // SAFETY: as above; both are paths ended by zero.
    unsafe {
        let (mut one, mut two): (libc::stat, libc::stat) = (std::mem::zeroed(), std::mem::zeroed());
        let known =
            libc::stat(folder, &raw mut one) == 0 && libc::stat(c".".as_ptr(), &raw mut two) == 0;
        known && is_same_file(&one, &two)
    }
}

fn is_same_file(one: &libc::stat, two: &libc::stat) -> bool {
    (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)
}

/// Whether a timer is set or was created.
fn has_timers() -> bool {
    let intervals = [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF];
    let set = intervals.into_iter().any(|which| {
        // SAFETY: an all-zero structure is valid, and the call writes to it.
        unsafe {
            let mut timer: libc::itimerval = std::mem::zeroed();
            let known = libc::getitimer(which, &raw mut timer) == 0;
            !known || timer.it_value.tv_sec != 0 || timer.it_value.tv_usec != 0
        }
    });
    // Some kernels do not list the others.
    let mut text = [0; 1];
    set || sys::read_file("/proc/self/timers", &mut text).is_some_and(|text| !text.is_empty())
}

/// Whether a forked child has as many threads as this process has: the program starts those
/// again that a fork does not copy.
fn starts_its_threads_again() -> bool {
    let Some(here) = threads() else {
        return false;
    };
    // SAFETY: the child only counts and exits, and the parent waits for it.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        sys::exit_now(threads().map_or(DECLINED, |there| c_int::from(there != here)));
    }
    let mut status = 1;
    // SAFETY: an all-zero `rusage` is a valid one.
    let mut usage = unsafe { std::mem::zeroed() };
    wait(pid, 0, &mut status, &mut usage) == pid && status == 0
}
