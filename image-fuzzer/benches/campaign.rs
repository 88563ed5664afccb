//! The overhead of the fuzzer: a campaign of one short command, compared with a bare loop over
//! the fork server that runs the same command on one valid image, with as many workers; and
//! what it gains that the server forks late, and what it costs to note blocks.
//!
//! `cargo bench -p image-fuzzer --bench campaign [-- SECONDS [coverage]]`

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use image_fuzzer::campaign::{Campaign, Plan, Stats, Summary, SweepMode, default_workers, fresh};
use image_fuzzer::commands::{Command, Programs};
use image_fuzzer::exec::blocks::ProgramBlocks;
use image_fuzzer::exec::{End, ExecOptions, Executor, Limits, Request, for_program};
use image_fuzzer::input::guard::{Guard, GuardMode, GuardPlan};
use image_fuzzer::input::recipe::Recipe;
use image_fuzzer::oracle::runner::{Settings, TestRunner};
use image_mutations::case::Maker;
use image_mutations::named_file::NamedFile;

/// How often each is measured, alternating, since other work on the machine comes and goes.
const ROUNDS: u32 = 3;

/// The shortest command that opens an image.
const COMMAND: [&str; 3] = ["qemu-img", "info", "$test_img"];

/// A short one of the other program.
const QEMU_IO: [&str; 4] = ["qemu-io", "-c", "read 0 64k", "$test_img"];

fn main() -> Result<()> {
    // Cargo adds options of its own.
    let seconds = std::env::args()
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(10);
    let time = Duration::from_secs(seconds);
    let workers = default_workers();
    // One of the parts, where a word names it.
    if std::env::args().any(|arg| arg == "coverage") {
        return coverage(time);
    }
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
    late_fork(time)?;
    coverage(time)?;
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

/// Measures fork servers that fork at the program's first option against those that fork
/// before `main`: a few runs of each alternately, in one thread.
///
/// What remains of a run of `qemu-img info` is the kernel's for the most part: 220 page faults
/// where there were 265 (mostly text that each child maps anew, 16 pages at a time, and pages
/// that it copies to write to them), the copy of the page tables and their removal, and the
/// thread that QEMU starts again in each child. Mapping the pages at once with
/// `MADV_POPULATE_READ` or `MADV_POPULATE_WRITE` takes longer than the faults. The executor's
/// own part is about 6 %. `qemu-io` reads its options first thing in `main`, so that only its
/// constructors are saved.
fn late_fork(time: Duration) -> Result<()> {
    const BATCH: u32 = 20;
    for command in [&COMMAND[..], &QEMU_IO] {
        let folder = folder()?;
        let runs = |late_fork| {
            let options = ExecOptions {
                late_fork,
                ..ExecOptions::new(folder.path().join("w"))
            };
            Runs::new(command, &options, None)
        };
        let mut ways = [runs(None)?, runs(Some(0))?];
        let end = Instant::now() + 2 * time;
        while Instant::now() < end {
            for way in &mut ways {
                for _ in 0..BATCH {
                    way.once()?;
                }
            }
        }
        let [early, late] = ways.map(|way| {
            let count = f64::from(way.count);
            (
                count / way.wall.as_secs_f64(),
                way.cpu.as_secs_f64() / count,
            )
        });
        println!(
            "{}: forked late {:.0} runs/s, early {:.0} runs/s, {:.2} times; CPU time of the \
             program {:.0} us and {:.0} us, {:.2} times",
            command[0],
            late.0,
            early.0,
            late.0 / early.0,
            late.1 * 1e6,
            early.1 * 1e6,
            early.1 / late.1,
        );
    }
    Ok(())
}

/// Measures what it costs to note blocks: the same tests with and without, in one thread, by
/// turns and in both orders, once all that they reach is known. No feedback is involved.
fn coverage(time: Duration) -> Result<()> {
    const TESTS: usize = 60;
    let plans = [
        ("info", Some(vec![Command::new(COMMAND)])),
        ("commands drawn at random", None),
    ];
    for (name, commands) in plans {
        let plan = Plan {
            commands,
            ..Plan::default()
        };
        let mut maker = Maker::default();
        let mut tests = Vec::new();
        for number in 0.. {
            let recipe = fresh(&format!("coverage/{}", number + 1000), &plan, &mut maker)?;
            let files = maker.files(&recipe.base, &recipe.edits)?;
            tests.push((recipe, files));
            if tests.len() == TESTS {
                break;
            }
        }
        let mut ways = [Way::new(false)?, Way::new(true)?];
        // What takes long measures the machine, and the first rounds reach new blocks.
        let mut short = Vec::new();
        for (recipe, files) in tests {
            let took = ways[0].test(&recipe, &files)?;
            if took < Duration::from_millis(100) {
                short.push((recipe, files));
            }
        }
        for _ in 0..4 {
            ways[0].round(&short)?;
            ways[1].round(&short)?;
        }
        for way in &mut ways {
            (way.wall, way.cpu) = (Vec::new(), Vec::new());
        }
        let end = Instant::now() + 2 * time;
        while Instant::now() < end {
            for way in [0, 1, 1, 0] {
                ways[way].round(&short)?;
            }
        }
        let [without, with] = &ways;
        println!(
            "blocks noted, {name}: {:.3} times the time and {:.3} times the CPU time of {} tests \
             without ({:.1} ms); a run that notes all blocks takes {:.2} times as long",
            median(&with.wall) / median(&without.wall),
            median(&with.cpu) / median(&without.cpu),
            short.len(),
            median(&without.wall) * 1e3,
            ways[1].traces(&short)? / median(&ways[1].wall),
        );
    }
    Ok(())
}

/// A way of running tests.
struct Way {
    _folder: tempfile::TempDir,
    runner: TestRunner,
    /// Time on the clock and CPU time of the programs, in seconds, for each round.
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Way {
    fn new(blocks: bool) -> Result<Self> {
        let folder = folder()?;
        let settings = Settings {
            blocks: blocks.then(|| Arc::new(ProgramBlocks::new(Vec::new()))),
            ..Settings::new(Programs::from_env()?, folder.path())
        };
        Ok(Self {
            runner: TestRunner::new(settings)?,
            _folder: folder,
            wall: Vec::new(),
            cpu: Vec::new(),
        })
    }

    fn test(&mut self, recipe: &Recipe, files: &[NamedFile]) -> Result<Duration> {
        let began = Instant::now();
        self.runner.run(recipe, files)?;
        Ok(began.elapsed())
    }

    fn round(&mut self, tests: &[(Recipe, Vec<NamedFile>)]) -> Result<()> {
        let (began, mut cpu) = (Instant::now(), Duration::ZERO);
        for (recipe, files) in tests {
            cpu += self.runner.run(recipe, files)?.cpu;
        }
        self.wall.push(began.elapsed().as_secs_f64());
        self.cpu.push(cpu.as_secs_f64());
        Ok(())
    }

    /// How long a round of runs takes that note all blocks, in seconds.
    fn traces(&mut self, tests: &[(Recipe, Vec<NamedFile>)]) -> Result<f64> {
        let began = Instant::now();
        for (recipe, files) in tests {
            self.runner.trace_blocks(recipe, files)?;
        }
        Ok(began.elapsed().as_secs_f64())
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Measures runs under the guarding allocator against runs without, alternately.
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
    let folder = folder()?;
    let options = ExecOptions::new(folder.path().join("w"));
    let mut runs = Runs::new(&COMMAND, &options, guard)?;
    while Instant::now() < end {
        runs.once()?;
    }
    Ok(runs.count)
}

/// A temporary folder, in memory where that is possible.
fn folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    folder.context("cannot create a folder for runs")
}

/// Runs of one command on a valid image.
struct Runs {
    executor: Box<dyn Executor>,
    request: Request,
    /// How many there were, their time on the clock, and the program's CPU time.
    count: u32,
    wall: Duration,
    cpu: Duration,
}

impl Runs {
    /// Makes the image in the scratch folder of `options`.
    fn new(command: &[&str], options: &ExecOptions, guard: Option<Guard>) -> Result<Self> {
        let request = |words: &[&str]| {
            let argv: Vec<OsString> = words.iter().map(Into::into).collect();
            Request::new(argv, &options.scratch)
        };
        let create = ["qemu-img", "create", "-f", "qcow2", "$test_img", "1M"];
        let made = for_program(Path::new(create[0]), options)?.run(&request(&create));
        ensure!(made.end == End::Exit(0), "cannot create an image: {made:?}");
        Ok(Self {
            executor: for_program(Path::new(command[0]), options)?,
            request: Request {
                guard,
                ..request(command)
            },
            count: 0,
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
        })
    }

    fn once(&mut self) -> Result<()> {
        let began = Instant::now();
        let seen = self.executor.run(&self.request);
        self.wall += began.elapsed();
        self.cpu += seen.cpu;
        self.count += 1;
        ensure!(
            seen.end == End::Exit(0),
            "the image cannot be read: {seen:?}"
        );
        Ok(())
    }
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
