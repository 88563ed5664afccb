//! How long `check -n` takes over 300 tests: its start, the reading of every
//! header, the selection.
//!
//! `cargo bench --bench dry_run`

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How many tests the suite has.
const TESTS: usize = 300;
/// How often it is measured.
const ROUNDS: usize = 30;
/// What it may take.
const AIM: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_suite(dir.path())?;
    for options in [&["-n"][..], &["-n", "-qcow2"]] {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.push(dry_run(dir.path(), options)?);
        }
        times.sort();
        println!(
            "check {} over {TESTS} tests: {:.1} ms at best, {:.1} ms in the middle (aim: under {} ms)",
            options.join(" "),
            millis(times[0]),
            millis(times[ROUNDS / 2]),
            AIM.as_millis(),
        );
    }
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Tests of the length that tests have.
fn write_suite(dir: &Path) -> Result<()> {
    let body = "# A line of a test, as long as such lines are.\n".repeat(80);
    for n in 0..TESTS {
        let text = format!("#!/bin/sh\n# group: rw auto quick\n#\n{body}_supported_fmt qcow2\n");
        std::fs::write(dir.join(format!("{n:03}")), text)?;
    }
    Ok(())
}

fn dry_run(dir: &Path, options: &[&str]) -> Result<Duration> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_check"));
    command.args(options).current_dir(dir).stdin(Stdio::null());
    let start = Instant::now();
    let output = command.output().context("cannot run check")?;
    let time = start.elapsed();
    let lines = output.stdout.split(|&b| b == b'\n').count() - 1;
    ensure!(
        lines == TESTS,
        "check -n has named {lines} of {TESTS} tests"
    );
    Ok(time)
}
