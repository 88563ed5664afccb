//! Programs under test and what they run under: gdbserver, valgrind.

use std::ffi::{OsStr, OsString};

use anyhow::{Context as _, Result};
use tokio::process::Command;

use crate::env::Env;

/// The exit status that valgrind gives a program with errors.
pub(crate) const VALGRIND_STATUS: i32 = 99;

/// The most bytes that valgrind takes for a stack frame; a stack pointer that moves
/// further has switched stacks. QEMU's coroutines have stacks of 1 MiB, often
/// side by side, and distributions build it without announcing them to valgrind: with
/// valgrind's default of 2 MB, a switch between neighbours looks like a frame, and what
/// is between them is taken as undefined.
const VALGRIND_MAX_STACKFRAME: u32 = 256 * 1024;

/// A kind of program under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `qemu-img`.
    Img,
    /// `qemu-io`.
    Io,
    /// `qemu-nbd`.
    Nbd,
    /// `qemu-storage-daemon`.
    Qsd,
    /// The emulator.
    Vm,
}

impl Kind {
    /// What it is called in a golden.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Img => "qemu-img",
            Self::Io => "qemu-io",
            Self::Nbd => "qemu-nbd",
            Self::Qsd => "qemu-storage-daemon",
            Self::Vm => "qemu-system",
        }
    }

    fn under_valgrind(self, env: &Env) -> bool {
        match self {
            Self::Img => env.valgrind.img,
            Self::Io => env.valgrind.io,
            Self::Nbd => env.valgrind.nbd,
            Self::Qsd => env.valgrind.qsd,
            Self::Vm => env.valgrind.vm,
        }
    }
}

/// The program of this kind.
///
/// # Errors
///
/// Fails if it is not installed.
pub(crate) fn program(env: &Env, kind: Kind) -> Result<&std::path::Path> {
    let found = match kind {
        Kind::Img => &env.programs.img,
        Kind::Io => &env.programs.io,
        Kind::Nbd => &env.programs.nbd,
        Kind::Qsd => &env.programs.qsd,
        Kind::Vm => &env.programs.qemu,
    };
    found
        .as_deref()
        .with_context(|| format!("{} is not installed", kind.name()))
}

/// The words that start a program, its wrapper included.
pub(crate) fn line(env: &Env, kind: Kind, args: &[OsString]) -> Result<Vec<OsString>> {
    let program = program(env, kind)?;
    let mut words: Vec<OsString> = Vec::new();
    let gdb = env
        .gdb
        .as_ref()
        .filter(|_| matches!(kind, Kind::Vm | Kind::Qsd));
    // gdbserver traces, which nothing can do under valgrind.
    if kind.under_valgrind(env) && gdb.is_none() {
        let mut log = OsString::from("--log-file=");
        log.push(env.test_dir.join("%p.valgrind"));
        words.extend(["valgrind".into(), log]);
        words.push(format!("--error-exitcode={VALGRIND_STATUS}").into());
        words.push(format!("--max-stackframe={VALGRIND_MAX_STACKFRAME}").into());
    }
    if let Some(options) = gdb {
        words.push("gdbserver".into());
        words.extend(options.iter().map(OsString::from));
    }
    words.push(program.into());
    words.extend(args.iter().cloned());
    Ok(words)
}

/// The command that starts a program. Its messages are in English, its clock is
/// in UTC, and it is killed when the command is dropped.
pub(crate) fn command(env: &Env, kind: Kind, args: &[OsString]) -> Result<Command> {
    let words = line(env, kind, args)?;
    let (first, rest) = words.split_first().context("an empty command")?;
    let mut command = Command::new(first);
    command.args(rest);
    set_environment(env, &mut command);
    Ok(command)
}

/// Sets the environment that every program under test gets.
pub(crate) fn set_environment(env: &Env, command: &mut Command) {
    command
        .env("SSH_AUTH_SOCK", env.ssh_agent_socket())
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env_remove("LANGUAGE");
    command.kill_on_drop(true);
}

/// A command as a line for a shell.
pub(crate) fn shown(command: &Command) -> String {
    let command = command.as_std();
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|w: &OsStr| w.to_string_lossy().into_owned())
        .collect();
    crate::words::join(&words)
}

/// Removes the log that valgrind wrote for a process; returns it where valgrind
/// found something.
pub(crate) fn valgrind_log(
    env: &Env,
    kind: Kind,
    pid: Option<u32>,
    status: Option<i32>,
) -> Option<Vec<u8>> {
    if !kind.under_valgrind(env) {
        return None;
    }
    let path = env.test_dir.join(format!("{}.valgrind", pid?));
    let log = std::fs::read(&path).ok();
    let _ = std::fs::remove_file(&path);
    log.filter(|_| status == Some(VALGRIND_STATUS))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn env(vars: &[(&str, &str)]) -> Env {
        let mut env = crate::env::of(vars);
        env.programs.img = Some(PathBuf::from("/b/qemu-img"));
        env.programs.qsd = Some(PathBuf::from("/b/qsd"));
        env
    }

    fn words(env: &Env, kind: Kind) -> String {
        let words = line(env, kind, &["info".into()]).expect("installed");
        words
            .iter()
            .map(|w| w.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn nothing_wraps_by_default() {
        assert_eq!(words(&env(&[]), Kind::Img), "/b/qemu-img info");
    }

    #[test]
    fn valgrind_writes_a_log_per_process() {
        let e = env(&[("VALGRIND_QEMU", "y"), ("TEST_DIR", "/d")]);
        assert_eq!(
            words(&e, Kind::Img),
            "valgrind --log-file=/d/%p.valgrind --error-exitcode=99 --max-stackframe=262144 \
             /b/qemu-img info"
        );
    }

    #[test]
    fn gdbserver_is_for_daemons() {
        let e = env(&[("GDB_OPTIONS", "localhost:1")]);
        assert_eq!(words(&e, Kind::Img), "/b/qemu-img info");
        assert_eq!(words(&e, Kind::Qsd), "gdbserver localhost:1 /b/qsd info");
        let e = env(&[("GDB_OPTIONS", "localhost:1"), ("VALGRIND_QEMU", "y")]);
        assert!(words(&e, Kind::Img).starts_with("valgrind "));
        assert_eq!(words(&e, Kind::Qsd), "gdbserver localhost:1 /b/qsd info");
    }

    #[test]
    fn a_missing_program_is_named() {
        let mut e = env(&[]);
        e.programs.img = None;
        let error = line(&e, Kind::Img, &[]).expect_err("missing").to_string();
        assert_eq!(error, "qemu-img is not installed");
    }
}
