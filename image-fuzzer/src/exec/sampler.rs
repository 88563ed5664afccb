//! Where a program hangs: what a few looks at its stack have in common.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use bstr::ByteSlice;

use super::debugger::parse_backtrace;
use super::{ExecError, ExecOptions, Executor, Limits, Request, for_program};
use crate::signature::Stack;

/// What gdb is told before it looks.
const QUIET: [&str; 5] = [
    "set confirm off",
    "set pagination off",
    "set width 0",
    "set debuginfod enabled off",
    "set print frame-arguments none",
];

/// What parts one look from the next.
const PART: &str = "=== what follows is the next look ===";

/// How often it looks, with some time between: what a program is at within its loop
/// differs from look to look, the loop does not.
const LOOKS: usize = 4;

/// How long gdb may take at most: it reads the symbols of the program and its libraries.
const WITHIN: Duration = Duration::from_secs(20);

/// gdb, for processes that run already. It runs outside the sandbox, as it must to see
/// into one.
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

    /// The frames that the main thread of process `pid` has at every look; `None` where
    /// gdb cannot look at it `within` a time.
    pub fn stack(&mut self, pid: i32, folder: &Path, within: Duration) -> Option<Stack> {
        let mut argv: Vec<OsString> = ["gdb", "-nx", "-batch"].map(OsString::from).into();
        let mut tell = |command: &str| argv.extend([OsString::from("-ex"), command.into()]);
        QUIET.iter().copied().for_each(&mut tell);
        for _ in 0..LOOKS {
            tell(&format!("attach {pid}"));
            tell(&format!(r"echo \n{PART}\n"));
            // The outermost: of a recursion without end there is no number of innermost ones
            // that reaches the frames which all looks have.
            tell("backtrace -64");
            tell("info proc mappings");
            tell("detach");
            tell("shell sleep 0.1");
        }
        let seen = self.gdb.run(&Request {
            limits: Limits {
                wall: within.min(WITHIN),
                cpu: WITHIN,
                memory: 4 << 30,
                output: 4 << 20,
                ..Limits::default()
            },
            ..Request::new(argv, folder)
        });
        let looks: Vec<Stack> = seen
            .stdout
            .split_str(PART)
            .skip(1)
            .filter_map(parse_backtrace)
            .collect();
        common(&looks)
    }
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
        let frame = |name: &&str| Frame {
            name: (*name).to_owned(),
            place: None,
        };
        Stack::new(names.iter().map(frame).collect())
    }

    #[test]
    fn the_loop_is_what_all_looks_have() {
        let looks = [
            stack(&["read", "load", "check", "main"]),
            stack(&["check", "main"]),
            stack(&["write", "check", "main"]),
        ];
        assert_eq!(common(&looks), Some(stack(&["check", "main"])));
        assert_eq!(common(&looks[..1]), Some(looks[0].clone()));
        // That it waits, and how, is the same for all that hang.
        let waits = ["ppoll", "x+0x1", "aio_poll", "x+0x2", "check", "main"];
        let looks = [stack(&waits), stack(&waits[2..])];
        assert_eq!(common(&looks), Some(stack(&["x+0x2", "check", "main"])));
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
        let found = sampler.stack(pid, folder.path(), WITHIN);
        child.kill().unwrap();
        child.wait().unwrap();
        // Where tracing is forbidden there is nothing to see.
        if let Some(stack) = found {
            assert!(!stack.frames.is_empty());
        }
    }
}
