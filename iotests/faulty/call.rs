//! How a tool was called, and ways to run the real one.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use anyhow::{Context as _, Error, Result, bail};
use serde_json::Value;

/// One call of a tool.
pub(crate) struct Call {
    /// The tool's name.
    pub(crate) tool: String,
    /// The fault's name.
    pub(crate) fault: String,
    /// The words after the tool's name.
    pub(crate) args: Vec<String>,
    /// Where the real tools are.
    real: PathBuf,
}

impl Call {
    /// A call by `DIR/FAULT/TOOL`.
    pub(crate) fn new(zero: &Path, args: Vec<String>) -> Result<Self> {
        let name = |p: Option<&Path>| Some(p?.file_name()?.to_str()?.to_owned());
        let dir = zero.parent();
        let (Some(tool), Some(fault), Some(top)) =
            (name(Some(zero)), name(dir), dir.and_then(Path::parent))
        else {
            bail!(
                "'{}' is not DIR/FAULT/TOOL: start it by such a link",
                zero.display()
            );
        };
        Ok(Self {
            tool,
            fault,
            args,
            real: top.join("real"),
        })
    }

    /// A real tool that is to run with these words.
    pub(crate) fn command<S: AsRef<str>>(&self, tool: &str, args: &[S]) -> Command {
        let mut command = Command::new(self.real.join(tool));
        // Messages begin with the tool's name as it was started.
        command.arg0(tool).args(args.iter().map(AsRef::as_ref));
        command
    }

    /// Becomes the real tool. Returns only on an error.
    pub(crate) fn exec(&self, args: &[String]) -> Error {
        let error = self.command(&self.tool, args).exec();
        Error::new(error).context(format!(
            "failed to run {}",
            self.real.join(&self.tool).display()
        ))
    }

    /// Runs the real tool to its end.
    pub(crate) fn output(&self, args: &[String]) -> Result<Output> {
        let mut command = self.command(&self.tool, args);
        command.stdin(Stdio::inherit());
        command.output().context("failed to run the real tool")
    }

    /// Runs another real tool for the fault itself; its output is not shown.
    pub(crate) fn helper(&self, tool: &str, args: &[&str]) -> Result<Output> {
        let mut command = self.command(tool, args);
        command.stdin(Stdio::null());
        command.output().context("failed to run the real tool")
    }

    /// Whether one of these words is given.
    pub(crate) fn has(&self, words: &[&str]) -> bool {
        self.args.iter().any(|a| words.contains(&a.as_str()))
    }

    /// The word after one of these.
    pub(crate) fn after(&self, words: &[&str]) -> Option<&str> {
        let at = self.args.iter().position(|a| words.contains(&a.as_str()))?;
        self.args.get(at + 1).map(String::as_str)
    }

    /// Whether `qemu-io` reads its commands from standard input, for writing.
    pub(crate) fn reads_commands(&self) -> bool {
        !self.has(&["-c", "--cmd", "-r", "--read-only", "--help", "--version"])
    }

    /// Whether standard input is a monitor.
    pub(crate) fn has_monitor(&self) -> bool {
        self.args
            .iter()
            .any(|a| a.starts_with("socket,id=mon,fd=0"))
    }
}

/// Prints what the real tool printed, and returns the exit status.
pub(crate) fn print(output: &Output, stdout: &[u8], status: u8) -> Result<ExitCode> {
    std::io::stderr().write_all(&output.stderr)?;
    std::io::stdout().write_all(stdout)?;
    Ok(ExitCode::from(status))
}

/// The real tool's own exit status.
pub(crate) fn status(output: &Output) -> Result<u8> {
    let code = output
        .status
        .code()
        .context("the real tool was killed by a signal")?;
    u8::try_from(code).context("not an exit status")
}

/// Runs the real tool, prints its output, and restores the files to what they
/// were before: those on the command line, and those that they refer to.
pub(crate) fn without_effect(call: &Call) -> Result<ExitCode> {
    let mut files: Vec<PathBuf> = Vec::new();
    for arg in call.args.iter().filter(|a| Path::new(a).is_file()) {
        add(&mut files, arg);
        let info = ["info", "-U", "--backing-chain", "--output=json", arg];
        let output = call.helper("qemu-img", &info)?.stdout;
        if let Ok(info) = serde_json::from_slice(&output) {
            add_named(&mut files, &info);
        }
    }
    for file in &files {
        copy(file, &backup(file))?;
    }
    let output = call.output(&call.args);
    for file in &files {
        fs::rename(backup(file), file).context("failed to restore a file")?;
    }
    let output = output?;
    print(&output, &output.stdout, status(&output)?)
}

fn backup(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".before");
    PathBuf::from(name)
}

/// Adds a file, each only once by whatever name.
fn add(files: &mut Vec<PathBuf>, name: &str) {
    let Ok(path) = Path::new(name).canonicalize() else {
        return;
    };
    if path.is_file() && !files.contains(&path) {
        files.push(path);
    }
}

/// Adds every file that is named somewhere in `info`.
fn add_named(files: &mut Vec<PathBuf>, info: &Value) {
    match info {
        Value::String(s) => add(files, s),
        Value::Array(list) => list.iter().for_each(|v| add_named(files, v)),
        Value::Object(map) => map.values().for_each(|v| add_named(files, v)),
        _ => {}
    }
}

/// Copies a file, holes as holes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut cp = Command::new("cp");
    cp.args(["-p", "--sparse=always", "--"]).arg(from).arg(to);
    let output = cp.output().context("failed to run cp")?;
    if !output.status.success() {
        bail!(
            "failed to copy: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Whether standard output and standard error are the same pipe.
pub(crate) fn streams_are_joined() -> bool {
    let id = |n: u8| {
        let m = fs::metadata(format!("/dev/fd/{n}")).ok()?;
        Some((m.dev(), m.ino()))
    };
    id(1).is_some() && id(1) == id(2)
}
