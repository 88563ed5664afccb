//! What the runner itself costs: empty tests under it, against a bare loop that
//! spawns the same files, as many at once on the same CPUs.
//!
//! `cargo bench --bench own_cost [-- TESTS [AT_ONCE]]`

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use check::golden;
use check::history::Past;
use check::model::{Combo, Finished, Job, JobId, Start, Test};
use check::run::{Parallel, RunHost, Settings, run};
use childproc::Keeper;

/// How often each of the two is measured; the best counts, since whatever else
/// runs on the machine only ever adds.
const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let keeper = Keeper::start().context("failed to start the keeper")?;
    // Cargo adds options of its own.
    let mut numbers = std::env::args().filter_map(|arg| arg.parse().ok());
    let count = numbers.next().unwrap_or(1000);
    let at_once = match numbers.next() {
        Some(at_once) => at_once,
        None => std::thread::available_parallelism()?.get(),
    };
    let dir = tempfile::tempdir()?;
    let suite = Suite::new(dir.path(), count)?;

    let (mut bare, mut ours) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        bare = bare.min(spawn_loop(&suite, at_once)?);
        ours = ours.min(under_the_runner(&keeper, &suite, at_once)?);
    }
    let each = |time: Duration| time.as_secs_f64() * 1000.0 / count as f64;
    println!("{count} empty tests, {at_once} at once, best of {ROUNDS}:");
    println!(
        "  bare loop  {:8.3} s  {:.3} ms a test",
        bare.as_secs_f64(),
        each(bare)
    );
    println!(
        "  runner     {:8.3} s  {:.3} ms a test",
        ours.as_secs_f64(),
        each(ours)
    );
    println!("  own cost   {:.3} ms a test", each(ours) - each(bare));
    println!("  most memory of the runner: {}", most_memory());
    Ok(())
}

/// Spawns every file, as its test would be, and waits for it.
fn spawn_loop(suite: &Suite, at_once: usize) -> Result<Duration> {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once)
            .map(|n| {
                let next = &next;
                scope.spawn(move || spawn_some(suite, n, next))
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(began.elapsed())
    })
}

/// Spawns one file after the other for as long as there is one.
fn spawn_some(suite: &Suite, thread: usize, next: &AtomicUsize) -> Result<()> {
    while let Some(job) = suite.jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
        let output = File::create(suite.dir.join(format!("bare.{thread}")))?;
        let status = Command::new(&job.test.source)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()?;
        ensure!(status.success(), "a test failed: {status}");
    }
    Ok(())
}

/// Runs every test as `check` does.
fn under_the_runner(keeper: &Keeper, suite: &Suite, at_once: usize) -> Result<Duration> {
    let mut settings = Settings::new(suite.dir.join("scratch"), suite.dir.join("sock"));
    settings.parallel = Parallel::Exactly(at_once);
    let began = Instant::now();
    let summary = run(keeper, &settings, suite.jobs.clone(), suite, &mut [])?;
    ensure!(
        summary.passed == suite.jobs.len(),
        "not all passed: {summary:?}"
    );
    Ok(began.elapsed())
}

/// `VmHWM` of this process.
fn most_memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.unwrap_or("not known").trim().to_owned()
}

/// Tests that do nothing, with references that are empty.
struct Suite {
    dir: PathBuf,
    jobs: Vec<Job>,
    env: Vec<(OsString, OsString)>,
}

impl Suite {
    fn new(dir: &Path, count: usize) -> Result<Self> {
        let combo = Arc::new(Combo {
            format: "raw".into(),
            protocol: "file".into(),
            cache: "writeback".into(),
            aio: "threads".into(),
            options: String::new(),
            qemu: String::new(),
        });
        let mut jobs = Vec::with_capacity(count);
        for n in 0..count {
            let name = format!("{n:05}");
            let source = dir.join(&name);
            fs::write(&source, "#!/bin/sh\n")?;
            fs::set_permissions(&source, fs::Permissions::from_mode(0o755))?;
            fs::write(dir.join(format!("{name}.out")), "")?;
            let test = Arc::new(Test {
                name,
                start: Start::Exec(source.clone()),
                source,
                cwd: dir.into(),
                golden_dir: dir.into(),
                groups: BTreeSet::new(),
                summary: String::new(),
                needs: Vec::new(),
                retries: 0,
                timeout: None,
            });
            jobs.push(Job {
                id: JobId(u32::try_from(n)?),
                test,
                combo: Arc::clone(&combo),
                repetition: 0,
                skip: None,
                known: None,
            });
        }
        Ok(Self {
            dir: dir.into(),
            jobs,
            env: std::env::vars_os().collect(),
        })
    }
}

impl RunHost for Suite {
    fn environment(&self, _: &Job, test_dir: &Path, sock_dir: &Path) -> Vec<(OsString, OsString)> {
        let mut env = self.env.clone();
        env.push(("TEST_DIR".into(), test_dir.into()));
        env.push(("SOCK_DIR".into(), sock_dir.into()));
        env
    }

    fn reference(&self, job: &Job) -> Option<PathBuf> {
        golden::find(&job.test, &job.combo, "")
    }

    fn past(&self, _: &Job) -> Option<Past> {
        None
    }

    fn rerun(&self, job: &Job) -> String {
        job.test.name.clone()
    }

    fn finished(&self, _: &mut Finished) {}
}
