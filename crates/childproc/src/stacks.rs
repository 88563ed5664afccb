//! Stacks of running processes, taken by a debugger from outside.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::end::How;
use crate::keeper::{Keeper, Streams};
use crate::spec::{Event, Spec};

/// Programs that show the stacks of a process, best first, with the arguments
/// before and after its process id.
const PROGRAMS: [(&str, &[&str], &[&str]); 2] = [
    (
        "gdb",
        &["-nx", "-batch", "-p"],
        &["-ex", "set pagination off", "-ex", "thread apply all bt"],
    ),
    ("eu-stack", &["-p"], &[]),
];

/// Writes the stacks of all threads of the processes `pids` to `out`, by `gdb`
/// or `eu-stack`, whichever is installed; where neither is, it writes that and what
/// the system shows of each thread. It takes no longer than `limit`, and a
/// second more to end a debugger that does.
///
/// # Errors
///
/// Fails if `out` cannot be written. What goes wrong with a process is written to `out`.
pub fn stacks(keeper: &Keeper, pids: &[i32], out: &mut File, limit: Duration) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    let program = PROGRAMS
        .iter()
        .find(|(name, ..)| which::which(name).is_ok());
    if program.is_none() {
        writeln!(out, "no stacks: install gdb or eu-stack (package elfutils)")?;
    }
    for &pid in pids {
        writeln!(out, "\n== process {pid}: {}", command_line(pid))?;
        let Some((name, before, behind)) = program else {
            writeln!(out, "{}", threads(pid))?;
            continue;
        };
        if Instant::now() >= deadline {
            writeln!(out, "skipped: the others took too long")?;
            continue;
        }
        let mut spec = Spec::new(name.into(), environment(), PathBuf::from("/"));
        spec.args = before.iter().map(OsString::from).collect();
        spec.args.push(pid.to_string().into());
        spec.args.extend(behind.iter().map(OsString::from));
        spec.ending = How::Kill;
        let streams = Streams {
            stdin: None,
            stdout: out.as_fd(),
            stderr: out.as_fd(),
        };
        let problem = match keeper.spawn(&spec, streams) {
            Ok(child) => follow(child, deadline)?,
            Err(e) => Some(e.to_string()),
        };
        if let Some(problem) = problem {
            writeln!(out, "{name}: {problem}")?;
        }
    }
    Ok(())
}

/// Waits for a debugger to end; returns what went wrong, if anything.
fn follow(mut child: crate::child::Child, deadline: Instant) -> io::Result<Option<String>> {
    let mut problem = None;
    let mut deadline = Some(deadline);
    loop {
        match child.wait_event(deadline)? {
            None => {
                problem = Some("timed out and was ended".to_owned());
                child.end(How::Kill)?;
                deadline = None;
            }
            Some(Event::NotStarted(why)) => return Ok(Some(why)),
            Some(Event::Done(_)) => return Ok(problem),
            Some(_) => {}
        }
    }
}

/// What a debugger needs of our environment, and nothing that makes it fetch
/// symbols from elsewhere.
fn environment() -> Vec<(OsString, OsString)> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    vec![("PATH".into(), path), ("LC_ALL".into(), "C".into())]
}

/// The command line of a process, with blanks between the words.
fn command_line(pid: i32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&words).replace('\0', " ");
    text.trim_end().to_owned()
}

/// A line a thread: its name and state, and the kernel function it waits in.
fn threads(pid: i32) -> String {
    let mut lines = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let read = |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let status = read("status");
        let field = |name: &str| {
            status
                .lines()
                .find_map(|l| l.strip_prefix(name))
                .unwrap_or("")
                .trim()
                .to_owned()
        };
        lines.push(format!(
            "thread {}: {}, {}, in {}",
            thread.file_name().display(),
            field("Name:"),
            field("State:"),
            read("wchan")
        ));
    }
    lines.join("\n")
}
