//! The controller's side of a run server: its start, its answers, its end.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use runserver::wire::{ENV, Kind, Reply};

use super::launch::{self, Launch, Namespaces, Serve};
use super::program::{Program, ServerKind};
use super::sandbox::{self, Network};
use super::watch;

/// ServerKind long a server may take to come up: it loads one program.
const UP_WITHIN: Duration = Duration::from_secs(20);

/// A server that is up.
pub(super) struct Server {
    pid: i32,
    control: UnixStream,
    sandbox: String,
    /// Whether files or the network are not bounded though they should be.
    open: bool,
    /// The TCP canary in the server's network.
    tcp: Option<OwnedFd>,
    /// Whether it was ended and waited for.
    ended: bool,
}

impl Server {
    /// Starts a server with the strongest name spaces that can be had.
    pub(super) fn start(
        program: &Program,
        kind: &ServerKind,
        files: [&File; 3],
    ) -> io::Result<Self> {
        let mut last = io::ErrorKind::Unsupported.into();
        for namespaces in choices(program.sandboxed()) {
            let server = match Self::launch(program, kind, files, namespaces) {
                Ok(server) => server,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            match server.come_up(namespaces) {
                Ok(server) => return Ok(server),
                Err(Failure::Sandbox(error)) => last = error,
                // Name spaces are not to blame, and each try starts the program.
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
    ) -> io::Result<Self> {
        let ruleset = if program.sandboxed() {
            let network = if namespaces.network {
                Network::Kept
            } else {
                Network::NoTcp
            };
            sandbox::ruleset(&program.reach(kind), network).map_err(io::Error::other)?
        } else {
            None
        };
        let (ours, theirs) = UnixStream::pair()?;
        let path = CString::new(program.path().as_os_str().as_bytes())?;
        let env = server_env(program, kind)?;
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
        let pid = launch::launch(&Launch {
            serve,
            namespaces,
            tmp: tmp.as_deref(),
            ruleset: ruleset.as_ref(),
            control: &theirs,
            files: [input, output, error],
            null: &null,
        })?;
        // With our copy closed, the end of the server shows as the end of the stream.
        drop(theirs);
        Ok(Self {
            pid,
            control: ours,
            sandbox: describe(program.sandboxed(), ruleset.is_some(), namespaces),
            open: program.sandboxed() && !(ruleset.is_some() && namespaces.network),
            tcp: None,
            ended: false,
        })
    }

    /// Waits until the server is up.
    fn come_up(mut self, namespaces: Namespaces) -> Result<Self, Failure> {
        let mut up = || -> io::Result<()> {
            self.control.set_read_timeout(Some(UP_WITHIN))?;
            if namespaces.network {
                self.tcp = Some(launch::receive_listener(&self.control)?);
            }
            self.reply(Kind::Ready).map(drop)
        };
        match up() {
            Ok(()) => Ok(self),
            Err(error) => Err(match self.end() {
                Ok(WaitStatus::Exited(_, status)) if launch::is_of_sandbox(status) => {
                    Failure::Sandbox(error)
                }
                _ => Failure::Program(error),
            }),
        }
    }

    /// Ends the server with all below it, and says how it ended. One that was about to end
    /// by itself still says so.
    fn end(&mut self) -> nix::Result<WaitStatus> {
        if self.ended {
            // Its number may be another's by now.
            return Err(nix::Error::ECHILD);
        }
        self.ended = true;
        // What is below it first: without a name space of their own they would live on.
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

    pub(super) fn control(&mut self) -> &mut UnixStream {
        &mut self.control
    }

    pub(super) fn control_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Whether a part of the sandbox that was asked for could not be had.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn tcp(&self) -> Option<&OwnedFd> {
        self.tcp.as_ref()
    }

    pub(super) fn sandbox(&self) -> &str {
        &self.sandbox
    }

    /// Reads the next answer, which must be of this kind.
    pub(super) fn reply(&mut self, kind: Kind) -> io::Result<Reply> {
        let mut bytes = [0; Reply::LEN];
        self.control.read_exact(&mut bytes)?;
        Reply::decode(&bytes)
            .filter(|reply| reply.kind == kind)
            .ok_or_else(|| io::Error::other("the run server talks nonsense"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // ServerKind it ended tells nothing any more.
        let _ = self.end();
    }
}

/// Why a server did not come up.
enum Failure {
    /// It could not enter its sandbox.
    Sandbox(io::Error),
    /// The program does not become a server.
    Program(io::Error),
}

/// Name spaces to try, best first. Without a user name space they are root's alone; inside a
/// container there is often no mounting a `/proc`.
fn choices(sandboxed: bool) -> Vec<Namespaces> {
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

/// The environment a fork server starts in: the program's, with the library and, so that
/// no run has to look up symbols that another has looked up, with all of them bound at once.
fn server_env(program: &Program, kind: &ServerKind) -> io::Result<Vec<CString>> {
    let ServerKind::Fork { library } = kind else {
        return Ok(Vec::new());
    };
    let mut env = program.base_env().to_vec();
    env.push(("LD_PRELOAD".into(), library.clone().into()));
    env.push(("LD_BIND_NOW".into(), "1".into()));
    env.push((ENV.into(), "1".into()));
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
        format!("files by landlock {version}")
    } else {
        "files not bounded (no landlock here)".into()
    };
    let network = if namespaces.network {
        "own network"
    } else if landlock && version >= 4 {
        "no TCP (no name spaces here)"
    } else {
        "network not bounded (no name spaces here)"
    };
    let processes = if namespaces.processes {
        ", own processes"
    } else {
        ""
    };
    format!("{files}, {network}{processes}")
}
