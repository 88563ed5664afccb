//! `qemu-io`: many commands in one process, or a process kept open.

use std::ffi::OsString;
use std::process::Stdio;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use bstr::ByteSlice as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin};

use crate::ctx::Ctx;
use crate::filter;
use crate::tool::{DEADLINE, Expect, Output, Spawn, Streams, awaited, framed};
use crate::wrap::{self, Kind};

/// `qemu-io`'s longest line on standard input.
const LONGEST_LINE: usize = 1000;

/// A run of `qemu-io` that happens when it is awaited.
///
/// Each command is logged as `> COMMAND` with its output below. Commands that
/// start asynchronous requests are logged together first, since their results
/// come in any order.
#[must_use = "nothing runs until it is awaited"]
pub struct IoRun {
    ctx: Rc<Ctx>,
    image: String,
    commands: Vec<String>,
    options: Vec<String>,
    expect: Expect,
    quiet: bool,
}

impl IoRun {
    pub(crate) fn new<S: AsRef<str>>(
        ctx: &Rc<Ctx>,
        image: String,
        commands: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            ctx: Rc::clone(ctx),
            image,
            commands: commands
                .into_iter()
                .map(|c| c.as_ref().to_owned())
                .collect(),
            options: Vec::new(),
            expect: Expect::Status(0),
            quiet: false,
        }
    }

    /// More options for `qemu-io`, such as `-r`; they are logged.
    pub fn options<S: AsRef<str>>(mut self, options: impl IntoIterator<Item = S>) -> Self {
        self.options
            .extend(options.into_iter().map(|o| o.as_ref().to_owned()));
        self
    }

    /// At least one command, or opening, must fail.
    pub fn fails(mut self) -> Self {
        self.expect = Expect::Failure;
        self
    }

    /// Commands may fail.
    pub fn any_status(mut self) -> Self {
        self.expect = Expect::AnyExit;
        self
    }

    /// Nothing of it is logged.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    async fn go(self) -> Result<Output> {
        let ctx = &self.ctx;
        let mut asked = self.options.clone();
        asked.push(self.image.clone());
        let shown = format!("qemu-io {}", crate::words::join(&asked));
        let at_once = self
            .commands
            .iter()
            .any(|c| c.starts_with("aio") || c.len() > LONGEST_LINE);
        let mut args: Vec<OsString> = self.options.iter().map(|o| ctx.expand(o).into()).collect();
        let mut stdin = None;
        if at_once {
            args.extend(self.commands.iter().flat_map(|c| ["-c".into(), c.into()]));
        } else {
            stdin = Some(
                self.commands
                    .iter()
                    .flat_map(|c| [c.as_str(), "\n"])
                    .collect::<String>(),
            );
        }
        args.extend(ctx.io_args(&self.image).into_iter().map(OsString::from));
        let spawn = Spawn {
            kind: Kind::Io,
            args,
            stdin: stdin.map(String::into_bytes),
            streams: Streams::Joined,
            env: Vec::new(),
        };
        let output = ctx.spawn(spawn).await?;
        if !self.quiet {
            ctx.log(format!("$ {shown}"));
            self.log_pieces(&output, at_once);
        }
        if let Err(error) = ctx.judge(&shown, self.expect, &output) {
            return Err(error.context(format!("commands: {}", self.commands.join("; "))));
        }
        Ok(output)
    }

    fn log_pieces(&self, output: &Output, at_once: bool) {
        let ctx = &self.ctx;
        let log_piece = |piece: &[u8]| ctx.log_output(&filter::io::hide_rates(piece));
        let pieces = filter::io::split_at_prompts(&output.stdout, PROMPT);
        if at_once || pieces.len() == 1 {
            for command in &self.commands {
                ctx.log(format!("> {command}"));
            }
            log_piece(&output.stdout);
            return;
        }
        log_piece(pieces[0]);
        for (n, piece) in pieces[1..].iter().enumerate() {
            if let Some(command) = self.commands.get(n) {
                ctx.log(format!("> {command}"));
            }
            log_piece(piece);
        }
        log_piece(&output.stderr);
    }
}

awaited!(IoRun => Output);

/// What `qemu-io` prints before it reads a command.
const PROMPT: &[u8] = b"qemu-io> ";

/// A `qemu-io` that waits for the next command.
pub struct Session {
    ctx: Rc<Ctx>,
    child: Child,
    input: Option<ChildStdin>,
    output: pipe::Receiver,
    /// What came after the last prompt: asynchronous requests report their results
    /// when they are done.
    pending: Vec<u8>,
    shown: String,
    quiet: bool,
}

impl Session {
    pub(crate) async fn open(ctx: &Rc<Ctx>, image: &str, options: &[&str]) -> Result<Self> {
        let mut args: Vec<OsString> = options.iter().map(|o| ctx.expand(o).into()).collect();
        args.extend(ctx.io_args(image).into_iter().map(OsString::from));
        let mut command = wrap::command(&ctx.env, Kind::Io, &args)?;
        let (read, write) = std::io::pipe().context("failed to make a pipe")?;
        let errors = write.try_clone().context("failed to share a pipe")?;
        command.stdin(Stdio::piped()).stdout(write).stderr(errors);
        let line = wrap::shown(&command);
        let mut child = command
            .spawn()
            .with_context(|| format!("failed to start {line}"))?;
        drop(command);
        let input = child.stdin.take();
        let output = pipe::Receiver::from_owned_fd(read.into()).context("failed to read a pipe")?;
        let shown = format!("qemu-io {image}");
        ctx.log(format!("$ {shown}"));
        let mut session = Self {
            ctx: Rc::clone(ctx),
            child,
            input,
            output,
            pending: Vec::new(),
            shown,
            quiet: false,
        };
        let (greeting, open) = session.until_prompt().await?;
        ctx.log_output(&greeting);
        if !open {
            bail!("qemu-io did not open {image}:\n{}", framed(&greeting));
        }
        Ok(session)
    }

    /// From now on nothing is logged.
    pub fn quiet(&mut self) {
        self.quiet = true;
    }

    /// Runs one command and returns its output, without rates. Commands
    /// that fail are no error here: `qemu-io` reports them by its exit status.
    ///
    /// # Errors
    ///
    /// Fails if `qemu-io` has ended, or does not answer.
    pub async fn run(&mut self, command: impl AsRef<str>) -> Result<String> {
        let command = command.as_ref();
        let Some(input) = self.input.as_mut() else {
            bail!("{} has ended", self.shown)
        };
        input
            .write_all(format!("{command}\n").as_bytes())
            .await
            .with_context(|| format!("{} has ended before: {command}", self.shown))?;
        let (output, open) = self.until_prompt().await?;
        let output = filter::io::hide_rates(&output);
        if !self.quiet {
            self.ctx.log(format!("> {command}"));
            self.ctx.log_output(&output);
        }
        if !open && !command.trim_start().starts_with('q') {
            bail!("{} ended in: {command}\n{}", self.shown, framed(&output));
        }
        Ok(output.to_str_lossy().into_owned())
    }

    /// What is printed up to the next prompt, and whether one came.
    async fn until_prompt(&mut self) -> Result<(Vec<u8>, bool)> {
        let mut output = std::mem::take(&mut self.pending);
        let pipe = &mut self.output;
        let read = async {
            loop {
                if let Some(at) = output.find(PROMPT) {
                    return Ok(Some(at));
                }
                if pipe.read_buf(&mut output).await? == 0 {
                    return Ok::<_, std::io::Error>(None);
                }
            }
        };
        let Some(found) = self.ctx.bounded(DEADLINE, read).await else {
            bail!("{} does not answer", self.shown);
        };
        let Some(at) = found? else {
            return Ok((output, false));
        };
        self.pending = output.split_off(at + PROMPT.len());
        output.truncate(at);
        Ok((output, true))
    }

    /// Ends it and expects that no command failed.
    ///
    /// # Errors
    ///
    /// Fails if it does not end, or a command failed.
    pub async fn close(self) -> Result<()> {
        self.close_as(Expect::Status(0)).await
    }

    /// Ends it and expects this exit.
    ///
    /// # Errors
    ///
    /// Fails if it does not end, or exits otherwise.
    pub async fn close_as(mut self, expect: Expect) -> Result<()> {
        drop(self.input.take());
        let pid = self.child.id();
        let mut output = std::mem::take(&mut self.pending);
        let end = async {
            self.output.read_to_end(&mut output).await?;
            self.child.wait().await
        };
        let Some(status) = self.ctx.bounded(DEADLINE, end).await else {
            bail!("{} does not end", self.shown);
        };
        let status = status.context("failed to wait for qemu-io")?;
        let log = wrap::valgrind_log(&self.ctx.env, Kind::Io, pid, status.code());
        let output = Output {
            status: status.code(),
            stdout: output,
            stderr: log.unwrap_or_default(),
        };
        self.ctx.judge(&self.shown, expect, &output)
    }

    /// Kills it with SIGKILL, as a crash would: nothing is flushed.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be waited for.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("failed to end qemu-io")
    }
}
