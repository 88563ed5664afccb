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

    /// Becomes the real tool. Returns only where that cannot be.
    pub(crate) fn exec(&self, args: &[String]) -> Error {
        let error = self.command(&self.tool, args).exec();
        Error::new(error).context(format!(
            "cannot run {}",
            self.real.join(&self.tool).display()
        ))
    }

    /// Runs the real tool to its end.
    pub(crate) fn output(&self, args: &[String]) -> Result<Output> {
        let mut command = self.command(&self.tool, args);
        command.stdin(Stdio::inherit());
        command.output().context("cannot run the real tool")
    }

    /// Runs another real tool for a fault's own ends; nothing of it is shown.
    pub(crate) fn aside(&self, tool: &str, args: &[&str]) -> Result<Output> {
        let mut command = self.command(tool, args);
        command.stdin(Stdio::null());
        command.output().context("cannot run the real tool")
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

/// Says what the real tool said, and gives the exit status.
pub(crate) fn retell(output: &Output, stdout: &[u8], status: u8) -> Result<ExitCode> {
    std::io::stderr().write_all(&output.stderr)?;
    std::io::stdout().write_all(stdout)?;
    Ok(ExitCode::from(status))
}

/// The real tool's own exit status.
pub(crate) fn status(output: &Output) -> Result<u8> {
    let code = output.status.code().context("the real tool was killed")?;
    u8::try_from(code).context("no exit status")
}

/// Runs the real tool, tells all that it said, and puts the files back as they
/// were before: those on the command line, and those they are made of.
pub(crate) fn undone(call: &Call) -> Result<ExitCode> {
    let mut files: Vec<PathBuf> = Vec::new();
    for arg in call.args.iter().filter(|a| Path::new(a).is_file()) {
        add(&mut files, arg);
        let info = ["info", "-U", "--backing-chain", "--output=json", arg];
        let said = call.aside("qemu-img", &info)?.stdout;
        if let Ok(info) = serde_json::from_slice(&said) {
            add_named(&mut files, &info);
        }
    }
    for file in &files {
        copy(file, &aside(file))?;
    }
    let output = call.output(&call.args);
    for file in &files {
        fs::rename(aside(file), file).context("cannot put a file back")?;
    }
    let output = output?;
    retell(&output, &output.stdout, status(&output)?)
}

fn aside(file: &Path) -> PathBuf {
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
    let output = cp.output().context("cannot run cp")?;
    if !output.status.success() {
        bail!(
            "cannot copy: {}",
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
