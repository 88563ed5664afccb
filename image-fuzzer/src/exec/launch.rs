//! Starts a run server: a child that enters its sandbox and then either executes the program,
//! with the fork server preloaded, or serves runs itself.
#![allow(unsafe_code)] // The child of a process with threads, before an exec; each block says why it is sound.

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use runserver::wire::fd;
use runserver::{server, sys};

/// The port of the TCP canary: the one NBD has by default, so that an address without a
/// port leads there too. In a network namespace it is always free.
pub(super) const CANARY_PORT: u16 = 10809;

/// How the server starts runs.
pub(super) enum Serve<'a> {
    /// By forks of the program itself, which has the fork server preloaded by `env`.
    Fork {
        /// The file of the program.
        program: &'a CStr,
        /// The environment of the server, `NAME=VALUE`.
        env: &'a [CString],
    },
    /// By executing the program.
    Exec {
        /// The file of the program.
        program: &'a CStr,
    },
}

/// Which namespaces the server gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Namespaces {
    /// A network namespace with nothing but the canary in it.
    pub(super) network: bool,
    /// A process namespace, whose processes end with the server, and a `/proc` that shows it.
    pub(super) processes: bool,
    /// A user namespace around these, without which they need root.
    pub(super) user: bool,
}

impl Namespaces {
    fn flags(self) -> c_int {
        let flag = |on, flags| if on { flags } else { 0 };
        flag(self.network, libc::CLONE_NEWNET | libc::CLONE_NEWIPC)
            | flag(self.processes, libc::CLONE_NEWPID | libc::CLONE_NEWNS)
            | flag(self.user, libc::CLONE_NEWUSER)
    }
}

/// What a server is started with.
pub(super) struct Launch<'a> {
    pub(super) serve: Serve<'a>,
    pub(super) namespaces: Namespaces,
    /// The folder that is mounted at `/tmp`, where the server has a mount namespace.
    pub(super) tmp: Option<&'a CStr>,
    /// A Landlock ruleset to enforce.
    pub(super) ruleset: Option<&'a OwnedFd>,
    /// The server's end of the control socket.
    pub(super) control: &'a UnixStream,
    /// Standard input, output and error.
    pub(super) files: [&'a File; 3],
    pub(super) null: &'a OwnedFd,
    /// The map of blocks, for a fork server that notes them.
    pub(super) map: Option<BorrowedFd<'a>>,
    /// The code that it shares with others, where it notes blocks.
    pub(super) text: Option<BorrowedFd<'a>>,
}

/// The version of Landlock that the kernel has; 0 where it has none, or it is off.
pub fn landlock_version() -> i32 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call reads no memory and only gives a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<libc::c_void>(),
            0_usize,
            VERSION,
        )
    };
    i32::try_from(version.max(0)).unwrap_or(0)
}

/// Starts the server and gives its process id. Whether it is ready shows in its reply on
/// the control socket: first, where it has a network namespace, one byte with the
/// listening socket of the canary ([`receive_listener`]), then [`runserver::wire::Kind::Ready`].
///
/// The server is killed when the calling thread ends.
///
/// # Errors
///
/// No process can be created, or not with these namespaces.
pub(super) fn launch(launch: &Launch<'_>) -> io::Result<i32> {
    let child = Child::new(launch);
    // SAFETY: getuid and getgid cannot fail. The clone takes no stack and so is a fork; the
    // child calls `Child::start`, which only makes system calls, since other threads of
    // this process may have held any lock.
    unsafe {
        let flags = launch.namespaces.flags() | libc::SIGCHLD;
        let pid = libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0);
        match pid {
            0 => child.start(),
            -1 => Err(io::Error::last_os_error()),
            pid => i32::try_from(pid).map_err(io::Error::other),
        }
    }
}

/// How a program that is executed once is contained.
pub(super) struct Contained {
    /// A Landlock ruleset to enforce.
    pub(super) ruleset: Option<OwnedFd>,
    /// Descriptors that the program inherits under their numbers. They stay open until it is
    /// started.
    pub(super) inherited: Vec<RawFd>,
    /// The length of any one file that it writes, in bytes.
    pub(super) file_size: u64,
}

/// Has the program that `command` starts end with the calling thread, in a session of its own
/// and in a sandbox.
pub(super) fn contain(command: &mut std::process::Command, contained: Contained) {
    use std::os::unix::process::CommandExt as _;
    let start = move || {
        let limit = libc::rlimit {
            rlim_cur: contained.file_size,
            rlim_max: contained.file_size,
        };
        // SAFETY: calls that take integers, and one a live structure.
        let kept = unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::setsid();
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
            let mut fds = contained.inherited.iter();
            fds.all(|&fd| libc::fcntl(fd, libc::F_SETFD, 0) == 0)
        };
        let ruleset = contained.ruleset.as_ref();
        let entered = ruleset.is_none_or(|ruleset| restrict(ruleset.as_raw_fd()));
        match kept && entered {
            true => Ok(()),
            false => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure only makes system calls: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(start) };
}

/// Receives the listening socket that a server in a network namespace sends.
///
/// # Errors
///
/// The server has ended, or sent something else.
pub(super) fn receive_listener(control: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(control.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part
            && let [fd] = fds[..]
        {
            // SAFETY: the kernel just put this descriptor into our table for us alone.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// All that the child needs, prepared before it is created.
struct Child<'a> {
    launch: &'a Launch<'a>,
    uid_map: CString,
    gid_map: CString,
    argv: [*const c_char; 2],
    envp: Vec<*const c_char>,
    descriptors: [RawFd; 8],
}

/// Exit statuses of a child that did not become a server: numbers that programs do not use.
mod status {
    pub(super) const USER: i32 = 110;
    pub(super) const NETWORK: i32 = 111;
    pub(super) const PROC: i32 = 112;
    pub(super) const LANDLOCK: i32 = 113;
    pub(super) const DESCRIPTORS: i32 = 114;
    pub(super) const EXEC: i32 = 115;
}

/// Whether a server that exited with this status could not enter its sandbox.
pub(super) fn is_sandbox_failure(status: i32) -> bool {
    (status::USER..=status::LANDLOCK).contains(&status)
}

impl<'a> Child<'a> {
    fn new(launch: &'a Launch<'a>) -> Self {
        let map = |id: u32| CString::new(format!("{id} {id} 1\n")).unwrap_or_default();
        let (argv, envp) = match &launch.serve {
            Serve::Fork { program, env } => {
                let mut envp: Vec<_> = env.iter().map(|v| v.as_ptr()).collect();
                envp.push(ptr::null());
                ([program.as_ptr(), ptr::null()], envp)
            }
            Serve::Exec { .. } => ([ptr::null(); 2], vec![ptr::null()]),
        };
        Self {
            launch,
            uid_map: map(nix::unistd::getuid().as_raw()),
            gid_map: map(nix::unistd::getgid().as_raw()),
            argv,
            envp,
            descriptors: [
                launch.control.as_raw_fd(),
                launch.files[0].as_raw_fd(),
                launch.files[1].as_raw_fd(),
                launch.files[2].as_raw_fd(),
                launch.null.as_raw_fd(),
                launch.ruleset.map_or(-1, AsRawFd::as_raw_fd),
                launch.map.map_or(-1, |map| map.as_raw_fd()),
                launch.text.map_or(-1, |text| text.as_raw_fd()),
            ],
        }
    }

    /// Runs in the child. Allocates nothing and takes no lock.
    fn start(&self) -> ! {
        // In a session of its own it does not get the signals of the user's terminal.
        // SAFETY: the calls take integers.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::setsid();
        }
        let namespaces = self.launch.namespaces;
        if namespaces.user && !self.map_user() {
            sys::exit_now(status::USER);
        }
        let control = self.descriptors[0];
        if namespaces.network && !(loopback_up() && send_listener(control)) {
            sys::exit_now(status::NETWORK);
        }
        if namespaces.processes && !self.mount_proc() {
            sys::exit_now(status::PROC);
        }
        if !self.place_descriptors() {
            sys::exit_now(status::DESCRIPTORS);
        }
        if self.launch.ruleset.is_some() && !restrict(fd::FIRST_FREE) {
            sys::exit_now(status::LANDLOCK);
        }
        match self.launch.serve {
            Serve::Exec { program } => server::serve_by_exec(program),
            Serve::Fork { program, .. } => {
                // SAFETY: a path and two vectors of strings, each ended by zero or null.
                unsafe {
                    libc::execve(program.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr());
                }
                sys::exit_now(status::EXEC)
            }
        }
    }

    /// Keeps user and group in the new user namespace.
    fn map_user(&self) -> bool {
        write_file(c"/proc/self/setgroups", c"deny")
            && write_file(c"/proc/self/uid_map", &self.uid_map)
            && write_file(c"/proc/self/gid_map", &self.gid_map)
    }

    /// Mounts a `/proc` of the new process namespace, in a private mount namespace, and adds
    /// a rule for reading it: the one for the old `/proc` does not apply. Mounts a folder of
    /// the program's at `/tmp`, which some programs use whatever `TMPDIR` says; where that
    /// fails, they are denied `/tmp`.
    fn mount_proc(&self) -> bool {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        // SAFETY: strings ended by zero, and null where the call takes it.
        let mounted = unsafe {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            let (none, proc) = (ptr::null(), c"proc".as_ptr());
            libc::mount(none, c"/".as_ptr(), none, private, ptr::null()) == 0
                && libc::mount(proc, c"/proc".as_ptr(), proc, flags, ptr::null()) == 0
        };
        if let Some(tmp) = self.launch.tmp {
            // SAFETY: as above.
            unsafe {
                let (bind, none) = (libc::MS_BIND, ptr::null());
                libc::mount(tmp.as_ptr(), c"/tmp".as_ptr(), none, bind, ptr::null());
            }
        }
        let [.., ruleset, _, _] = self.descriptors;
        mounted && (ruleset < 0 || allow_reading(ruleset, c"/proc"))
    }

    /// Moves the descriptors to where the server expects them, the ruleset, the map of blocks and
    /// the shared code after them, and closes all others but the first three, which become `/dev/null`.
    fn place_descriptors(&self) -> bool {
        const SAFE: c_int = 64;
        let mut high = [-1; 8];
        // SAFETY: calls that take integers.
        unsafe {
            for (to, &from) in high.iter_mut().zip(&self.descriptors) {
                if from >= 0 {
                    *to = libc::fcntl(from, libc::F_DUPFD, SAFE);
                    if *to < 0 {
                        return false;
                    }
                }
            }
            for (to, &from) in (fd::CONTROL..).zip(&high) {
                if from >= 0 && libc::dup2(from, to) != to {
                    return false;
                }
            }
            for to in 0..3 {
                libc::dup2(fd::NULL, to);
            }
            let close = |first: c_int, last: c_uint| {
                libc::syscall(libc::SYS_close_range, first, last, 0) == 0
            };
            let ruleset = self.launch.ruleset.is_some() || close(fd::FIRST_FREE, RULESET);
            let map = self.launch.map.is_some() || close(fd::COVERAGE, MAP);
            let text = self.launch.text.is_some() || close(fd::TEXT, TEXT);
            ruleset && map && text && close(fd::TEXT + 1, c_uint::MAX)
        }
    }
}

/// Where the ruleset is until it is enforced.
const RULESET: c_uint = fd::FIRST_FREE.cast_unsigned();
/// Where the map of blocks is.
const MAP: c_uint = fd::COVERAGE.cast_unsigned();
/// Where the shared code is.
const TEXT: c_uint = fd::TEXT.cast_unsigned();
const _: () = assert!(MAP == RULESET + 1 && TEXT == MAP + 1);

/// Adds a rule to a Landlock ruleset: files below `path` may be read.
fn allow_reading(ruleset: RawFd, path: &CStr) -> bool {
    // The structure of landlock_add_rule(2) is packed: eight bytes of rights, then four of
    // the descriptor.
    const PATH_BENEATH: c_int = 1;
    const READ_FILE: u64 = 1 << 2;
    const READ_DIR: u64 = 1 << 3;
    // SAFETY: a path ended by zero; the rule is a live array of the size the kernel reads.
    unsafe {
        let folder = libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        if folder < 0 {
            return false;
        }
        let mut rule = [0_u8; 12];
        let (rights, parent) = rule.split_at_mut(8);
        rights.copy_from_slice(&(READ_FILE | READ_DIR).to_ne_bytes());
        parent.copy_from_slice(&folder.to_ne_bytes());
        let rule = rule.as_ptr();
        let added = libc::syscall(libc::SYS_landlock_add_rule, ruleset, PATH_BENEATH, rule, 0);
        libc::close(folder);
        added == 0
    }
}

/// Enforces a ruleset for this process and its descendants, and closes it.
fn restrict(ruleset: RawFd) -> bool {
    // SAFETY: calls that take integers.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) == 0
            && libc::close(ruleset) == 0
    }
}

fn write_file(path: &CStr, text: &CStr) -> bool {
    let bytes = text.to_bytes();
    // SAFETY: a path ended by zero, and a live slice with its length.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file < 0 {
            return false;
        }
        let wrote = libc::write(file, bytes.as_ptr().cast(), bytes.len());
        libc::close(file);
        usize::try_from(wrote).is_ok_and(|wrote| wrote == bytes.len())
    }
}

/// Brings the loopback interface of a new network namespace up.
fn loopback_up() -> bool {
    // SAFETY: an all-zero request is valid; the name `lo` keeps its ending zero; the kernel
    // writes only into `request`.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return false;
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed();
        request.ifr_name[1] = b'o'.cast_signed();
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        let up = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw mut request) == 0;
        libc::close(socket);
        up
    }
}

/// Opens the TCP canary and sends it to the controller.
fn send_listener(control: RawFd) -> bool {
    // SAFETY: all-zero structures are valid here, and the pointers are to live places with
    // their sizes. The control message holds exactly one descriptor, for which `space`
    // (64 bytes, aligned for its header) has room.
    unsafe {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let listener = libc::socket(libc::AF_INET, kind, 0);
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_port = CANARY_PORT.to_be();
        address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
        let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        if listener < 0
            || libc::bind(listener, (&raw const address).cast(), len) != 0
            || libc::listen(listener, 64) != 0
        {
            return false;
        }
        let mut byte = 0_u8;
        let mut part = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let mut space = [0_u64; 8];
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = space.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<c_int>() as u32) as _;
        let rights = libc::CMSG_FIRSTHDR(&raw const message);
        (*rights).cmsg_level = libc::SOL_SOCKET;
        (*rights).cmsg_type = libc::SCM_RIGHTS;
        (*rights).cmsg_len = libc::CMSG_LEN(size_of::<c_int>() as u32) as _;
        libc::CMSG_DATA(rights)
            .cast::<c_int>()
            .write_unaligned(listener);
        libc::sendmsg(control, &raw const message, libc::MSG_NOSIGNAL) == 1
    }
}
