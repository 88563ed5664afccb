//! How images are reached: as files, over NBD, through a FUSE export, over ssh.
//!
//! * `file`: the tools open the file.
//! * `nbd`: `qemu-nbd` exports the file's bytes over a unix socket and the tools
//!   read the format through it. An export does not grow, so the file is
//!   extended first, as a logical volume would be.
//! * `fuse`: `qemu-storage-daemon` shows the file's bytes as another file that
//!   the tools open. It grows.
//! * `ssh`: the tools open the file through an ssh server of the test's own. It
//!   grows.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::process::{Child, Command};

use crate::ctx::Ctx;
use crate::daemon::Daemon;
use crate::image::{Entry, Image, extend};
use crate::ssh::SshServer;
use crate::tool::{DEADLINE, framed, read_back};
use crate::wrap::{self, Kind};

/// Formats that work in a file that does not grow.
pub(crate) const FIXED_FILE_FORMATS: [&str; 3] = ["raw", "luks", "qcow2"];

/// The servers behind the images of a test.
pub(crate) struct Servers {
    pub(crate) ctx: Rc<Ctx>,
    nbd: RefCell<Vec<Server>>,
    fuse: RefCell<Option<Daemon>>,
    ssh: RefCell<Option<Rc<SshServer>>>,
    /// Files that a FUSE export is shown as.
    mounts: RefCell<Vec<PathBuf>>,
}

impl Drop for Servers {
    /// Where the test ended by a panic its daemon is killed, and leaves mounts that
    /// nothing serves.
    fn drop(&mut self) {
        drop(self.fuse.take());
        for mount in self.mounts.take() {
            let _ = std::process::Command::new("fusermount3")
                .args(["-u", "-z", "-q"])
                .arg(mount)
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// A `qemu-nbd` and what it serves.
pub struct Server {
    ctx: Rc<Ctx>,
    shown: String,
    child: Child,
    errors: File,
    socket: PathBuf,
}

impl Server {
    /// Starts a `qemu-nbd` that exports an image with these options; logged.
    pub(crate) fn export(ctx: &Rc<Ctx>, image: &Image, options: Vec<String>) -> Result<Self> {
        let mut shown = vec!["qemu-nbd".to_owned()];
        shown.extend(options.iter().cloned());
        shown.push(image.to_string());
        ctx.log(format!("$ {}", crate::words::join(&shown)));
        let number = ctx.daemons.get() + 1;
        ctx.daemons.set(number);
        let socket = ctx.env.sock_dir.join(format!("nbd-{number}"));
        let mut words = options;
        let named = words
            .iter()
            .any(|w| matches!(w.as_str(), "-f" | "--image-opts") || w.starts_with("--format"));
        if image.entry.needs_node() {
            words.push("--image-opts".to_owned());
            words.push(image.entry.image_opts());
            words.extend(ctx.secret());
        } else {
            if !named {
                words.extend(["-f".to_owned(), image.format().to_owned()]);
            }
            words.push(image.to_string());
        }
        let mut args = ctx.env.nbd_options.clone();
        args.extend(words.iter().map(|w| ctx.expand(w)));
        Self::start(ctx, &image.to_string(), socket, &args)
    }

    /// Starts `qemu-nbd` with these arguments on a socket that listens already,
    /// so that a client that connects now is served as soon as it is up.
    pub(crate) fn start(
        ctx: &Rc<Ctx>,
        shown: &str,
        socket: PathBuf,
        args: &[String],
    ) -> Result<Self> {
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("failed to listen on {}", socket.display()))?;
        let args: Vec<_> = args.iter().map(Into::into).collect();
        let words = wrap::line(&ctx.env, Kind::Nbd, &args)?;
        // qemu-nbd takes a listening socket as descriptor 3 of the process that
        // LISTEN_PID names; a shell knows its own id and then becomes qemu-nbd.
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#"LISTEN_PID=$$ exec "$@" 3<&0 0</dev/null"#, "sh"])
            .args(words);
        wrap::set_environment(&ctx.env, &mut command);
        let errors = tempfile::tempfile_in(&ctx.env.test_dir).context("failed to make a file")?;
        let share = |file: &File| file.try_clone().context("failed to share a file");
        command
            .env("LISTEN_FDS", "1")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(share(&errors)?);
        if ctx.env.print_qemu {
            command.stderr(Stdio::inherit());
        } else {
            command.stderr(share(&errors)?);
        }
        let line = wrap::shown(&command);
        if ctx.env.debug {
            eprintln!("+ {line}");
        }
        let child = command
            .spawn()
            .with_context(|| format!("failed to start {line}"))?;
        Ok(Self {
            ctx: Rc::clone(ctx),
            shown: shown.to_owned(),
            child,
            errors,
            socket,
        })
    }

    /// The name by which `t.io` and `t.img` reach its export `name`; the empty
    /// name is the default one.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        let file = self
            .socket
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        format!("nbd+unix:///{name}?socket=SOCK_DIR/{file}")
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    ///
    /// Fails if it does not end, or its exit status is not 0.
    pub async fn end(mut self) -> Result<()> {
        let ctx = Rc::clone(&self.ctx);
        let pid = self.child.id();
        if let Some(pid) = pid.and_then(|p| i32::try_from(p).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let ended = ctx.bounded(DEADLINE, self.child.wait()).await;
        let _ = std::fs::remove_file(&self.socket);
        let Some(status) = ended else {
            bail!("qemu-nbd for {} did not exit when asked", self.shown);
        };
        let status = status.context("failed to wait for qemu-nbd")?;
        let log = wrap::valgrind_log(&ctx.env, Kind::Nbd, pid, status.code()).unwrap_or_default();
        if !status.success() {
            let stderr = read_back(&mut self.errors);
            bail!(
                "qemu-nbd for {} ended with {status}; stderr:\n{}",
                self.shown,
                framed(&[stderr, log].concat())
            );
        }
        Ok(())
    }
}

/// The `json:` name of the NBD export that `url` is about, with more options, such as
/// `{"reconnect-delay": 10}`. The URL is one of [`Server::url`] or
/// [`Daemon::export_nbd`].
#[must_use]
pub fn nbd_name(url: &str, options: &serde_json::Value) -> String {
    let rest = url.trim_start_matches("nbd+unix:///");
    let (export, socket) = rest.split_once("?socket=").unwrap_or((rest, ""));
    let server = json!({"type": "unix", "path": socket});
    let mut node = json!({"driver": "nbd", "server": server, "export": export});
    extend(&mut node, options);
    format!("json:{node}")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Servers {
    pub(crate) fn new(ctx: &Rc<Ctx>) -> Self {
        Self {
            ctx: Rc::clone(ctx),
            nbd: RefCell::default(),
            fuse: RefCell::default(),
            ssh: RefCell::default(),
            mounts: RefCell::default(),
        }
    }

    /// The test's ssh server, started by the first call.
    pub(crate) async fn ssh(&self) -> Result<Rc<SshServer>> {
        if let Some(server) = &*self.ssh.borrow() {
            return Ok(Rc::clone(server));
        }
        let server = Rc::new(SshServer::start(&self.ctx).await?);
        *self.ssh.borrow_mut() = Some(Rc::clone(&server));
        Ok(server)
    }

    /// Prepares what the image needs before it is created.
    pub(crate) async fn prepare(&self, entry: &mut Entry) -> Result<()> {
        let ctx = &self.ctx;
        match ctx.env.protocol.as_str() {
            "file" => Ok(()),
            "nbd" => {
                let file = entry.local.file_name().unwrap_or_default();
                let socket = with_suffix(&ctx.env.sock_dir.join(file), ".nbd");
                ctx.name(socket.as_os_str().as_encoded_bytes(), &entry.shown);
                entry.socket = Some(socket);
                Ok(())
            }
            "fuse" => self.mount(entry).await,
            "ssh" => {
                let server = self.ssh().await?;
                let hash = server.fingerprint("sha256").await?;
                let check = format!("sha256:{hash}");
                entry.real = server.url(&entry.local, Some(&check));
                ctx.name(&entry.real, &entry.shown);
                // A node made by QMP does not show how the host is checked.
                ctx.name(server.url(&entry.local, None), &entry.shown);
                let check = json!({"mode": "hash", "type": "sha256", "hash": hash});
                entry.remote = Some(server.node(&entry.local, check));
                Ok(())
            }
            other => bail!("protocol {other} is not supported"),
        }
    }

    /// Shows an empty file through a FUSE export, under the image's name.
    async fn mount(&self, entry: &mut Entry) -> Result<()> {
        let under = with_suffix(&entry.local, ".under");
        for file in [&under, &entry.local] {
            File::create(file).with_context(|| format!("failed to make {}", file.display()))?;
        }
        entry.files.push(under.clone());
        let running = self.fuse.take();
        let mut daemon = match running {
            Some(daemon) => daemon,
            None => Daemon::storage(&self.ctx, &[], false).await?,
        };
        let node = node_name(&entry.shown);
        let add = json!({"driver": "file", "filename": under, "node-name": node});
        daemon.run("blockdev-add", add).await?;
        let export = json!({
            "type": "fuse", "id": node, "node-name": node, "mountpoint": entry.local,
            "writable": true, "growable": true,
        });
        daemon.run("block-export-add", export).await?;
        self.fuse.replace(Some(daemon));
        self.mounts.borrow_mut().push(entry.local.clone());
        Ok(())
    }

    /// Prepares what the image needs before it is used.
    pub(crate) fn serve(&self, entry: &mut Entry) -> Result<()> {
        let ctx = &self.ctx;
        let Some(socket) = entry.socket.clone() else {
            return Ok(());
        };
        make_room(entry)?;
        let bytes = entry.local.to_string_lossy().into_owned();
        let mut args: Vec<String> = ["-f", "raw", "--persistent", "--shared=0", "--discard=unmap"]
            .map(str::to_owned)
            .to_vec();
        args.push(format!("--cache={}", ctx.env.cache));
        args.push(format!("--aio={}", ctx.env.aio));
        args.extend(ctx.env.nbd_options.iter().cloned());
        args.push(bytes);
        let server = Server::start(ctx, &entry.shown, socket.clone(), &args)?;
        self.nbd.borrow_mut().push(server);
        let path = socket.display();
        entry.real = format!("nbd+unix:///?socket={path}");
        ctx.name(&entry.real, &entry.shown);
        ctx.name(format!("nbd+unix://?socket={path}"), &entry.shown);
        Ok(())
    }

    /// Removes an image that is about to be created again: its server and its files.
    pub(crate) async fn forget(&self, shown: &str) -> Result<()> {
        let images = |e: &mut Entry| e.shown == shown;
        let gone: Vec<Entry> = self
            .ctx
            .images
            .borrow_mut()
            .extract_if(.., images)
            .collect();
        for entry in gone {
            self.unserve(&entry).await?;
            for file in &entry.files {
                match std::fs::remove_file(file) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(e)
                            .with_context(|| format!("failed to remove {}", file.display()));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Ends what serves one image.
    async fn unserve(&self, entry: &Entry) -> Result<()> {
        let serves = |s: &mut Server| s.shown == entry.shown;
        let gone: Vec<Server> = self.nbd.borrow_mut().extract_if(.., serves).collect();
        for server in gone {
            server.end().await?;
        }
        if self.ctx.env.protocol == "fuse" && entry.files.len() > 1 {
            let daemon = self.fuse.take();
            if let Some(mut daemon) = daemon {
                let node = node_name(&entry.shown);
                daemon.unexport(&node).await?;
                daemon
                    .run("blockdev-del", json!({"node-name": node}))
                    .await?;
                self.fuse.replace(Some(daemon));
            }
        }
        Ok(())
    }

    /// Ends all servers; each has to exit with 0.
    pub(crate) async fn stop(&self) -> Result<()> {
        let mut result = Ok(());
        for server in self.nbd.take() {
            result = result.and(server.end().await);
        }
        if let Some(daemon) = self.fuse.take() {
            let ended = daemon.quit_quietly().await;
            if ended.is_ok() {
                self.mounts.take();
            }
            result = result.and(ended);
        }
        if let Some(ssh) = self.ssh.take() {
            result = result.and(ssh.stop().await);
        }
        result
    }
}

/// A node name made of an image's name: letters and digits.
fn node_name(shown: &str) -> String {
    let name = shown
        .trim_start_matches("TEST_DIR/")
        .trim_end_matches(".IMGFMT");
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("i-{}", name.chars().map(plain).collect::<String>())
}

/// Extends the file of a growing format to the most that it can need: its length now
/// plus the virtual size with metadata.
fn make_room(entry: &Entry) -> Result<()> {
    const SPARE: u64 = 64 << 20;
    const MOST: u64 = 1 << 40;
    /// Where the header of a qcow2 image has its virtual size.
    const QCOW2_SIZE: u64 = 24;
    if matches!(entry.format.as_str(), "raw" | "luks") {
        return Ok(());
    }
    let file = File::options()
        .write(true)
        .read(true)
        .open(&entry.local)
        .with_context(|| format!("failed to open {}", entry.local.display()))?;
    let length = file
        .metadata()
        .context("failed to read a file's length")?
        .len();
    let mut size = [0; 8];
    if entry.format == "qcow2" {
        file.read_exact_at(&mut size, QCOW2_SIZE)
            .with_context(|| format!("failed to read the header of {}", entry.local.display()))?;
    }
    let room = length + SPARE + u64::from_be_bytes(size).min(MOST) / 8 * 9;
    file.set_len(room)
        .with_context(|| format!("failed to extend {}", entry.local.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_named_with_options() {
        let name = nbd_name("nbd+unix:///a?socket=S/b", &json!({"tls-creds": "t"}));
        let node: serde_json::Value = serde_json::from_str(&name[5..]).expect("JSON");
        assert_eq!(
            (&node["export"], &node["server"]["path"]),
            (&json!("a"), &json!("S/b"))
        );
        assert_eq!(
            (&node["driver"], &node["tls-creds"]),
            (&json!("nbd"), &json!("t"))
        );
    }
}
