//! `-- COMMAND`: one program, in the environment of a test.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGINT, SIGQUIT};

use super::{say, var};
use crate::args::LowArgs;
use crate::environment::{Environment, sock_dir};
use crate::plan::combos;
use crate::programs::installed;
use crate::run::Places;
use crate::tree::Tree;
use crate::words;

/// How a test that `$PYTHON` runs begins.
const PYTHON: &[u8] = b"#!/usr/bin/env python3";

/// Prints the header, then runs `words` in the directory that the program lives
/// in, with the environment of a test. Gives its exit status.
pub(super) fn run(tree: &Tree, args: &LowArgs, cwd: &Path, words: &[OsString]) -> Result<u8> {
    let Some((name, rest)) = words.split_first() else {
        bail!("missing command after '--'");
    };
    if let Some(test) = args.tests.first() {
        bail!("a command after '--' cannot be combined with test {test}");
    }
    let combos = combos(args);
    let [combo] = combos.as_slice() else {
        bail!(
            "a command after '--' runs under one combination, not {}",
            combos.len()
        );
    };
    let env = Environment::new(tree, args, &combo.qemu, cwd, &var)?;
    std::fs::create_dir_all(&env.test_dir)
        .with_context(|| format!("cannot create {}", env.test_dir.display()))?;
    let asked = sock_dir(cwd, &var);
    let places = Places::new(&env.test_dir, asked.as_deref(), &[])?;
    let test_dir = places.link().unwrap_or(&env.test_dir);
    say(&header(&env, combo, places.sockets()))?;

    let path = var("PATH").unwrap_or_default();
    let Some(program) = installed(name, &path) else {
        bail!("command not found: {}", name.to_string_lossy());
    };
    let program = program
        .canonicalize()
        .with_context(|| format!("cannot find {}", program.display()))?;
    let mut command = if starts_with_python(&program) {
        let mut python = Command::new(&env.python);
        python.arg(&program);
        python
    } else {
        Command::new(&program)
    };
    command
        .args(rest)
        .args(args.debug.then_some("-d"))
        .env_clear()
        .envs(env.of(combo, test_dir, places.sockets()))
        .current_dir(program.parent().unwrap_or(Path::new("/")));
    wait(&mut command, &program)
}

/// Runs `command` to its end. The keys that interrupt are for it, not for us: we
/// stay to tidy up.
fn wait(command: &mut Command, program: &Path) -> Result<u8> {
    for signal in [SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
            .context("cannot handle signals")?;
    }
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    // As a shell has it: 128 and the signal.
    let code = status.code().or(status.signal().map(|s| 128 + s));
    Ok(code
        .and_then(|c| u8::try_from(c).ok())
        .unwrap_or(crate::exit::FAILED))
}

fn starts_with_python(program: &Path) -> bool {
    let mut start = Vec::new();
    let read = std::fs::File::open(program).and_then(|file| {
        use std::io::Read as _;
        file.take(256).read_to_end(&mut start)
    });
    let first = start.split(|&b| b == b'\n').next().unwrap_or_default();
    read.is_ok() && first.trim_ascii_end() == PYTHON
}

fn header(env: &Environment, combo: &Arc<crate::model::Combo>, sock_dir: &Path) -> String {
    let lines = env.header(std::slice::from_ref(combo), sock_dir);
    words::header(&lines, None, "") + "\n"
}
