//! The controller's side of a run server: its start, its replies, its end.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use runserver::wire::{ENV, ENV_COVERAGE, ENV_LATE, Kind, Reply};

use super::blocks::Reached;
use super::launch::{self, Launch, Namespaces, Serve};
use super::program::{Program, ServerKind, guard_env};
use super::sandbox::{self, Network};
use super::watch;

/// What a server may take to be ready: it loads one program.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(20);

/// Where a fork server is stopped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start<'a> {
    /// Before `main`.
    Early,
    /// At the program's first call of getopt(3), with this request as the template.
    Late(&'a [u8]),
}

/// A running server.
pub(super) struct Server {
    pid: i32,
    control: UnixStream,
    sandbox: String,
    /// Whether access to files or the network is not restricted though it should be.
    has_gap: bool,
    /// The TCP canary in the server's network.
    tcp: Option<OwnedFd>,
    /// Whether it was ended and waited for.
    ended: bool,
    /// The blocks that its runs reach, where they are noted.
    reached: Option<Reached>,
}

impl Server {
    /// Starts a server with the strongest namespaces that are available.
    pub(super) fn start(
        program: &Program,
        kind: &ServerKind,
        files: [&File; 3],
        start: Start<'_>,
    ) -> io::Result<Self> {
        let mut last = io::ErrorKind::Unsupported.into();
        for namespaces in namespace_choices(program.sandboxed()) {
            let server = match Self::launch(program, kind, files, namespaces, start) {
                Ok(server) => server,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            match server.wait_until_ready(namespaces, start) {
                Ok(server) => return Ok(server),
                Err(Failure::Sandbox(error)) => last = error,
                // The namespaces are not the cause, and each attempt starts the program.
                Err(Failure::Program(error)) => return Err(error),
            }
        }
        Err(last)
    }

    fn launch(
        program: &Program,
        kind: &ServerKind,
        [input, output, error]: [&File; 3],
        namespaces: Namespaces,
        start: Start<'_>,
    ) -> io::Result<Self> {
        let ruleset = if program.sandboxed() {
            let network = if namespaces.network {
                Network::Kept
            } else {
                Network::NoTcp
            };
            sandbox::ruleset(&program.allowed_paths(kind), network).map_err(io::Error::other)?
        } else {
            None
        };
        let (ours, theirs) = UnixStream::pair()?;
        let path = CString::new(program.path().as_os_str().as_bytes())?;
        let env = server_env(program, kind, start)?;
        let null: OwnedFd = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")?
            .into();
        let serve = match kind {
            ServerKind::Fork { .. } => Serve::Fork {
                program: &path,
                env: &env,
            },
            ServerKind::Spawn => Serve::Exec { program: &path },
        };
        let tmp = program.tmp(kind);
        let reached = match kind {
            ServerKind::Fork { .. } => program.blocks().map(Reached::new).transpose()?,
            ServerKind::Spawn => None,
        };
        let pid = launch::launch(&Launch {
            serve,
            namespaces,
            tmp: tmp.as_deref(),
            ruleset: ruleset.as_ref(),
            control: &theirs,
            files: [input, output, error],
            null: &null,
            map: reached.as_ref().map(Reached::fd),
            text: reached.as_ref().and_then(Reached::text),
        })?;
        // With our copy closed, the end of the server shows as the end of the stream.
        drop(theirs);
        Ok(Self {
            pid,
            control: ours,
            sandbox: describe(program.sandboxed(), ruleset.is_some(), namespaces),
            has_gap: program.sandboxed() && !(ruleset.is_some() && namespaces.network),
            tcp: None,
            ended: false,
            reached,
        })
    }

    /// Waits until the server is ready.
    fn wait_until_ready(
        mut self,
        namespaces: Namespaces,
        start: Start<'_>,
    ) -> Result<Self, Failure> {
        let mut ready = || -> io::Result<()> {
            self.control.set_read_timeout(Some(STARTUP_TIMEOUT))?;
            if namespaces.network {
                self.tcp = Some(launch::receive_listener(&self.control)?);
            }
            if let Start::Late(template) = start {
                self.control.write_all(template)?;
            }
            self.reply(Kind::Ready).map(drop)
        };
        match ready() {
            Ok(()) => Ok(self),
            Err(error) => Err(match self.end() {
                Ok(WaitStatus::Exited(_, status)) if launch::is_sandbox_failure(status) => {
                    Failure::Sandbox(error)
                }
                _ => Failure::Program(error),
            }),
        }
    }

    /// Kills the server with all its descendants, and gives its status, which is its own where
    /// it was exiting already.
    fn end(&mut self) -> nix::Result<WaitStatus> {
        if self.ended {
            // The process id may be in use again.
            return Err(nix::Error::ECHILD);
        }
        self.ended = true;
        // Descendants first: without a process namespace they would outlive the server.
        let _ = watch::kill_below(self.pid);
        let pid = Pid::from_raw(self.pid);
        let _ = kill(pid, Signal::SIGKILL);
        loop {
            match waitpid(pid, None) {
                Ok(WaitStatus::Stopped(..)) | Err(nix::Error::EINTR) => {}
                ended => return ended,
            }
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn control_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Whether a part of the sandbox that was requested is not available.
    pub(super) fn has_gap(&self) -> bool {
        self.has_gap
    }

    pub(super) fn tcp(&self) -> Option<&OwnedFd> {
        self.tcp.as_ref()
    }

    pub(super) fn sandbox(&self) -> &str {
        &self.sandbox
    }

    /// Sends a request. With `trace` it notes every block that it reaches, not only those that
    /// no earlier run of this server did.
    pub(super) fn begin(&mut self, message: &[u8], trace: bool) -> io::Result<()> {
        if let Some(reached) = self.reached.as_mut().filter(|_| trace) {
            reached.begin_trace();
        }
        self.control.write_all(message)
    }

    /// Has no blocks noted any more.
    pub(super) fn forget_blocks(&mut self) {
        self.reached = None;
    }

    /// The blocks that its runs reach, where they are noted.
    pub(super) fn reached(&mut self) -> Option<&mut Reached> {
        self.reached.as_mut()
    }

    /// Reads the next reply, which must be of this kind.
    pub(super) fn reply(&mut self, kind: Kind) -> io::Result<Reply> {
        let mut bytes = [0; Reply::LEN];
        self.control.read_exact(&mut bytes)?;
        Reply::decode(&bytes)
            .filter(|reply| reply.kind == kind)
            .ok_or_else(|| io::Error::other("malformed reply from the run server"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its status no longer matters.
        let _ = self.end();
    }
}

/// Why a server did not start.
enum Failure {
    /// It could not enter its sandbox.
    Sandbox(io::Error),
    /// The program did not become a server.
    Program(io::Error),
}

/// Namespaces to try, strongest first. Without a user namespace they need root; inside a
/// container `/proc` often cannot be mounted.
fn namespace_choices(sandboxed: bool) -> Vec<Namespaces> {
    let none = Namespaces {
        network: false,
        processes: false,
        user: false,
    };
    let network = Namespaces {
        network: true,
        ..none
    };
    let both = Namespaces {
        processes: true,
        ..network
    };
    let user = |namespaces| Namespaces {
        user: true,
        ..namespaces
    };
    let mut choices = Vec::new();
    if sandboxed {
        for choice in [both, network] {
            if nix::unistd::geteuid().is_root() {
                choices.push(choice);
            }
            choices.push(user(choice));
        }
    }
    choices.push(none);
    choices
}

/// The environment of a fork server: the program's, with the library, and with all symbols
/// bound at start, so that no run has to look them up.
fn server_env(program: &Program, kind: &ServerKind, start: Start<'_>) -> io::Result<Vec<CString>> {
    let ServerKind::Fork { library, guarded } = kind else {
        return Ok(Vec::new());
    };
    let mut env = program.base_env().to_vec();
    let mut preload = library.clone().into_os_string();
    if let Some(guard) = program.guard().filter(|_| *guarded) {
        env.extend(guard_env(guard).into_iter().skip(1));
        // Any mode makes it prepare its pages; each run has its own.
        env.push(("IMAGE_FUZZER_GUARD".into(), "ends".into()));
        preload.push(":");
        preload.push(guard);
    }
    env.push(("LD_PRELOAD".into(), preload));
    env.push(("LD_BIND_NOW".into(), "1".into()));
    let mode = match start {
        Start::Early => "1",
        Start::Late(_) => ENV_LATE,
    };
    env.push((ENV.into(), mode.into()));
    if program.blocks().is_some() {
        env.push((ENV_COVERAGE.into(), "1".into()));
    }
    let join = |(name, value): (OsString, OsString)| {
        let mut line = name.into_vec();
        line.push(b'=');
        line.extend(value.into_vec());
        CString::new(line).map_err(io::Error::from)
    };
    env.into_iter().map(join).collect()
}

fn describe(sandboxed: bool, landlock: bool, namespaces: Namespaces) -> String {
    if !sandboxed {
        return "off".into();
    }
    let version = sandbox::landlock_version();
    let files = if landlock {
        format!("files by Landlock {version}")
    } else {
        "files not restricted (no Landlock)".into()
    };
    let network = if namespaces.network {
        "own network"
    } else if landlock && version >= 4 {
        "no TCP (no namespaces)"
    } else {
        "network not restricted (no namespaces)"
    };
    let processes = if namespaces.processes {
        ", own processes"
    } else {
        ""
    };
    format!("{files}, {network}{processes}")
}
