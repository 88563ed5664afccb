//! The server's loop, and what a run does before the program starts.
#![allow(unsafe_code)] // fork, clone and memory shared with the child; each block says why it is sound.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use coverage::trap;

use crate::crash;
use crate::sys;
use crate::wire::{ENV_COVERAGE, Head, Kind, MAX_STRINGS, MAX_TEXT, Reply, Step, fd};

/// The arguments and environment of the run this process has become.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// How many arguments there are.
    pub argc: c_int,
    /// The arguments, ended by a null pointer. They live as long as the process.
    pub argv: *mut *mut c_char,
    /// The environment, ended by a null pointer. It lives as long as the process.
    pub envp: *mut *mut c_char,
}

/// Serves until the controller closes the socket, and then exits. Returns only in a forked
/// child, as the run that was requested.
///
/// To be called where no other thread runs.
#[must_use]
pub fn serve_by_fork() -> Run {
    // Signal handlers that the program's libraries have set belong to the program.
    match Server::start(sys::Handlers::Keep) {
        Some(mut server) if server.ready() => server.serve(|_, _| true),
        _ => sys::exit_now(125),
    }
}

/// Serves until the controller closes the socket, and then exits. Each run executes the file
/// `program`.
pub fn serve_by_exec(program: &CStr) -> ! {
    let mut server = match Server::start(sys::Handlers::Reset) {
        Some(server) if server.ready() => server,
        _ => sys::exit_now(125),
    };
    loop {
        let Some(job) = server.next_job() else {
            sys::exit_now(0)
        };
        let mut exec = Exec {
            job: &job,
            program,
            failure: server.failure,
            fds: server.fds,
        };
        let began = sys::now_ns();
        // SAFETY: the child shares our memory and we sleep until it has executed the program
        // or ended, so `exec` outlives its use. It runs on a stack of its own, and
        // `start_exec` only makes system calls.
        let pid = unsafe {
            libc::clone(
                start_exec,
                server.stack_top,
                libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
                (&raw mut exec).cast(),
            )
        };
        server.finish(pid, began);
    }
}

/// What the child of a clone needs.
struct Exec<'a> {
    job: &'a Job,
    program: &'a CStr,
    failure: &'a Failure,
    fds: Descriptors,
}

/// The child of [`serve_by_exec`]: becomes the program.
extern "C" fn start_exec(exec: *mut c_void) -> c_int {
    // SAFETY: `serve_by_exec` passes a pointer to a live `Exec` and sleeps meanwhile.
    let exec = unsafe { &*exec.cast::<Exec<'_>>() };
    if prepare(exec.job, exec.failure, exec.fds) {
        let Run { argv, envp, .. } = exec.job.run;
        // SAFETY: a NUL-terminated path and two null-terminated vectors of such strings.
        unsafe {
            libc::execve(
                exec.program.as_ptr(),
                argv.cast_const().cast(),
                envp.cast_const().cast(),
            )
        };
        exec.failure.note(Step::Exec);
    }
    sys::exit_now(127)
}

/// Where a child notes why it could not start, or where it crashed, in memory that it shares
/// with the server.
pub(crate) struct Failure {
    step: AtomicU32,
    errno: AtomicI32,
    crash: AtomicU64,
}

impl Failure {
    pub(crate) fn note(&self, step: Step) {
        self.errno.store(sys::errno(), Ordering::Relaxed);
        self.step.store(step as u32, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.step.store(Step::None as u32, Ordering::Relaxed);
        self.errno.store(0, Ordering::Relaxed);
        self.crash.store(0, Ordering::Relaxed);
    }
}

/// A parsed request.
pub(crate) struct Job {
    head: Head,
    pub(crate) cwd: *const c_char,
    pub(crate) run: Run,
}

/// Where the descriptors of [`fd`] are.
#[derive(Debug, Clone, Copy)]
struct Descriptors {
    /// The number of the first.
    first: c_int,
}

impl Descriptors {
    /// The number of one.
    fn get(self, fd: c_int) -> c_int {
        self.first + (fd - fd::CONTROL)
    }

    /// Whether they are where they are when a server starts, with all others after them.
    fn are_first(self) -> bool {
        self.first == fd::CONTROL
    }
}

/// Memory that is mapped once and used for every run.
pub(crate) struct Server {
    fds: Descriptors,
    failure: &'static Failure,
    text: &'static mut [u8],
    /// The pointers to arguments and variables, with a null pointer after each list.
    pointers: &'static mut [*mut c_char],
    stack_top: *mut c_void,
}

/// Bytes of the stack on which a child executes the program.
const STACK: usize = 128 << 10;

impl Server {
    /// Maps memory, and has the places of crashes noted where the program's handlers are kept.
    pub(crate) fn start(handlers: sys::Handlers) -> Option<Self> {
        sys::become_server(handlers);
        let shared = map(size_of::<Failure>(), libc::MAP_SHARED)?;
        let stack = map(STACK, libc::MAP_PRIVATE)?;
        // SAFETY: each mapping is fresh, zeroed (which is valid for the type), of the size
        // used here, aligned to a page, never unmapped, and referred to once.
        let mut server = unsafe {
            Self {
                fds: Descriptors { first: fd::CONTROL },
                failure: &*shared.cast::<Failure>(),
                text: &mut [],
                pointers: &mut [],
                stack_top: stack.add(STACK).cast(),
            }
        };
        server.keep_texts()?;
        if handlers == sys::Handlers::Keep {
            crash::watch(&server.failure.crash);
            note_blocks();
        }
        Some(server)
    }

    /// Leaves the texts of the last request as they are, for ever, and has others for the
    /// requests that follow.
    pub(crate) fn keep_texts(&mut self) -> Option<()> {
        let text = map(MAX_TEXT, libc::MAP_PRIVATE)?;
        let count = MAX_STRINGS + 2;
        let pointers = map(count * size_of::<*mut c_char>(), libc::MAP_PRIVATE)?;
        // SAFETY: as in `start`.
        unsafe {
            self.text = std::slice::from_raw_parts_mut(text, MAX_TEXT);
            self.pointers = std::slice::from_raw_parts_mut(pointers.cast(), count);
        }
        Some(())
    }

    /// Moves the descriptors to the highest numbers that are available, so that files which
    /// the program opens have the numbers that they have without a server.
    pub(crate) fn move_descriptors(&mut self) -> Option<()> {
        const HIGHEST: u64 = 1024;
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: a live structure that the call writes to; calls that take integers.
        unsafe {
            if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
                return None;
            }
            let end = c_int::try_from(limit.rlim_cur.min(HIGHEST)).ok()?;
            let first = end
                .checked_sub(fd::COUNT)
                .filter(|&n| n >= fd::FIRST_FREE)?;
            for (from, to) in (fd::CONTROL..fd::FIRST_FREE).zip(first..) {
                if libc::dup2(from, to) != to {
                    return None;
                }
            }
            self.fds = Descriptors { first };
            close_range(fd::CONTROL, fd::FIRST_FREE - 1).then_some(())
        }
    }

    /// Tells the controller that the server is ready; `false` where that has ended.
    pub(crate) fn ready(&self) -> bool {
        sys::send_all(self.fd(fd::CONTROL), &Reply::of(Kind::Ready).encode())
    }

    /// The number of a descriptor of [`fd`].
    pub(crate) fn fd(&self, fd: c_int) -> c_int {
        self.fds.get(fd)
    }

    /// Serves by forks until the controller closes the socket, and then exits. Returns only in
    /// a child, as the run that was requested, once `set_up` has given `true` there.
    ///
    /// The caller has the only thread, or those that it started start again in a child.
    pub(crate) fn serve(&mut self, set_up: impl Fn(&Job, &Failure) -> bool) -> Run {
        loop {
            let Some(job) = self.next_job() else {
                sys::exit_now(0)
            };
            trap::forget_reached();
            let began = sys::now_ns();
            // SAFETY: the caller promises that no other thread holds what the child needs, so
            // the child may do what its parent could.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                if job.head.trace {
                    trap::arm_again();
                }
                if set_up(&job, self.failure) && prepare(&job, self.failure, self.fds) {
                    return job.run;
                }
                sys::exit_now(127);
            }
            self.finish(pid, began);
        }
    }

    /// Waits for a request; `None` when the socket is closed or the request is malformed.
    pub(crate) fn next_job(&mut self) -> Option<Job> {
        let control = self.fd(fd::CONTROL);
        let mut head = [0; Head::LEN];
        if !sys::read_all(control, &mut head) {
            return None;
        }
        let head = Head::decode(&head)?;
        let text = self.text.get_mut(..head.len as usize)?;
        if !sys::read_all(control, text) {
            return None;
        }
        self.failure.clear();
        let (argc, envc) = (head.argc as usize, head.envc as usize);
        let mut strings = Strings { text };
        let cwd = strings.next()?;
        let (argv, envp) = self.pointers.split_at_mut_checked(argc + 1)?;
        strings.fill(argv, argc)?;
        strings.fill(envp, envc)?;
        Some(Job {
            head,
            cwd,
            run: Run {
                argc: c_int::try_from(argc).ok()?,
                argv: argv.as_mut_ptr(),
                envp: envp.as_mut_ptr(),
            },
        })
    }

    /// Waits for the end of a run that began as process `pid`, and replies. `pid` is negative
    /// where no process could be created.
    fn finish(&mut self, pid: libc::pid_t, began: u64) {
        let mut reply = Reply::of(Kind::Ended);
        if pid < 0 {
            reply.failed = Step::Fork;
            reply.errno = sys::errno();
            self.send(&reply);
            return;
        }
        // SAFETY: an all-zero `rusage` is a valid one.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        wait(pid, 0, &mut reply.status, &mut usage);
        reply.wall_ns = sys::now_ns().saturating_sub(began);
        reply.cpu_us = micros(usage.ru_utime).saturating_add(micros(usage.ru_stime));
        reply.max_rss_kib = u64::try_from(usage.ru_maxrss).unwrap_or(0);
        reply.failed = Step::from_number(self.failure.step.load(Ordering::Relaxed));
        reply.errno = self.failure.errno.load(Ordering::Relaxed);
        if libc::WIFSIGNALED(reply.status) {
            reply.crash = self.failure.crash.load(Ordering::Relaxed);
        }
        reply.left = !reap(libc::WNOHANG);
        self.send(&reply);
        if reply.left {
            reap(0);
            self.send(&Reply::of(Kind::Swept));
        }
    }

    /// Sends a reply; exits where the socket is closed.
    fn send(&self, reply: &Reply) {
        if !sys::send_all(self.fd(fd::CONTROL), &reply.encode()) {
            sys::exit_now(0);
        }
    }
}

/// Begins to note the blocks that are reached, where that is asked for. The descriptor of the
/// map is closed: the program must not find it.
fn note_blocks() {
    // SAFETY: a name ended by zero; the descriptors are those that the controller has opened,
    // and are closed here alone.
    unsafe {
        if libc::getenv(COVERAGE.as_ptr()).is_null() {
            return;
        }
        let map = OwnedFd::from_raw_fd(fd::COVERAGE);
        let has_text = libc::fcntl(fd::TEXT, libc::F_GETFD) >= 0;
        // What hinders it is in the map.
        let _ = match has_text.then(|| OwnedFd::from_raw_fd(fd::TEXT)) {
            Some(text) => trap::arm_shared(map.as_fd(), text.as_fd()),
            None => trap::arm(map.as_fd()),
        };
    }
}

/// The variable's name as a C string.
const COVERAGE: &CStr = c"IMAGE_FUZZER_COVERAGE";
const _: () = assert!(COVERAGE.count_bytes() == ENV_COVERAGE.len());

/// Splits the text of a request into strings.
struct Strings<'a> {
    text: &'a mut [u8],
}

impl Strings<'_> {
    fn next(&mut self) -> Option<*mut c_char> {
        let end = self.text.iter().position(|&byte| byte == 0)?;
        let (string, rest) = std::mem::take(&mut self.text).split_at_mut_checked(end + 1)?;
        self.text = rest;
        Some(string.as_mut_ptr().cast())
    }

    /// Writes pointers to `count` strings and a null pointer into `place`.
    fn fill(&mut self, place: &mut [*mut c_char], count: usize) -> Option<()> {
        for slot in place.get_mut(..count)? {
            *slot = self.next()?;
        }
        *place.get_mut(count)? = ptr::null_mut();
        Some(())
    }
}

/// Prepares this process, a child of the server, to become the program: its session, its
/// directory, its three descriptors and none of the server's, its limits. On failure notes why
/// and gives `false`.
fn prepare(job: &Job, failure: &Failure, fds: Descriptors) -> bool {
    let input = if job.head.input { fd::INPUT } else { fd::NULL };
    // Those of the program are kept, where it has opened any.
    let last = if fds.are_first() {
        c_int::MAX
    } else {
        fds.get(fd::NULL)
    };
    // SAFETY: calls that take integers or a NUL-terminated path.
    let (entered, ready) = unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let entered = libc::chdir(job.cwd) == 0;
        if !entered {
            failure.note(Step::Chdir);
        }
        let ready = libc::dup2(fds.get(input), 0) == 0
            && libc::dup2(fds.get(fd::OUTPUT), 1) == 1
            && libc::dup2(fds.get(fd::ERROR), 2) == 2
            && close_range(fds.first, last);
        (entered, ready)
    };
    // The hard limit on CPU time is a second later: at the soft one the program gets
    // SIGXCPU, which tells this end from others.
    let limited = limit_cpu(job.head.cpu_seconds)
        && sys::limit(libc::RLIMIT_FSIZE, job.head.file_size)
        && sys::limit(libc::RLIMIT_AS, job.head.address_space)
        && sys::lower(libc::RLIMIT_NOFILE, job.head.open_files);
    if entered && !(ready && limited) {
        failure.note(Step::Prepare);
    }
    entered && ready && limited
}

/// Closes the descriptors from `first` to `last`; `false` on an error.
fn close_range(first: c_int, last: c_int) -> bool {
    // SAFETY: the call takes integers.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
}

fn limit_cpu(seconds: u32) -> bool {
    let limit = libc::rlimit {
        rlim_cur: u64::from(seconds),
        rlim_max: u64::from(seconds) + 1,
    };
    // SAFETY: `limit` is a live structure the call reads.
    unsafe { libc::setrlimit(libc::RLIMIT_CPU, &raw const limit) == 0 }
}

/// Reaps children until there are none (with `WNOHANG`: until none has ended); whether there
/// are none.
pub(crate) fn reap(flags: c_int) -> bool {
    let mut status = 0;
    // SAFETY: an all-zero `rusage` is a valid one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        match wait(-1, flags, &mut status, &mut usage) {
            0 => return false,
            -1 => return true,
            _ => {}
        }
    }
}

/// wait4(2), again where a signal interrupted it.
pub(crate) fn wait(
    pid: libc::pid_t,
    flags: c_int,
    status: &mut c_int,
    usage: &mut libc::rusage,
) -> c_int {
    loop {
        // SAFETY: both pointers are to live places the call writes to.
        let found = unsafe { libc::wait4(pid, status, flags, usage) };
        if found != -1 || sys::errno() != libc::EINTR {
            return found;
        }
    }
}

fn micros(time: libc::timeval) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(time.tv_usec).unwrap_or(0)
}

/// Maps zeroed memory.
pub(crate) fn map(len: usize, flags: c_int) -> Option<*mut u8> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice changes no memory of
    // ours.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            flags | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    (at != libc::MAP_FAILED).then(|| at.cast())
}
