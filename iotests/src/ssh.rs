//! An ssh server for one test, for images that are reached over `ssh://`.
//!
//! Nothing of the machine is configured for it and nothing of the user's is used:
//! `sshd` gets a host key, a list of authorised keys and a configuration that were
//! made for it, serves files and nothing else, and listens on 127.0.0.1. The library
//! listens in its place and hands it each connection, as inetd would, so that
//! clients are served at once.
//!
//! QEMU takes its own key from an agent, so there is one of these too, and knows the
//! host by the fingerprint that stands in each name.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use data_encoding::{BASE64_NOPAD, HEXLOWER};
use nix::unistd::{Uid, User};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use crate::ctx::Ctx;
use crate::env::Env;
use crate::probe::Probes;
use crate::tool::{DEADLINE, framed};

/// The directory to which `sshd`, as root, chroots clients before they log in. It has to
/// exist and be empty; the system's own server makes it when it starts.
const EMPTY_DIR: &str = "/run/sshd";

/// What keeps images from being reached over ssh here; `None` where nothing does.
#[must_use]
pub fn lacks(env: &Env, probes: &Probes) -> Option<String> {
    for (name, package) in [
        ("sshd", "openssh-server"),
        ("ssh-agent", "openssh-client"),
        ("ssh-add", "openssh-client"),
        ("ssh-keygen", "openssh-client"),
    ] {
        if program(name).is_none() {
            return Some(format!("{name} is not installed (Debian: {package})"));
        }
    }
    if !probes.has_driver(env, "ssh") {
        return Some("QEMU has no ssh driver".to_owned());
    }
    if !probes.connects_by_ssh(env) {
        return Some("QEMU's ssh driver is not installed (Debian: qemu-block-extra)".to_owned());
    }
    let uid = Uid::effective();
    let Ok(Some(user)) = User::from_uid(uid) else {
        return Some(format!("user id {uid} has no user name to log in with"));
    };
    let asked = std::process::Command::new("getent")
        .args(["shadow", &user.name])
        .output();
    // An entry that this user may not read, the sshd of this user cannot read either.
    let entry = asked.map(|o| o.stdout).unwrap_or_default();
    locked(&entry).then(|| {
        let name = &user.name;
        format!("sshd refuses logins to a locked account (the password of {name})")
    })
}

/// Whether `sshd` takes an account as locked, by its entry in shadow(5).
fn locked(entry: &[u8]) -> bool {
    let password = entry.splitn(3, |b| *b == b':').nth(1);
    password.is_some_and(|p| p.starts_with(b"!"))
}

/// A program in PATH, or in `/usr/sbin`, which may not be in the PATH of users.
fn program(name: &str) -> Option<PathBuf> {
    let found = which::which(name);
    found
        .or_else(|_| which::which_in(name, Some("/usr/sbin"), "/"))
        .ok()
}

/// A running server, and the agent that has the key to it.
pub struct SshServer {
    ctx: Rc<Ctx>,
    /// Keys, configuration and log; removed at the end.
    dir: TempDir,
    user: String,
    address: SocketAddr,
    connections: Arc<Connections>,
    listener: Option<JoinHandle<()>>,
    agent: Child,
}

/// The `sshd` of each connection, and whether the server stops.
#[derive(Default)]
struct Connections {
    stopping: AtomicBool,
    children: Mutex<Vec<std::process::Child>>,
}

impl SshServer {
    pub(crate) async fn start(ctx: &Rc<Ctx>) -> Result<Self> {
        let user = User::from_uid(Uid::effective())
            .context("failed to look up the user name")?
            .context("this user has no user name")?
            .name;
        let dir = tempfile::Builder::new()
            .prefix("ssh-")
            .tempdir_in(&ctx.env.test_dir)
            .context("failed to make a folder for the ssh server")?;
        for key in ["host", "user"] {
            let words = ["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"];
            let mut keygen = command("ssh-keygen")?;
            keygen.args(words).arg(dir.path().join(key));
            finish(keygen).await?;
        }
        let sshd = configure(dir.path()).await?;
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to listen on 127.0.0.1")?;
        let address = listener.local_addr().context("a listener has no address")?;
        let agent = start_agent(&ctx.env.ssh_agent_socket(), &dir.path().join("user")).await?;
        let connections = Arc::new(Connections::default());
        let (ours, log) = (Arc::clone(&connections), dir.path().join("log"));
        let listener = std::thread::spawn(move || serve(&listener, &ours, &sshd, &log));
        let server = Self {
            ctx: Rc::clone(ctx),
            dir,
            user,
            address,
            connections,
            listener: Some(listener),
            agent,
        };
        ctx.name(format!("127.0.0.1:{}", address.port()), "HOST:PORT");
        ctx.name(format!("{}@", server.user), "USER@");
        Ok(server)
    }

    /// The name of a file behind it, with this `host_key_check`, such as `no` or
    /// `sha256:...`; none for the user's known hosts.
    #[must_use]
    pub fn url(&self, file: &Path, host_key_check: Option<&str>) -> String {
        let check = host_key_check.map_or(String::new(), |c| format!("?host_key_check={c}"));
        format!(
            "ssh://{}@{}{}{check}",
            self.user,
            self.address,
            file.display()
        )
    }

    /// The node of a file behind it, for `blockdev-add`; `host_key_check` as in the
    /// schema, such as `{"mode": "none"}`.
    #[must_use]
    pub fn node(&self, file: &Path, host_key_check: Value) -> Value {
        let (host, port) = (self.address.ip(), self.address.port());
        json!({
            "driver": "ssh", "user": self.user, "path": file,
            "server": {"host": host.to_string(), "port": port.to_string()},
            "host-key-check": host_key_check,
        })
    }

    /// The host's fingerprint in hexadecimal, by `md5`, `sha1` or `sha256`.
    ///
    /// # Errors
    ///
    /// Fails if `ssh-keygen` does not print it.
    pub async fn fingerprint(&self, hash: &str) -> Result<String> {
        let mut keygen = command("ssh-keygen")?;
        keygen.args(["-l", "-E", hash, "-f"]);
        let output = finish(keygen.arg(self.dir.path().join("host.pub"))).await?;
        let (_, digest) = output
            .split_whitespace()
            .find_map(|word| word.split_once(':'))
            .with_context(|| format!("ssh-keygen printed no fingerprint: {output}"))?;
        match hash {
            "md5" => Ok(digest.replace(':', "")),
            _ => hexadecimal(digest).with_context(|| format!("'{digest}' is not base64")),
        }
    }

    /// Ends the server of every connection, as if the host went down; new connections
    /// are served.
    pub fn drop_connections(&self) {
        self.connections.end();
    }

    /// What the server has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Waits until every connection is over, and ends.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.connections.stopping.store(true, Ordering::SeqCst);
        let connections = Arc::clone(&self.connections);
        let address = self.address;
        let ended = tokio::task::spawn_blocking(move || {
            // A connection wakes the listener up.
            drop(TcpStream::connect(address));
            connections.wait()
        });
        match self.ctx.bounded(DEADLINE, ended).await {
            Some(ended) => ended.context("failed to wait for sshd")?,
            None => bail!("sshd still has clients:\n{}", framed(self.log().as_bytes())),
        }
        Ok(())
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        self.connections.stopping.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(listener) = self.listener.take() {
            // A thread that panicked has nothing more to serve.
            let _ = listener.join();
        }
        self.connections.end();
        let _ = self.agent.start_kill();
        let _ = std::fs::remove_file(self.ctx.env.ssh_agent_socket());
        if self.ctx.env.debug {
            eprint!("{}", self.log());
        }
    }
}

impl Connections {
    fn children(&self) -> std::sync::MutexGuard<'_, Vec<std::process::Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of each.
    fn wait(&self) {
        for mut child in self.children().drain(..) {
            let _ = child.wait();
        }
    }

    /// Ends each, and what it started, by SIGTERM. An sshd loses a signal that comes just as
    /// it starts to wait for its client, so the signal is sent again until it has ended.
    fn end(&self) {
        for mut child in self.children().drain(..) {
            let deadline = Instant::now() + DEADLINE;
            while !has_ended_within(&mut child, SIGNAL_INTERVAL) {
                if Instant::now() > deadline {
                    let _ = child.kill();
                    let _ = child.wait();
                    break;
                }
            }
        }
    }
}

/// How long an `sshd` has to end before the signal is sent again.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// Asks a child to end; whether it has ended within that time.
fn has_ended_within(child: &mut std::process::Child, most: Duration) -> bool {
    if let Ok(pid) = i32::try_from(child.id()) {
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    }
    let end = Instant::now() + most;
    loop {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Hands each connection to an `sshd` of its own.
fn serve(listener: &TcpListener, connections: &Connections, sshd: &[PathBuf], log: &Path) {
    for stream in listener.incoming() {
        if connections.stopping.load(Ordering::SeqCst) {
            return;
        }
        // A client that could not be served finds the connection closed, and reports it.
        if let Ok(child) = stream.and_then(|stream| start_sshd(stream, sshd, log)) {
            let mut children = connections.children();
            children.retain_mut(|c| matches!(c.try_wait(), Ok(None)));
            children.push(child);
        }
    }
}

fn start_sshd(stream: TcpStream, sshd: &[PathBuf], log: &Path) -> io::Result<std::process::Child> {
    let log = File::options().create(true).append(true).open(log)?;
    let input = OwnedFd::from(stream);
    let output = input.try_clone()?;
    let [program, config] = sshd else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    std::process::Command::new(program)
        .args(["-i", "-e", "-f"])
        .arg(config)
        .stdin(input)
        .stdout(output)
        .stderr(log)
        .spawn()
}

/// Writes the server's configuration; gives the program and the file.
async fn configure(dir: &Path) -> Result<[PathBuf; 2]> {
    let sshd = program("sshd").context("sshd is not installed")?;
    if Uid::effective().is_root() && !Path::new(EMPTY_DIR).is_dir() {
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(EMPTY_DIR)
            .with_context(|| format!("failed to make {EMPTY_DIR}, which sshd needs"))?;
    }
    std::fs::copy(dir.join("user.pub"), dir.join("authorized_keys"))
        .context("failed to write authorized_keys")?;
    let config = dir.join("config");
    let shown = dir.display();
    // Clients may do nothing but read and write files.
    let lines = format!(
        "HostKey {shown}/host\nAuthorizedKeysFile {shown}/authorized_keys\nStrictModes no\n\
         UsePAM no\nUseDNS no\nPidFile none\nLogLevel ERROR\nPermitRootLogin prohibit-password\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nDisableForwarding yes\n\
         Subsystem sftp internal-sftp\nForceCommand internal-sftp\n"
    );
    let write = |text: &str| {
        File::create(&config)
            .and_then(|mut f| f.write_all(text.as_bytes()))
            .with_context(|| format!("failed to write {}", config.display()))
    };
    // Since 9.8 sshd delays hosts that disconnect too often, as tests do; older
    // versions do not know the option.
    write(&format!("{lines}PerSourcePenalties no\n"))?;
    let test = || {
        let mut test = Command::new(&sshd);
        test.arg("-t").arg("-f").arg(&config);
        finish(test)
    };
    if test().await.is_err() {
        write(&lines)?;
        test().await?;
    }
    Ok([sshd, config])
}

/// Starts an agent that holds this key.
async fn start_agent(socket: &Path, key: &Path) -> Result<Child> {
    let _ = std::fs::remove_file(socket);
    let mut agent = command("ssh-agent")?;
    agent.arg("-D").arg("-a").arg(socket).stdout(Stdio::piped());
    agent.kill_on_drop(true);
    let mut agent = agent.spawn().context("failed to start ssh-agent")?;
    // It prints its socket once it listens.
    let mut output = agent.stdout.take().context("ssh-agent has no output")?;
    let first = output.read_u8().await;
    ensure!(
        first.is_ok(),
        "ssh-agent does not listen on {}",
        socket.display()
    );
    let mut add = command("ssh-add")?;
    add.arg("-q").arg(key).env("SSH_AUTH_SOCK", socket);
    finish(add).await?;
    Ok(agent)
}

fn command(name: &str) -> Result<Command> {
    let program = program(name).with_context(|| format!("{name} is not installed"))?;
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env("LC_ALL", "C");
    Ok(command)
}

/// Runs a program, which has to exit with 0; returns its output.
async fn finish(mut command: impl std::borrow::BorrowMut<Command>) -> Result<String> {
    let command = command.borrow_mut();
    let line = crate::wrap::shown(command);
    let output = command
        .output()
        .await
        .with_context(|| format!("failed to start {line}"))?;
    ensure!(
        output.status.success(),
        "{}: {line}\n{}",
        output.status,
        framed(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Base64 as hexadecimal digits; `None` where it is malformed.
fn hexadecimal(base64: &str) -> Option<String> {
    let digits = base64.trim_end_matches('=').as_bytes();
    Some(HEXLOWER.encode(&BASE64_NOPAD.decode(digits).ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// A server once lost the signal, and was waited for until the timeout.
    #[test]
    fn a_server_that_loses_the_signal_gets_it_again() {
        let script = "trap 'trap - TERM' TERM; echo; while :; do sleep 0.01; done";
        let mut forgetful = std::process::Command::new("sh");
        forgetful.args(["-c", script]);
        let mut child = forgetful
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("sh");
        let mut ready = [0];
        let mut out = child.stdout.take().expect("a pipe");
        out.read_exact(&mut ready).expect("a line");
        let connections = Connections::default();
        connections.children().push(child);
        connections.end();
        assert!(connections.children().is_empty());
    }

    #[test]
    fn fingerprints_become_hexadecimal() {
        assert_eq!(hexadecimal("AAEC/w").as_deref(), Some("000102ff"));
        assert_eq!(hexadecimal("Zg==").as_deref(), Some("66"));
        assert_eq!(hexadecimal("a-b"), None);
    }

    #[test]
    fn an_account_is_locked_by_its_password() {
        assert!(locked(b"nobody:!*:::::::\n"));
        assert!(locked(b"root:!:20000:0:99999:7:::\n"));
        assert!(!locked(b"root:*:20000:0:99999:7:::\n"));
        assert!(!locked(b"a:$y$j9T$!:20000::::::\n"));
        assert!(!locked(b""));
    }

    #[test]
    fn programs_are_found_where_servers_are() {
        assert_eq!(program("no-such-server"), None);
        assert!(program("sh").is_some());
    }
}
