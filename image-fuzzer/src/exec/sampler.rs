//! Where a program hangs: what a few samples of its stack have in common.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use bstr::ByteSlice;

use super::debugger::{HIDE_DEBUG_FILES, SHOW_DEBUG_FILES, parse_backtrace};
use super::{ExecError, ExecOptions, Executor, Limits, Request, for_program};
use crate::signature::Stack;

/// The commands of gdb before it attaches.
const SETTINGS: [&str; 5] = [
    "set confirm off",
    "set pagination off",
    "set width 0",
    "set debuginfod enabled off",
    "set print frame-arguments none",
];

/// The line before each sample.
const SEPARATOR: &str = "=== next sample ===";

/// How many samples are taken, with some time between: what a program does within its loop
/// differs from sample to sample, the loop does not.
const SAMPLES: usize = 4;

/// What gdb may take: it reads the symbols of the program and of its libraries.
const TIMEOUT: Duration = Duration::from_secs(20);

/// gdb, for running processes. It runs outside the sandbox, since from inside it could not
/// attach to them.
pub struct Sampler {
    gdb: Box<dyn Executor>,
}

impl Sampler {
    /// A sampler with a folder of its own to work in.
    ///
    /// # Errors
    ///
    /// gdb is not installed, or no executor can be made for it.
    pub fn new(folder: &Path) -> Result<Self, ExecError> {
        let options = ExecOptions {
            fork_server: false,
            sandbox: false,
            ..ExecOptions::new(folder)
        };
        Ok(Self {
            gdb: for_program(Path::new("gdb"), &options)?,
        })
    }

    /// The frames that the main thread of process `pid` has in every sample; `None` where gdb
    /// cannot attach to it, or takes longer than `timeout`.
    pub fn stack(&mut self, pid: i32, folder: &Path, timeout: Duration) -> Option<Stack> {
        let mut argv: Vec<OsString> = ["gdb", "-nx", "-batch"].map(OsString::from).into();
        let mut command = |text: &str| argv.extend([OsString::from("-ex"), text.into()]);
        SETTINGS.iter().copied().for_each(&mut command);
        if let Ok(program) = std::fs::read_link(format!("/proc/{pid}/exe")) {
            HIDE_DEBUG_FILES.iter().copied().for_each(&mut command);
            command(&format!("file {}", escaped(&program.to_string_lossy())));
            command(SHOW_DEBUG_FILES);
        }
        for _ in 0..SAMPLES {
            command(&format!("attach {pid}"));
            command(&format!(r"echo \n{SEPARATOR}\n"));
            // The outermost frames: in an endless recursion no number of innermost ones reaches
            // those that all samples have.
            command("backtrace -64");
            command("info proc mappings");
            command("detach");
            command("shell sleep 0.1");
        }
        let seen = self.gdb.run(&Request {
            limits: Limits {
                wall: timeout.min(TIMEOUT),
                cpu: TIMEOUT,
                memory: 4 << 30,
                output: 4 << 20,
                ..Limits::default()
            },
            ..Request::new(argv, folder)
        });
        let samples: Vec<Stack> = seen
            .stdout
            .split_str(SEPARATOR)
            .skip(1)
            .filter_map(parse_backtrace)
            .collect();
        common(&samples)
    }
}

/// A path as a word of a command of gdb.
fn escaped(path: &str) -> String {
    let special = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '\\');
    let escape = |c| special(c).then_some('\\').into_iter().chain([c]);
    path.chars().flat_map(escape).collect()
}

/// The outer frames that all stacks have, the innermost of them first.
fn common(stacks: &[Stack]) -> Option<Stack> {
    let (first, others) = stacks.split_first()?;
    let same = |depth: &usize| {
        let name = |stack: &Stack| {
            let frame = stack.frames.iter().rev().nth(*depth)?;
            Some(frame.name.clone())
        };
        others.iter().all(|other| name(other) == name(first))
    };
    let count = (0..first.frames.len()).take_while(same).count();
    let inner = first.frames.len() - count;
    (count > 0).then(|| Stack::new(first.frames[inner..].to_vec()).without_waiting())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Frame;

    fn stack(names: &[&str]) -> Stack {
        let frame = |name: &&str| Frame::named(*name);
        Stack::new(names.iter().map(frame).collect())
    }

    #[test]
    fn the_loop_is_what_all_samples_have() {
        let samples = [
            stack(&["read", "load", "check", "main"]),
            stack(&["check", "main"]),
            stack(&["write", "check", "main"]),
        ];
        assert_eq!(common(&samples), Some(stack(&["check", "main"])));
        assert_eq!(common(&samples[..1]), Some(samples[0].clone()));
        // How it waits is the same for all that hang, and left out.
        let waits = ["ppoll", "x+0x1", "aio_poll", "x+0x2", "check", "main"];
        let samples = [stack(&waits), stack(&waits[2..])];
        assert_eq!(common(&samples), Some(stack(&["x+0x2", "check", "main"])));
        let loops = stack(&["ppoll", "main_loop_wait"]);
        assert_eq!(common(std::slice::from_ref(&loops)), Some(loops));
        assert_eq!(common(&[stack(&["a"]), stack(&["b"])]), None);
        assert_eq!(common(&[]), None);
    }

    #[test]
    fn a_process_that_waits_shows_where() {
        let folder = tempfile::tempdir().unwrap();
        let Ok(mut sampler) = Sampler::new(&folder.path().join("gdb")) else {
            println!("not run: gdb is not installed");
            return;
        };
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let found = sampler.stack(pid, folder.path(), TIMEOUT);
        child.kill().unwrap();
        child.wait().unwrap();
        // Where ptrace(2) is forbidden there is no stack.
        if let Some(stack) = found {
            assert!(!stack.frames.is_empty());
        }
    }
}
