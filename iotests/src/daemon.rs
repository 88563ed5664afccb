//! A process with a monitor: `qemu-storage-daemon`, or the emulator.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::rc::Rc;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::process::Child;

use crate::ctx::Ctx;
use crate::filter::json as filter_json;
use crate::image::{Image, extend};
use crate::qmp::{Qmp, QmpError};
use crate::tool::{DEADLINE, framed, read_back};
use crate::wrap::{self, Kind};

/// A running process with a monitor.
///
/// Its monitor is a socket that it inherits, so it can be asked things as soon
/// as it runs. It has to be ended by [`Daemon::quit`]; its exit status counts.
pub struct Daemon {
    pub(crate) ctx: Rc<Ctx>,
    name: String,
    kind: Kind,
    child: Child,
    qmp: Qmp,
    errors: File,
    /// Whether what is asked and answered is logged.
    logged: bool,
    /// The socket of its NBD server, once there is one.
    nbd: Option<String>,
}

impl Daemon {
    pub(crate) async fn storage(ctx: &Rc<Ctx>, options: &[String], logged: bool) -> Result<Self> {
        let mut args = ctx.secret().to_vec();
        args.extend(options.iter().map(|w| ctx.expand(w)));
        args.extend(["--chardev".into(), "socket,id=mon,fd=0".into()]);
        args.extend(["--monitor".into(), "chardev=mon".into()]);
        Self::start(ctx, Kind::Qsd, args, logged).await
    }

    pub(crate) async fn machine(ctx: &Rc<Ctx>, options: &[String]) -> Result<Self> {
        let mut args = ctx.machine_options();
        args.push("-S".to_owned());
        Self::emulator(ctx, args, options).await
    }

    /// An emulator with `options` after `args`.
    pub(crate) async fn emulator(
        ctx: &Rc<Ctx>,
        mut args: Vec<String>,
        options: &[String],
    ) -> Result<Self> {
        args.extend(["-object".to_owned(), ctx.secret()[1].clone()]);
        args.extend(["-chardev".into(), "socket,id=mon,fd=0".into()]);
        args.extend(["-mon".into(), "chardev=mon,mode=control".into()]);
        args.extend(options.iter().map(|w| ctx.expand(w)));
        Self::start(ctx, Kind::Vm, args, true).await
    }

    async fn start(ctx: &Rc<Ctx>, kind: Kind, args: Vec<String>, logged: bool) -> Result<Self> {
        let args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
        let mut command = wrap::command(&ctx.env, kind, &args)?;
        let line = wrap::shown(&command);
        if ctx.env.debug {
            eprintln!("+ {line}");
        }
        let (ours, theirs) = UnixStream::pair().context("failed to make a socket")?;
        let theirs = OwnedFd::from(theirs.into_std().context("failed to pass a socket on")?);
        let errors = tempfile::tempfile_in(&ctx.env.test_dir).context("failed to make a file")?;
        command.stdin(Stdio::from(theirs));
        if ctx.env.print_qemu {
            command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
        } else {
            let share = || errors.try_clone().context("failed to share a file");
            command.stdout(share()?).stderr(share()?);
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("failed to start {line}"))?;
        // The command holds our copy of the other end of the socket.
        drop(command);
        let mut errors = errors;
        let qmp = match ctx.bounded(DEADLINE, Qmp::new(ours)).await {
            Some(Ok(qmp)) => qmp,
            Some(Err(error)) => {
                let status = child.wait().await;
                let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                let stderr = framed(&read_back(&mut errors));
                return Err(error.context(format!("{line}\n{status}; stderr:\n{stderr}")));
            }
            None => bail!(
                "no QMP greeting within {} s from: {line}",
                DEADLINE.as_secs()
            ),
        };
        // The library's own daemons do not count in names that are logged.
        let name = if logged {
            ctx.daemons.set(ctx.daemons.get() + 1);
            format!("{}-{}", kind.name(), ctx.daemons.get())
        } else {
            "images".to_owned()
        };
        if logged {
            ctx.running.borrow_mut().push(name.clone());
        }
        Ok(Self {
            ctx: Rc::clone(ctx),
            name,
            kind,
            child,
            qmp,
            errors,
            logged,
            nbd: None,
        })
    }

    /// QEMU's version: major and minor.
    #[must_use]
    pub fn version(&self) -> (u64, u64) {
        self.qmp.version()
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it has written to standard error so far (nothing under `-p`).
    #[must_use]
    pub fn stderr(&mut self) -> String {
        String::from_utf8_lossy(&read_back(&mut self.errors)).into_owned()
    }

    /// Runs a command, gives its answer or error, and logs nothing.
    ///
    /// # Errors
    ///
    /// The outer error: the process ended. The inner one: QEMU's answer.
    pub async fn ask(
        &mut self,
        name: &str,
        arguments: Value,
    ) -> Result<std::result::Result<Value, QmpError>> {
        let ask = self.qmp.execute(name, arguments);
        match self.ctx.bounded(DEADLINE, ask).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(self.explain(error).await),
            None => bail!("no answer to {name} after {} s", DEADLINE.as_secs()),
        }
    }

    /// Runs a command that has to succeed, and logs nothing.
    ///
    /// # Errors
    ///
    /// Fails if QEMU answers with an error.
    pub async fn run(&mut self, name: &str, arguments: Value) -> Result<Value> {
        let shown = filter_json::line(&arguments);
        self.ask(name, arguments)
            .await?
            .map_err(|e| anyhow!("{name} {shown} failed with {e}"))
    }

    /// Runs a command that has to succeed; logs it and its answer.
    ///
    /// # Errors
    ///
    /// Fails if QEMU answers with an error.
    pub async fn qmp(&mut self, name: &str, arguments: Value) -> Result<Value> {
        let shown = self.log_command(name, &arguments);
        match self.ask(name, arguments).await? {
            Ok(answer) => {
                self.log_line(&json!({"return": answer}));
                Ok(answer)
            }
            Err(error) => bail!("{shown} failed with {error}"),
        }
    }

    /// Runs a command that has to fail; logs it and its error.
    ///
    /// # Errors
    ///
    /// Fails if the command succeeds.
    pub async fn qmp_fails(&mut self, name: &str, arguments: Value) -> Result<QmpError> {
        let shown = self.log_command(name, &arguments);
        match self.ask(name, arguments).await? {
            Ok(answer) => bail!("{shown} succeeded (expected a failure) and returned {answer}"),
            Err(error) => {
                self.log_line(&json!({"error": {"class": error.class, "desc": error.desc}}));
                Ok(error)
            }
        }
    }

    fn log_command(&self, name: &str, arguments: &Value) -> String {
        let arguments = filter_json::line(&filter_json::scrub(arguments));
        let shown = if arguments == "{}" {
            name.to_owned()
        } else {
            format!("{name} {arguments}")
        };
        if self.logged {
            self.ctx.log(format!("-> {shown}"));
        }
        shown
    }

    fn log_line(&self, value: &Value) {
        if self.logged {
            self.ctx.log(format!(
                "<- {}",
                filter_json::line(&filter_json::scrub(value))
            ));
        }
    }

    /// Several actions as one transaction that has to succeed: names with their
    /// arguments; logged.
    ///
    /// # Errors
    ///
    /// Fails if QEMU answers with an error.
    pub async fn transaction<'a>(
        &mut self,
        actions: impl IntoIterator<Item = (&'a str, Value)>,
        properties: Value,
    ) -> Result<Value> {
        self.qmp("transaction", transaction(actions, properties))
            .await
    }

    /// The next event of this name, kept or yet to come.
    ///
    /// # Errors
    ///
    /// Fails if no such event arrives in time.
    pub async fn event(&mut self, name: &str) -> Result<Value> {
        self.event_where(name, |_| true).await
    }

    /// The next event of this name whose data fit.
    ///
    /// # Errors
    ///
    /// Fails if no such event arrives in time.
    pub async fn event_where(
        &mut self,
        name: &str,
        mut fits: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        self.any_event(|event, data| event == name && fits(data))
            .await
            .map_err(|e| e.context(format!("waiting for {name}")))
    }

    /// The next event, of any name, for which `fits` (given name and data) holds.
    ///
    /// # Errors
    ///
    /// Fails if no such event arrives in time.
    pub async fn any_event(&mut self, mut fits: impl FnMut(&str, &Value) -> bool) -> Result<Value> {
        let wanted = |e: &Value| e["event"].as_str().is_some_and(|n| fits(n, &e["data"]));
        let next = self.qmp.event(wanted);
        match self.ctx.bounded(DEADLINE, next).await {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.explain(error).await),
            None => bail!("no such event within {} s", DEADLINE.as_secs()),
        }
    }

    /// Logs an event, times hidden.
    pub fn log_event(&self, event: &Value) {
        let mut event = event.clone();
        if let Some(map) = event.as_object_mut() {
            map.remove("timestamp");
        }
        self.ctx.log(filter_json::line(&filter_json::scrub(&event)));
    }

    /// Drops the events that were not waited for.
    pub fn drop_events(&mut self) {
        self.qmp.take_events();
    }

    /// How many events of this name were not waited for; all events are dropped.
    pub fn left_events(&mut self, name: &str) -> usize {
        let events = self.qmp.take_events();
        events.iter().filter(|event| event["event"] == name).count()
    }

    /// Adds an image as a node of this name; the log has its name only, so that it
    /// is the same for every format and protocol.
    ///
    /// # Errors
    ///
    /// Fails if QEMU rejects it.
    pub async fn add(&mut self, image: &Image, node: &str) -> Result<()> {
        self.add_with(image, node, json!({})).await
    }

    /// Adds an image as a node with more options, such as `{"backing": "base"}`.
    ///
    /// # Errors
    ///
    /// Fails if QEMU rejects it.
    pub async fn add_with(&mut self, image: &Image, node: &str, options: Value) -> Result<()> {
        let full = self.node_with(image, node, &options);
        if self.logged {
            let more = if options == json!({}) {
                String::new()
            } else {
                format!(" {}", filter_json::line(&filter_json::scrub(&options)))
            };
            self.ctx
                .log(format!("-> blockdev-add {node}: {image}{more}"));
        }
        self.run("blockdev-add", full).await?;
        Ok(())
    }

    /// The node that [`Daemon::add_with`] adds: with cache and aio mode.
    #[must_use]
    pub fn node_with(&self, image: &Image, node: &str, options: &Value) -> Value {
        self.ctx.node_with(image, node, options)
    }
}

impl Ctx {
    /// The node of an image, with cache and aio mode and more options.
    pub(crate) fn node_with(&self, image: &Image, node: &str, options: &Value) -> Value {
        let mut full = image.node(node);
        let env = &self.env;
        match env.cache.as_str() {
            "none" | "directsync" => full["cache"] = json!({"direct": true}),
            "unsafe" => full["cache"] = json!({"no-flush": true}),
            _ => {}
        }
        if env.aio != "threads" && full["file"]["driver"] == "file" {
            full["file"]["aio"] = env.aio.as_str().into();
        }
        extend(&mut full, options);
        full
    }
}

impl Daemon {
    /// Exports a node over NBD, writable, and gives the name by which `t.io` and
    /// `t.img` reach it. Not logged.
    ///
    /// # Errors
    ///
    /// Fails if QEMU does not export it.
    pub async fn export_nbd(&mut self, node: &str) -> Result<String> {
        self.export_nbd_with(node, json!({"writable": true})).await
    }

    /// Puts a copy-before-write filter, node `cbw`, with these options between the guest and
    /// `device`: what is written over is kept in node `target`, and node `past` shows the disk
    /// as it is now. Gives the names of both sides, exported over NBD: the guest's and the
    /// past's, which is read-only.
    ///
    /// # Errors
    ///
    /// Fails if QEMU refuses a node or an export.
    pub async fn fleece(
        &mut self,
        device: &str,
        target: &str,
        past: &str,
        options: &Value,
    ) -> Result<(String, String)> {
        let mut filter = json!({"driver": "copy-before-write", "node-name": "cbw", "file": device, "target": target});
        extend(&mut filter, options);
        self.qmp("blockdev-add", filter).await?;
        let access = json!({"driver": "snapshot-access", "node-name": past, "file": "cbw"});
        self.qmp("blockdev-add", access).await?;
        let guest = self.export_nbd("cbw").await?;
        let past = self
            .export_nbd_with(past, json!({"writable": false}))
            .await?;
        Ok((guest, past))
    }

    /// Exports a node over NBD with these options, such as `bitmaps`.
    ///
    /// # Errors
    ///
    /// Fails if QEMU does not export it.
    pub async fn export_nbd_with(&mut self, node: &str, options: Value) -> Result<String> {
        let socket = match &self.nbd {
            Some(socket) => socket.clone(),
            None => {
                let file = format!("{}.nbd", self.name);
                let path = self.ctx.env.sock_dir.join(&file);
                let addr = json!({"type": "unix", "data": {"path": path}});
                self.run("nbd-server-start", json!({"addr": addr})).await?;
                let socket = format!("SOCK_DIR/{file}");
                self.nbd = Some(socket.clone());
                socket
            }
        };
        let mut export = json!({"type": "nbd", "id": format!("nbd-{node}"), "node-name": node});
        extend(&mut export, &options);
        self.run("block-export-add", export).await?;
        Ok(format!("nbd+unix:///{node}?socket={socket}"))
    }

    /// Removes an export and waits until it is gone; not logged. Its clients are
    /// disconnected: the end of one may not have been noticed yet.
    ///
    /// # Errors
    ///
    /// Fails if there is no such export, or it is not removed in time.
    pub async fn unexport(&mut self, id: &str) -> Result<()> {
        let arguments = json!({"id": id, "mode": "hard"});
        self.run("block-export-del", arguments).await?;
        self.event_where("BLOCK_EXPORT_DELETED", |d| d["id"] == id)
            .await?;
        Ok(())
    }

    /// Asks it to quit and waits until it has; it has to exit with 0, with no job
    /// left.
    ///
    /// # Errors
    ///
    /// Fails if a job is left, it does not end, or its exit status is not 0.
    pub async fn quit(mut self) -> Result<()> {
        let jobs = self.run("query-jobs", json!({})).await?;
        if jobs.as_array().is_some_and(|j| !j.is_empty()) {
            bail!("jobs are left at the end: {}", filter_json::line(&jobs));
        }
        self.quit_quietly().await
    }

    /// As [`Daemon::quit`], with any jobs.
    ///
    /// # Errors
    ///
    /// Fails if it does not end, or its exit status is not 0.
    pub async fn quit_quietly(mut self) -> Result<()> {
        self.run("quit", json!({})).await?;
        self.wait().await
    }

    /// Waits until it exits without being asked, with status 0.
    ///
    /// # Errors
    ///
    /// Fails if it does not end, or its exit status is not 0.
    pub async fn wait(mut self) -> Result<()> {
        let pid = self.child.id();
        self.ctx.has_ended(&self.name);
        let Some(status) = self.ctx.bounded(DEADLINE, self.child.wait()).await else {
            bail!("{} did not exit", self.name);
        };
        if let Some(socket) = &self.nbd {
            let _ = std::fs::remove_file(self.ctx.expand(socket));
        }
        let status = status.with_context(|| format!("failed to wait for {}", self.name))?;
        if status.success() {
            wrap::valgrind_log(&self.ctx.env, self.kind, pid, status.code());
            return Ok(());
        }
        let stderr = self.ending(pid, status.code());
        bail!("{} ended with {status}; stderr:\n{stderr}", self.name)
    }

    /// Ends it by SIGKILL, as a crash would.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be waited for.
    pub async fn kill(mut self) -> Result<()> {
        self.ctx.has_ended(&self.name);
        self.child
            .kill()
            .await
            .with_context(|| format!("failed to end {}", self.name))
    }

    fn ending(&mut self, pid: Option<u32>, status: Option<i32>) -> String {
        let log = wrap::valgrind_log(&self.ctx.env, self.kind, pid, status).unwrap_or_default();
        framed(&[read_back(&mut self.errors), log].concat())
    }

    /// Adds how the process ended, where it has, to an error of the connection.
    async fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        let pid = self.child.id();
        let Some(Ok(status)) = self.ctx.bounded(DEADLINE, self.child.wait()).await else {
            return error;
        };
        self.ctx.has_ended(&self.name);
        let stderr = self.ending(pid, status.code());
        error.context(format!(
            "{} ended with {status}; stderr:\n{stderr}",
            self.name
        ))
    }
}

/// The arguments of `transaction`.
pub fn transaction<'a>(
    actions: impl IntoIterator<Item = (&'a str, Value)>,
    properties: Value,
) -> Value {
    let actions: Vec<Value> = actions
        .into_iter()
        .map(|(kind, data)| json!({"type": kind, "data": data}))
        .collect();
    let mut arguments = json!({"actions": actions});
    if properties.as_object().is_some_and(|p| !p.is_empty()) {
        arguments["properties"] = properties;
    }
    arguments
}
