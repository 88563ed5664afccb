//! The stack of a crash, by running it again under gdb.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bstr::ByteSlice;
use coverage::TEXT_PATH;

use super::program::{guard_env, guard_of, locate};
use super::{ExecError, ExecOptions, Executor, Limits, Request, for_program};
use crate::signature::{Address, Frame, Stack, file, function};

/// The commands of gdb: no questions, no downloads, run, then print the stack of the thread
/// that got the signal and the mappings of files.
const COMMANDS: [&str; 13] = [
    SHOW_DEBUG_FILES,
    "set print frame-info location-and-address",
    "set confirm off",
    "set pagination off",
    "set width 0",
    "set debuginfod enabled off",
    "set print frame-arguments none",
    "set print thread-events off",
    "set print inferior-events off",
    "run",
    r"echo \n=== output of the debugger ===\n",
    "backtrace 64",
    "info proc mappings",
];

/// The commands of gdb before it reads the program: it does not look for the program's separate
/// debug file, so that a finding is in the same group whether or not the debug symbols are
/// installed. [`Symbols`](super::symbols::Symbols) adds what they tell.
pub(super) const HIDE_DEBUG_FILES: [&str; 2] = [
    r#"set $folders = $_gdb_setting_str("debug-file-directory")"#,
    "set debug-file-directory /nonexistent",
];

/// The command behind that: libraries are read when the program runs, with their debug files.
pub(super) const SHOW_DEBUG_FILES: &str = r#"eval "set debug-file-directory %s", $folders"#;

/// The line between the program's output and the debugger's.
const SEPARATOR: &str = "\n=== output of the debugger ===\n";

/// What gdb may take: it reads the symbols of the program and of all its libraries.
const TIMEOUT: Duration = Duration::from_secs(120);

/// gdb, in the same sandbox as the program.
pub struct Debugger {
    gdb: Box<dyn Executor>,
    program: PathBuf,
    /// The library of the guarding allocator, where the program can have it.
    guard: Option<PathBuf>,
}

impl Debugger {
    /// A debugger for `program`, which runs under `options`.
    ///
    /// # Errors
    ///
    /// gdb is not installed, or no executor can be made for it.
    pub fn new(program: &Path, options: &ExecOptions) -> Result<Self, ExecError> {
        let program = locate(program)?;
        let mut options = options.clone();
        // gdb reads the program from outside the sandbox's usual places.
        options
            .readable
            .extend(program.parent().map(Path::to_owned));
        options.fork_server = false;
        let guard = guard_of(&program).ok();
        options.readable.extend(guard.clone());
        Ok(Self {
            gdb: for_program(Path::new("gdb"), &options)?,
            program,
            guard,
        })
    }

    /// The commands that load the guard of a request into the program, and not into gdb.
    fn guard_settings(&self, request: &Request) -> Vec<OsString> {
        let Some((guard, library)) = request.guard.zip(self.guard.as_deref()) else {
            return Vec::new();
        };
        let variables = guard.variables();
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let variables = guard_env(library).into_iter().chain(variables);
        let setting = |(name, value): (OsString, OsString)| {
            [OsString::from("set environment"), name, value].join(OsStr::new(" "))
        };
        variables.map(setting).collect()
    }

    /// Runs the request again and gives the stack at the signal that ends it; `None` when no
    /// signal does, or gdb takes longer than `timeout`.
    ///
    /// The limits on time and memory are gdb's own, wider than the request's.
    pub fn stack(&mut self, request: &Request, timeout: Duration) -> Option<Stack> {
        let mut argv: Vec<OsString> = ["gdb", "-nx", "-batch"].map(OsString::from).into();
        for command in HIDE_DEBUG_FILES {
            argv.extend(["-iex", command].map(OsString::from));
        }
        let settings = self.guard_settings(request);
        let commands = COMMANDS.map(OsString::from);
        for command in settings.into_iter().chain(commands) {
            argv.extend([OsString::from("-ex"), command]);
        }
        argv.push("--args".into());
        argv.push(self.program.clone().into());
        argv.extend(request.argv.iter().skip(1).cloned());
        let seen = self.gdb.run(&Request {
            argv,
            limits: Limits {
                wall: timeout.min(TIMEOUT),
                cpu: TIMEOUT,
                memory: request.limits.memory.saturating_add(2 << 30),
                output: 4 << 20,
                address_space: None,
                // Its own come to those of the program, which inherits the limit.
                open_files: request.limits.open_files.saturating_add(1024),
                ..request.limits.clone()
            },
            guard: None,
            env: [
                request.env.clone(),
                vec![("SHELL".into(), "/bin/sh".into())],
            ]
            .concat(),
            ..request.clone()
        });
        let at = seen.stdout.rfind(SEPARATOR)?;
        parse_backtrace(seen.stdout.get(at..)?)
    }
}

/// Parses the output of gdb's `backtrace` followed by `info proc mappings`; `None` when there
/// is no stack.
#[must_use]
pub(super) fn parse_backtrace(output: &[u8]) -> Option<Stack> {
    let text = String::from_utf8_lossy(output);
    let mut modules: Vec<_> = text.lines().filter_map(Module::parse).collect();
    name_shared_text(&mut modules);
    let mut frames = Vec::new();
    // The innermost frame, and one that a signal interrupted, is at an instruction.
    let mut is_return = false;
    for line in text.lines() {
        if line.starts_with('#') && line.contains("<signal handler called>") {
            is_return = false;
        } else if let Some(frame) = frame(line, &modules, is_return) {
            frames.push(frame);
            is_return = true;
        }
    }
    (!frames.is_empty()).then(|| Stack::new(frames))
}

/// A mapping of a file.
struct Module<'a> {
    start: u64,
    end: u64,
    path: &'a str,
}

impl<'a> Module<'a> {
    /// A line of `info proc mappings`: start, end, size, offset, rights (since gdb 12), file.
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let mut number = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
        let (start, end) = (number()?, number()?);
        let (_, _) = (number()?, number()?);
        let path = line.find(" /").map(|at| line[at + 1..].trim_end())?;
        // The kernel marks a file that was replaced, as by an upgrade.
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        Some(Self { start, end, path })
    }
}

/// Gives code that fork servers share the name of the program in whose place it is: that of the
/// mapping which it follows.
fn name_shared_text(modules: &mut [Module<'_>]) {
    for index in 1..modules.len() {
        let (before, rest) = modules.split_at_mut(index);
        if let (Some(before), Some(module)) = (before.last(), rest.first_mut())
            && module.path == TEXT_PATH
            && module.start == before.end
        {
            module.path = before.path;
        }
    }
}

/// A line of `backtrace`: `#1  0x00005555 in f (x=...) at ../a.c:12`, where the address is
/// left out for the innermost frame, `from MODULE` may stand in place of the line, and the
/// function may be `??`.
fn frame(line: &str, modules: &[Module<'_>], is_return: bool) -> Option<Frame> {
    let rest = line.strip_prefix('#')?;
    let number = rest.bytes().take_while(u8::is_ascii_digit).count();
    let rest = rest.get(number..).filter(|_| number > 0)?.trim_start();
    let (address, rest) = match rest.strip_prefix("0x").and_then(|r| r.split_once(" in ")) {
        Some((address, rest)) => (u64::from_str_radix(address, 16).ok(), rest),
        None => (None, rest),
    };
    let (name, rest) = rest.split_once(" (")?;
    let address = address.and_then(|address| in_module(address, modules, is_return));
    // Some versions of gdb leave the name out.
    if name == "??" || name.is_empty() {
        let name = address.as_ref().map_or("??".into(), ToString::to_string);
        return Some(Frame {
            address,
            ..Frame::named(name)
        });
    }
    let place = rest.rsplit_once(" at ").and_then(|(_, place)| {
        let (path, line) = place.rsplit_once(':')?;
        Some((file(path), line.parse().ok()?))
    });
    Some(Frame {
        name: function(name),
        place,
        address,
    })
}

/// An address as an offset into its mapped file: `qemu-img+0x1169`.
fn in_module(address: u64, modules: &[Module<'_>], is_return: bool) -> Option<Address> {
    let inside = modules
        .iter()
        .find(|m| (m.start..m.end).contains(&address))?;
    let base = modules.iter().filter(|m| m.path == inside.path);
    let base = base.map(|m| m.start).min().unwrap_or(inside.start);
    Some(Address {
        module: inside.path.into(),
        offset: address - base,
        is_return,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OUTPUT: &str = "\
Program received signal SIGSEGV, Segmentation fault.
0x0000555555555169 in ?? ()
#0  0x0000555555555169 in ?? ()
#1  0x0000555555555176 in qcow2_open.part.0 (bs=..., options=...) at ../../block/qcow2.c:2000
#2  inner (p=...) at /build/qemu-10.0/util/a.c:5
#3  0x00007ffff7dfc24a in g_main (x=...) from /lib/x86_64-linux-gnu/libglib-2.0.so.0
#4  0x00007ffff7dfc24b in __libc_start_call_main (main=...) at ../sysdeps/x.h:58
#5  0x00005555555550a1 in _start ()
process 4850
Mapped address spaces:

          Start Addr           End Addr       Size     Offset  Perms  objfile
      0x555555554000     0x555555555000     0x1000        0x0  r--p   /usr/bin/qemu-img
      0x555555555000     0x555555556000     0x1000     0x1000  r-xp   /usr/bin/qemu-img
      0x7ffff7dd2000     0x7ffff7dd5000     0x3000        0x0  rw-p   
";

    #[test]
    fn a_stack_is_read() {
        let stack = parse_backtrace(OUTPUT.as_bytes()).unwrap();
        assert_eq!(
            stack.to_string(),
            "#0 qemu-img+0x1169\n#1 qcow2_open (block/qcow2.c:2000)\n\
             #2 inner (util/a.c:5)\n#3 g_main\n"
        );
        assert_eq!(
            stack.key(2).map(|frames| frames.to_string()).as_deref(),
            Some("qemu-img+0x1169 < qcow2_open")
        );
    }

    /// gdb 13 has no name where it knows none, and others have `??`.
    #[test]
    fn a_frame_without_a_name_is_read() {
        let output = OUTPUT.replace(
            "#0  0x0000555555555169 in ?? ()",
            "#0  0x0000555555555169 in  ()",
        );
        assert_ne!(output, OUTPUT);
        let stack = parse_backtrace(output.as_bytes()).unwrap();
        assert_eq!(stack.frames[0].name, "qemu-img+0x1169");
    }

    #[test]
    fn a_replaced_program_keeps_its_name() {
        let output = OUTPUT.replace("/usr/bin/qemu-img", "/usr/bin/qemu-img (deleted)");
        let stack = parse_backtrace(output.as_bytes()).unwrap();
        assert_eq!(stack.frames[0].name, "qemu-img+0x1169");
    }

    /// The code of a program under a fork server that notes blocks is in a file in memory.
    #[test]
    fn shared_code_is_that_of_the_program() {
        let own = "0x1000     0x1000  r-xp   /usr/bin/qemu-img";
        let shared = format!("0x1000        0x0  rwxp   {TEXT_PATH} (deleted)");
        let output = OUTPUT.replace(own, &shared);
        assert_ne!(output, OUTPUT);
        let stack = parse_backtrace(output.as_bytes()).unwrap();
        assert_eq!(stack.frames[0].name, "qemu-img+0x1169");
        // The same with all traps is elsewhere, and no part of the program.
        let elsewhere = output.replace("0x555555555000     0x555", "0x555555555800     0x555");
        let stack = parse_backtrace(elsewhere.as_bytes()).unwrap();
        assert_ne!(stack.frames[0].name, "qemu-img+0x1169");
    }

    #[test]
    fn output_without_a_stack_gives_none() {
        let text = b"[Inferior 1 (process 3) exited normally]\nNo stack.\n";
        assert_eq!(parse_backtrace(text), None);
    }

    proptest! {
        #[test]
        fn arbitrary_output_does_not_panic(text in r"(#1 |0x7 |0x| in |\?\?| \(| at |:|\n| /a|9){0,30}") {
            let _ = parse_backtrace(text.as_bytes());
        }
    }
}
