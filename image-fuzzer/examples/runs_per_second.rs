//! Runs a program over and over and prints how many runs a second that gave: by fork server,
//! by spawning, and by the standard library without a sandbox or limits; and the CPU time of a
//! run, the program's included, which means more on a busy machine.
//!
//! `cargo run --release --example runs_per_second -- JOBS SECONDS qemu-img info IMAGE`

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use image_fuzzer::exec::{End, ExecOptions, Request, for_program};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Runs a command over and over for some time, in a working folder; how often.
type Method = fn(&Path, &[OsString], Duration) -> anyhow::Result<u32>;

const USAGE: &str = "usage: JOBS SECONDS PROGRAM [ARG...]";

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let mut number = || -> anyhow::Result<u64> {
        let word = args.next().context(USAGE)?;
        word.to_string_lossy().parse().context(USAGE)
    };
    let (jobs, seconds) = (number()?, number()?);
    let argv: Vec<OsString> = args.collect();
    anyhow::ensure!(!argv.is_empty(), USAGE);
    let methods: [(&str, Method); 4] = [
        ("fork server", |f, a, t| contained(f, a, t, true, true)),
        ("fork server, no sandbox", |f, a, t| {
            contained(f, a, t, true, false)
        }),
        ("spawn", |f, a, t| contained(f, a, t, false, true)),
        ("std::process::Command", plain),
    ];
    for (name, method) in methods {
        let time = Duration::from_secs(seconds);
        let before = cpu_time()?;
        let runs: u32 = std::thread::scope(|scope| {
            let start = || {
                let argv = &argv;
                scope.spawn(move || method(tempfile::tempdir()?.path(), argv, time))
            };
            let threads: Vec<_> = (0..jobs).map(|_| start()).collect();
            let results = threads.into_iter().map(|thread| match thread.join() {
                Ok(runs) => runs,
                Err(_) => bail!("a thread failed"),
            });
            results.sum::<anyhow::Result<u32>>()
        })?;
        let rate = f64::from(runs) / time.as_secs_f64();
        let each = (cpu_time()? - before).as_micros() / u128::from(runs.max(1));
        println!("{name:24} {rate:6.0} runs/s with {jobs} jobs, {each:6} us of CPU time each");
    }
    Ok(())
}

/// CPU time of this process and of the children it has waited for.
fn cpu_time() -> anyhow::Result<Duration> {
    let mut time = Duration::ZERO;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        for part in [usage.user_time(), usage.system_time()] {
            let micros = u64::try_from(part.num_microseconds())?;
            time += Duration::from_micros(micros);
        }
    }
    Ok(time)
}

/// Runs through an executor until time is up; how often.
fn contained(
    folder: &Path,
    argv: &[OsString],
    time: Duration,
    fork_server: bool,
    sandbox: bool,
) -> anyhow::Result<u32> {
    let options = ExecOptions {
        readable: vec!["/".into()],
        fork_server,
        sandbox,
        ..ExecOptions::new(folder.join("scratch"))
    };
    let mut executor = for_program(&PathBuf::from(&argv[0]), &options)?;
    if let Some(note) = executor.notes().first() {
        bail!("{note}");
    }
    let request = Request::new(argv.to_vec(), std::env::current_dir()?);
    repeat(time, || match executor.run(&request).end {
        End::NotStarted(why) => bail!("{why}"),
        _ => Ok(()),
    })
}

/// Runs without a sandbox or limits until time is up; how often.
fn plain(_: &Path, argv: &[OsString], time: Duration) -> anyhow::Result<u32> {
    let mut command = Command::new(&argv[0]);
    command
        .args(&argv[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    repeat(time, || {
        command.status()?;
        Ok(())
    })
}

fn repeat(time: Duration, mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<u32> {
    let began = Instant::now();
    let mut runs = 0;
    while began.elapsed() < time {
        run()?;
        runs += 1;
    }
    Ok(runs)
}
