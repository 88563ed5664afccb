//! One run of a program under test: its arguments, its output, how it exited.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{PipeWriter, Read as _, Seek as _};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bstr::ByteSlice as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

use crate::ctx::Ctx;
use crate::words;
use crate::wrap::{self, Kind};

/// How long one run of a tool may take (lifted under gdb and valgrind).
pub const DEADLINE: Duration = Duration::from_secs(240);

/// What a builder gives when it is awaited: what its `go` gives.
macro_rules! awaited {
    ($builder:ty => $output:ty) => {
        impl std::future::IntoFuture for $builder {
            type Output = anyhow::Result<$output>;
            type IntoFuture = std::pin::Pin<Box<dyn Future<Output = Self::Output>>>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(self.go())
            }
        }
    };
}
pub(crate) use awaited;

/// A command line: a string is split at blanks (with quotes), a list is taken
/// word by word.
pub trait Words {
    /// The words.
    ///
    /// # Errors
    ///
    /// Fails if a quote is not closed.
    fn words(self) -> Result<Vec<String>>;
}

impl Words for &str {
    fn words(self) -> Result<Vec<String>> {
        words::split(self)
    }
}

impl Words for String {
    fn words(self) -> Result<Vec<String>> {
        words::split(&self)
    }
}

impl Words for &String {
    fn words(self) -> Result<Vec<String>> {
        words::split(self)
    }
}

impl<S: AsRef<str>, const N: usize> Words for [S; N] {
    fn words(self) -> Result<Vec<String>> {
        Ok(self.iter().map(|w| w.as_ref().to_owned()).collect())
    }
}

impl<S: AsRef<str>> Words for &[S] {
    fn words(self) -> Result<Vec<String>> {
        Ok(self.iter().map(|w| w.as_ref().to_owned()).collect())
    }
}

impl<S: AsRef<str>> Words for Vec<S> {
    fn words(self) -> Result<Vec<String>> {
        self.as_slice().words()
    }
}

/// Which exit statuses are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// This one.
    Status(i32),
    /// Any but 0; a signal is unexpected.
    Failure,
    /// Any exit; a signal is unexpected.
    AnyExit,
}

impl Expect {
    fn allows(self, status: Option<i32>) -> bool {
        match (self, status) {
            (_, None) => false,
            (Self::Status(want), Some(got)) => want == got,
            (Self::Failure, Some(got)) => got != 0 && got != wrap::VALGRIND_STATUS,
            (Self::AnyExit, Some(got)) => got != wrap::VALGRIND_STATUS,
        }
    }
}

/// What a program printed and how it exited.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Exit status; `None` where a signal ended it.
    pub status: Option<i32>,
    /// Standard output as it came.
    pub stdout: Vec<u8>,
    /// Standard error as it came; with [`Streams::Joined`] it is in `stdout`.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard error, then standard output, as text.
    #[must_use]
    pub fn text(&self) -> String {
        self.all().to_str_lossy().into_owned()
    }

    /// Standard output as JSON.
    ///
    /// # Errors
    ///
    /// Fails if it is not JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.stdout)
            .with_context(|| format!("not JSON:\n{}", framed(&self.stdout)))
    }

    pub(crate) fn all(&self) -> Vec<u8> {
        [self.stderr.as_slice(), &self.stdout].concat()
    }
}

/// Whether the two output streams are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Apart: the order between them is always the same (errors first).
    Apart,
    /// As one, in the order in which the program wrote.
    Joined,
}

/// An error of QEMU up to 8.2, now and then, when it measures how fast the machine
/// derives keys; the next try usually succeeds.
pub(crate) const NO_CPU_TIME: &str = "Unable to get accurate CPU usage";

/// How often a program that could not measure is tried.
pub(crate) const TRIES: usize = 20;

/// A program that is about to run.
#[derive(Debug, Clone)]
pub(crate) struct Spawn {
    pub(crate) kind: Kind,
    pub(crate) args: Vec<OsString>,
    pub(crate) stdin: Option<Vec<u8>>,
    pub(crate) streams: Streams,
    pub(crate) env: Vec<(OsString, OsString)>,
}

impl Ctx {
    /// Runs a program to its end. Only what keeps it from running, and its
    /// deadline, are errors here.
    pub(crate) async fn spawn(&self, spawn: Spawn) -> Result<Output> {
        for _ in 1..TRIES {
            let output = self.spawn_once(&spawn).await?;
            if output.status == Some(0) || !output.stderr.contains_str(NO_CPU_TIME) {
                return Ok(output);
            }
        }
        self.spawn_once(&spawn).await
    }

    async fn spawn_once(&self, spawn: &Spawn) -> Result<Output> {
        let mut command = wrap::command(&self.env, spawn.kind, &spawn.args)?;
        command.envs(spawn.env.iter().map(|(k, v)| (k, v)));
        if self.env.debug {
            eprintln!("+ {}", wrap::shown(&command));
        }
        let (out_read, out_write) = std::io::pipe().context("failed to make a pipe")?;
        let err = match spawn.streams {
            Streams::Joined => None,
            Streams::Apart => Some(std::io::pipe().context("failed to make a pipe")?),
        };
        let (err_read, err_write): (_, PipeWriter) = match err {
            Some((r, w)) => (Some(r), w),
            None => (
                None,
                out_write.try_clone().context("failed to share a pipe")?,
            ),
        };
        command.stdin(if spawn.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        command.stdout(out_write).stderr(err_write);
        let mut child = command
            .spawn()
            .with_context(|| format!("failed to start {}", wrap::shown(&command)))?;
        let line = wrap::shown(&command);
        // The command holds our copies of the pipes' write ends.
        drop(command);
        let pid = child.id();
        let feed = child.stdin.take().zip(spawn.stdin.as_deref());
        let talk = async {
            let write = async {
                if let Some((mut pipe, bytes)) = feed {
                    // The status of a program that exits before it has read
                    // everything is judged below.
                    let _ = pipe.write_all(bytes).await;
                }
            };
            let (stdout, stderr, ()) =
                tokio::join!(read_all(Some(out_read)), read_all(err_read), write);
            Ok::<_, anyhow::Error>((stdout?, stderr?, child.wait().await?))
        };
        let (stdout, stderr, status) = match self.bounded(DEADLINE, talk).await {
            Some(done) => done.with_context(|| format!("failed to follow {line}"))?,
            None => bail!(
                "timed out after {} s and killed: {line}",
                DEADLINE.as_secs()
            ),
        };
        let mut output = Output {
            status: status.code(),
            stdout,
            stderr,
        };
        if let Some(log) = wrap::valgrind_log(&self.env, spawn.kind, pid, output.status) {
            output.stderr.extend(log);
        }
        if self.env.debug {
            eprint!("{}", output.text());
        }
        Ok(output)
    }
}

async fn read_all(read: Option<std::io::PipeReader>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(read) = read {
        let mut read = pipe::Receiver::from_owned_fd(read.into())?;
        read.read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// What a program has written into a file of ours so far.
pub(crate) fn read_back(file: &mut File) -> Vec<u8> {
    let mut written = Vec::new();
    let _ = file.rewind();
    let _ = file.read_to_end(&mut written);
    written
}

/// Text as an indented block; long text is shortened in the middle.
pub(crate) fn framed(text: &[u8]) -> String {
    const HALF: usize = 4000;
    let text = text.to_str_lossy();
    let text = text.trim_end();
    if text.is_empty() {
        return "<empty>".to_owned();
    }
    let mut out = String::new();
    let long = text.len() > 2 * HALF;
    for line in text.lines() {
        let at = line.as_ptr() as usize - text.as_ptr() as usize;
        if long && at > HALF && at + HALF < text.len() {
            if !out.ends_with("...\n") {
                out.push_str("  | ...\n");
            }
            continue;
        }
        let _ = writeln!(out, "  | {line}");
    }
    out.truncate(out.trim_end().len());
    out
}

/// A filter of one run's output.
type Rule = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A run of a tool that happens when it is awaited. What it prints is logged.
///
/// An exit status that is not the expected one (0 by default) ends
/// the test with the command line, the status and what the program printed.
#[must_use = "nothing runs until it is awaited"]
pub struct Run {
    ctx: Rc<Ctx>,
    kind: Kind,
    /// The words as the test gave them.
    asked: Result<Vec<String>>,
    expect: Expect,
    quiet: bool,
    stdin: Option<Vec<u8>>,
    rules: Vec<Rule>,
    env: Vec<(OsString, OsString)>,
}

impl Run {
    pub(crate) fn new(ctx: &Rc<Ctx>, kind: Kind, words: impl Words) -> Self {
        Self {
            ctx: Rc::clone(ctx),
            kind,
            asked: words.words(),
            expect: Expect::Status(0),
            quiet: false,
            stdin: None,
            rules: Vec::new(),
            env: Vec::new(),
        }
    }

    /// It must fail: any exit status but 0, no signal.
    pub fn fails(mut self) -> Self {
        self.expect = Expect::Failure;
        self
    }

    /// It must exit with this status.
    pub fn status(mut self, status: i32) -> Self {
        self.expect = Expect::Status(status);
        self
    }

    /// Any exit status will do; a signal will not.
    pub fn any_status(mut self) -> Self {
        self.expect = Expect::AnyExit;
        self
    }

    /// Nothing of it is logged.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// What it reads from standard input (nothing otherwise).
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// A variable in its environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// One more filter, applied to its output before all others.
    pub fn filter(mut self, rule: impl Fn(&[u8]) -> Vec<u8> + 'static) -> Self {
        self.rules.push(Box::new(rule));
        self
    }

    async fn go(self) -> Result<Output> {
        let asked = self.asked?;
        let shown = format!("{} {}", self.kind.name(), words::join(&asked));
        if !self.quiet {
            self.ctx.log(format!("$ {shown}"));
        }
        let args = match self.kind {
            Kind::Img => self.ctx.img_args(&asked)?,
            kind => self.ctx.tool_args(kind, &asked)?,
        };
        let spawn = Spawn {
            kind: self.kind,
            args: args.into_iter().map(OsString::from).collect(),
            stdin: self.stdin,
            streams: Streams::Apart,
            env: self.env,
        };
        let output = self.ctx.spawn(spawn).await?;
        if !self.quiet {
            let mut text = output.all();
            for rule in &self.rules {
                text = rule(&text);
            }
            self.ctx.log_output(&text);
        }
        self.ctx.judge(&shown, self.expect, &output)?;
        Ok(output)
    }
}

awaited!(Run => Output);

impl Ctx {
    /// An error where the exit status is unexpected.
    pub(crate) fn judge(&self, shown: &str, expect: Expect, output: &Output) -> Result<()> {
        if expect.allows(output.status) {
            return Ok(());
        }
        let ended = match output.status {
            Some(status) => format!("exit status {status}"),
            None => "killed by a signal".to_owned(),
        };
        let wanted = match expect {
            Expect::Status(0) => String::new(),
            Expect::Status(want) => format!(" (expected {want})"),
            Expect::Failure => " (expected a failure)".to_owned(),
            Expect::AnyExit => " (expected an exit)".to_owned(),
        };
        bail!(
            "{ended}{wanted}: {shown}\nstderr:\n{}\nstdout:\n{}",
            framed(&output.stderr),
            framed(&output.stdout)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_never_expected() {
        for e in [Expect::Status(0), Expect::Failure, Expect::AnyExit] {
            assert!(!e.allows(None));
            assert!(!e.allows(Some(wrap::VALGRIND_STATUS)));
        }
        assert!(Expect::Failure.allows(Some(1)) && !Expect::Failure.allows(Some(0)));
        assert!(Expect::Status(3).allows(Some(3)));
    }

    #[test]
    fn long_output_is_shortened_in_the_middle() {
        assert_eq!(framed(b" \n"), "<empty>");
        assert_eq!(framed(b"a\nb\n"), "  | a\n  | b");
        let long = "line of text\n".repeat(2000);
        let short = framed(long.as_bytes());
        assert!(short.len() < 20_000 && short.contains("| ..."));
    }
}
