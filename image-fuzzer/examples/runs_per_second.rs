//! Runs a program over and over and prints how many runs a second that gave, by fork server
//! and by plain starts.
//!
//! `cargo run --release --example runs_per_second -- 5 qemu-img info IMAGE`

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use image_fuzzer::exec::{End, ExecOptions, Request, for_program};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let seconds = args.next().context("usage: SECONDS PROGRAM [ARG...]")?;
    let seconds: u64 = seconds.to_string_lossy().parse().context("SECONDS")?;
    let argv: Vec<OsString> = args.collect();
    let program = PathBuf::from(argv.first().context("no program")?);
    for (fork_server, sandbox) in [(true, true), (true, false), (false, true), (false, false)] {
        let folder = tempfile::tempdir()?;
        let options = ExecOptions {
            readable: vec!["/".into()],
            fork_server,
            sandbox,
            ..ExecOptions::new(folder.path().join("scratch"))
        };
        let mut executor = for_program(&program, &options)?;
        for note in executor.notes() {
            println!("{note}");
        }
        let request = Request::new(argv.clone(), std::env::current_dir()?);
        let began = Instant::now();
        let mut runs = 0_u32;
        let mut cpu = Duration::ZERO;
        let mut last = None;
        while began.elapsed() < Duration::from_secs(seconds) {
            let seen = executor.run(&request);
            if let End::NotStarted(why) = seen.end {
                bail!("{why}");
            }
            cpu += seen.cpu;
            runs += 1;
            last = Some(seen);
        }
        println!(
            "{:12} {:6.0} runs/s, {:4} us processor time a run ({}), {:?}",
            executor.name(),
            f64::from(runs) / began.elapsed().as_secs_f64(),
            (cpu / runs).as_micros(),
            executor.sandbox(),
            last.map(|seen| seen.end),
        );
    }
    Ok(())
}
