//! The overhead of the fuzzer: a campaign of one short command, compared with a bare loop over
//! the fork server that runs the same command on one valid image, with as many workers.
//!
//! `cargo bench -p image-fuzzer --bench campaign [-- SECONDS]`

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use image_fuzzer::campaign::{Campaign, Plan, Stats, Summary, SweepMode, default_workers};
use image_fuzzer::commands::{Command, Programs};
use image_fuzzer::exec::{End, ExecOptions, Limits, Request, for_program};
use image_fuzzer::input::guard::{Guard, GuardMode, GuardPlan};
use image_fuzzer::oracle::runner::Settings;

/// How often each is measured, alternating, since other work on the machine comes and goes.
const ROUNDS: u32 = 3;

/// The shortest command that opens an image.
const COMMAND: [&str; 3] = ["qemu-img", "info", "$test_img"];

fn main() -> Result<()> {
    // Cargo adds options of its own.
    let seconds = std::env::args()
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(10);
    let time = Duration::from_secs(seconds);
    let workers = default_workers();
    let (mut bare, mut ours) = (0.0, 0.0);
    for round in 1..=ROUNDS {
        let loops = bare_loop(workers, time, None)?;
        let summary = campaign(workers, time, Some(COMMAND), GuardPlan::Off)?;
        let images = per_second(&summary.stats, time).0;
        println!("round {round}: bare loop {loops:4.0} runs/s, campaign {images:4.0} images/s");
        bare += loops / f64::from(ROUNDS);
        ours += images / f64::from(ROUNDS);
    }
    println!(
        "{} with {workers} workers: {ours:.0} of {bare:.0} a second, {:.0} %",
        COMMAND[..2].join(" "),
        ours / bare * 100.0
    );
    guard(workers, time)?;
    let summary = campaign(workers, time, None, GuardPlan::Off)?;
    let (images, commands) = per_second(&summary.stats, time);
    println!(
        "commands drawn at random, those of the oracles included: {images:.0} images/s, \
         {commands:.0} commands/s, {:.0} % of the bare loop, {:.0} % opened",
        commands / bare * 100.0,
        summary.stats.opened_percent()
    );
    println!("{}", summary.totals.line().unwrap_or_default());
    Ok(())
}

/// Measures runs under the guarding allocator against runs without, by turns.
fn guard(workers: usize, time: Duration) -> Result<()> {
    let modes = [GuardMode::Ends, GuardMode::Starts, GuardMode::All];
    let mut plain = 0.0;
    let mut rates = modes.map(|_| 0.0);
    for _ in 0..ROUNDS {
        plain += bare_loop(workers, time, None)?;
        for (rate, mode) in rates.iter_mut().zip(modes) {
            let guard = Guard {
                mode,
                fill: 0xa5,
                compare: false,
            };
            *rate += bare_loop(workers, time, Some(guard))?;
        }
    }
    let shown = modes
        .iter()
        .zip(rates)
        .map(|(mode, rate)| format!("{} {:.0} %", mode.word(), rate / plain * 100.0));
    println!(
        "runs a second under the guard, of {:.0} without: {}",
        plain / f64::from(ROUNDS),
        shown.collect::<Vec<_>>().join(", ")
    );
    for (name, plan) in [("no guard", GuardPlan::Off), ("a share", GuardPlan::Share)] {
        let summary = campaign(workers, time, Some(COMMAND), plan)?;
        let (images, commands) = per_second(&summary.stats, time);
        println!("campaign, {name}: {images:.0} images/s, {commands:.0} commands/s");
    }
    Ok(())
}

/// Images and commands a second.
fn per_second(stats: &Stats, time: Duration) -> (f64, f64) {
    let rate = |count: u64| count as f64 / time.as_secs_f64();
    (rate(stats.images), rate(stats.commands))
}

/// How many runs a second `workers` make of the command on a valid image.
fn bare_loop(workers: usize, time: Duration, guard: Option<Guard>) -> Result<f64> {
    let began = Instant::now();
    let runs = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|_| scope.spawn(|| one_loop(began + time, guard)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a worker panicked"))?)
            .sum::<Result<u32>>()
    })?;
    Ok(f64::from(runs) / time.as_secs_f64())
}

/// Runs until `end`, and gives how often.
fn one_loop(end: Instant, guard: Option<Guard>) -> Result<u32> {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    let options = ExecOptions::new(folder.path().join("w"));
    let mut executor = for_program(Path::new(COMMAND[0]), &options)?;
    let run = |words: &[&str], executor: &mut dyn image_fuzzer::exec::Executor| {
        let argv: Vec<OsString> = words.iter().map(Into::into).collect();
        let mut request = Request::new(argv, &options.scratch);
        request.guard = guard;
        executor.run(&request).end
    };
    let create = ["qemu-img", "create", "-f", "qcow2", "$test_img", "1M"];
    let made = run(&create, &mut *executor);
    ensure!(made == End::Exit(0), "cannot create an image: {made:?}");
    let mut runs = 0;
    while Instant::now() < end {
        let seen = run(&COMMAND, &mut *executor);
        ensure!(seen == End::Exit(0), "the image cannot be read: {seen:?}");
        runs += 1;
    }
    Ok(runs)
}

/// A campaign in a folder of its own.
fn campaign(
    workers: usize,
    time: Duration,
    command: Option<[&str; 3]>,
    guard: GuardPlan,
) -> Result<Summary> {
    let folder = tempfile::tempdir().context("cannot create a folder for a campaign")?;
    let settings = Settings {
        limits: Limits {
            wall: Duration::from_secs(5),
            ..Limits::default()
        },
        ..Settings::new(Programs::from_env()?, folder.path())
    };
    let campaign = Campaign {
        seed: Some("benchmark".into()),
        plan: Plan {
            commands: command.map(|words| vec![Command::new(words)]),
            guard,
            ..Plan::default()
        },
        sweep: SweepMode::Off,
        duration: Some(time),
        workers,
        ..Campaign::new(folder.path(), settings)
    };
    let summary = campaign.run(&Arc::new(AtomicBool::new(false)))?;
    ensure!(summary.error.is_none(), "{:?}", summary.error);
    Ok(summary)
}
