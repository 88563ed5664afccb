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
use super::program::Program;
use super::served::How;
use super::watch;
use crate::sandbox::{self, Network};

/// How long a server may take to come up: it loads one program.
const UP_WITHIN: Duration = Duration::from_secs(20);

/// A server that is up.
pub(super) struct Server {
    pid: i32,
    control: UnixStream,
    sandbox: String,
    /// The TCP canary in the server's network.
    tcp: Option<OwnedFd>,
}

impl Server {
    /// Starts a server with the strongest name spaces that can be had.
    pub(super) fn start(program: &Program, how: &How, files: [&File; 3]) -> io::Result<Self> {
        let mut last = None;
        for namespaces in choices(program.sandboxed()) {
            match Self::start_in(program, how, files, namespaces) {
                Ok(server) => return Ok(server),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::Unsupported.into()))
    }

    fn start_in(
        program: &Program,
        how: &How,
        [input, output, error]: [&File; 3],
        namespaces: Namespaces,
    ) -> io::Result<Self> {
        let ruleset = if program.sandboxed() {
            let network = if namespaces.network {
                Network::Kept
            } else {
                Network::NoTcp
            };
            sandbox::ruleset(&program.reach(how), network).map_err(io::Error::other)?
        } else {
            None
        };
        let (ours, theirs) = UnixStream::pair()?;
        let path = CString::new(program.path().as_os_str().as_bytes())?;
        let env = server_env(program, how)?;
        let null: OwnedFd = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")?
            .into();
        let serve = match how {
            How::Fork { .. } => Serve::Fork {
                program: &path,
                env: &env,
            },
            How::Spawn => Serve::Exec { program: &path },
        };
        let pid = launch::launch(&Launch {
            serve,
            namespaces,
            ruleset: ruleset.as_ref(),
            control: &theirs,
            files: [input, output, error],
            null: &null,
        })?;
        // With our copy closed, the end of the server shows as the end of the stream.
        drop(theirs);
        let mut server = Self {
            pid,
            control: ours,
            sandbox: describe(program.sandboxed(), ruleset.is_some(), namespaces),
            tcp: None,
        };
        server.control.set_read_timeout(Some(UP_WITHIN))?;
        if namespaces.network {
            server.tcp = Some(launch::receive_listener(&server.control)?);
        }
        server.reply(Kind::Ready)?;
        Ok(server)
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
        // What is below it first: without a name space of their own they would live on.
        let _ = watch::kill_below(self.pid);
        let pid = Pid::from_raw(self.pid);
        let _ = kill(pid, Signal::SIGKILL);
        while matches!(
            waitpid(pid, None),
            Ok(WaitStatus::Stopped(..)) | Err(nix::Error::EINTR)
        ) {}
    }
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
fn server_env(program: &Program, how: &How) -> io::Result<Vec<CString>> {
    let How::Fork { library } = how else {
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
