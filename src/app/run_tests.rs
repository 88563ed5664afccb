//! From the selected tests to an exit status: plan, run, reports, history.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use childproc::Keeper;
use nix::unistd::{AccessFlags, access};

use super::coverage::{self, Chosen};
use super::{Invocation, own_program, say, var};
use crate::args::{self, Debuggee, LowArgs};
use crate::environment::{host, sock_dir, test_dir};
use crate::environments::Environments;
use crate::exclude::{Excludes, SKIP_VARIABLE};
use crate::exit;
use crate::golden::{self, Bless, Variant};
use crate::history::{History, Memory, Past, Selection};
use crate::model::{Combo, Finished, Job, JobId, Reporter, Test};
use crate::plan::{self, Planned, Wanted};
use crate::reach::Recorder;
use crate::report::{self, RunInfo};
use crate::results;
use crate::run::{self, Debugged, Places, RunHost, Settings, Summary};
use crate::shard::Share;
use crate::tree::{Layout, Tree};
use crate::words;

/// The variable that has mismatching references overwritten.
pub(super) const REGEN_VARIABLE: &str = "QEMU_IOTESTS_REGEN";

/// The variable with the directory in which tests of one run keep what they have found out
/// about the machine, so that it is tried once.
const FOUND_VARIABLE: &str = "CHECK_FOUND_DIR";

/// Where the old runner keeps times, in the current directory.
const ELAPSED_CACHE: &str = ".last-elapsed-cache";

/// Runs `tests` and gives the exit status.
pub(super) fn run_tests(
    call: &Invocation,
    tree: &Tree,
    tests: &[Arc<Test>],
    chosen: Option<&Chosen>,
) -> Result<u8> {
    let args = &call.args;
    if args.bless.is_some() {
        golden::refuse_in_ci("--bless")?;
        if !may_bless(args, tests.len())? {
            say::error("--bless: nothing was run");
            return Ok(exit::FAILED);
        }
    }
    let under = match (args.valgrind, args.gdb) {
        (true, _) => "valgrind",
        (_, true) => "gdb",
        _ => "",
    };
    let mut history = call
        .open_history()
        .with_elapsed_cache(&call.cwd.join(ELAPSED_CACHE))
        .under(under);
    let memory = history.take_memory();
    let excludes = excludes(tree, args)?;
    let share = share(args)?;
    let (combos, Planned { mut jobs, shard }) =
        plan_jobs(args, tests, &memory, &excludes, share.as_ref(), chosen);
    plan::validate(args, &jobs, memory.has_runs())?;
    let installed = |name: &str| which::which(name).is_ok();
    plan::require_debugger(args, &installed)?;
    if args.debugger.is_some() && plan::debuggee(args) == Debuggee::Test {
        for job in &mut jobs {
            plan::debuggable(Arc::make_mut(&mut job.test))?;
        }
    }
    plan::require_programs(&jobs)?;

    let names: Vec<&str> = tree.tests().map(|test| test.name.as_str()).collect();
    for idle in excludes.about_nothing(&names) {
        say::error(&idle);
    }
    one_build(args, &combos)?;
    let envs = Environments::new(tree, args, &combos, &call.cwd, &var)?;
    let env = envs.first();
    writable(&env.test_dir)?;
    let asked = sock_dir(&call.cwd, &var);
    let places = Places::new(&env.test_dir, asked.as_deref(), &jobs)?;
    let mut settings = Settings::new(env.test_dir.clone(), places.sockets().to_owned());
    settings.test_dir_link = places.link().map(Path::to_owned);
    plan::apply(&mut settings, args, tree.layout);
    settings.stream = plan::streams(args, std::io::stdout().is_terminal());
    settings.debugged = debugged(args)?;
    settings.header = envs.header(&combos, places.sockets());
    settings.header.extend(share.as_ref().map(Share::header));
    settings.python = env.python.clone();
    settings.in_order = chosen.is_some();
    let mut host = CheckHost::new(call, envs, &memory, &jobs)?;
    host.found_dir = places.findings();
    host.recorder = coverage::recorder(call, &host.envs.first().programs)?;
    let selection = Selection::of(&jobs).under(under);
    let previous = memory.previous(&selection);
    // No longer needed: the host has what is known of each job.
    drop(memory);

    // Its process must be forked while this one has a single thread.
    let keeper = Keeper::start_with(places.to_remove())
        .context("cannot start the process that supervises the tests")?;
    let info = RunInfo {
        flaky_passes: args.flaky_passes,
        tap_numbers: tree.layout == Layout::Ours,
        shard,
        missing_shards: Vec::new(),
        plan: jobs.clone(),
    };
    let reports = report::build(args, &info, previous, settings.stream)?;
    let mut reporters: Vec<Box<dyn Reporter>> = vec![Box::new(reports)];
    let reports = reporters.len();
    // Under a debugger there is no verdict, and times mean nothing: what failed has
    // still failed.
    if args.debugger.is_none() {
        reporters.push(Box::new(history.selecting(&selection)));
    }
    let ran = run::run(&keeper, &settings, jobs, &host, &mut reporters);
    if let Some(recorder) = &host.recorder {
        recorder.troubles().iter().for_each(|line| say::error(line));
    }
    let reported = !tell_troubles(&mut reporters[..reports]);
    // A run does not depend on its history.
    tell_troubles(&mut reporters[reports..]);
    let unwritten = host.bless.as_ref().is_some_and(Bless::has_failed);
    Ok(match status(&ran?, args) {
        exit::OK if !reported || unwritten => exit::FAILED,
        status => status,
    })
}

/// Checks that what is about one build of QEMU is asked for with one.
fn one_build(args: &LowArgs, combos: &[Arc<Combo>]) -> Result<()> {
    let builds: HashSet<&str> = combos.iter().map(|combo| combo.qemu.as_str()).collect();
    let about_one = [
        (args.bless.is_some(), "--bless"),
        (args.coverage.is_some(), "--coverage"),
        (args.affected_by.is_some(), "--affected-by"),
        (!args.reaching.is_empty(), "--reaching"),
    ];
    match about_one.into_iter().find(|(given, _)| *given) {
        Some((_, option)) if builds.len() > 1 => bail!(
            "argument {option}: runs with one folder of --qemu, not {}",
            builds.len()
        ),
        _ => Ok(()),
    }
}

/// The program under test that runs in a debugger, where one does.
fn debugged(args: &LowArgs) -> Result<Option<Debugged>> {
    match (&args.debugger, plan::debuggee(args)) {
        (Some(gdb), Debuggee::Start { program, nth }) => Ok(Some(Debugged {
            program,
            nth,
            runner: own_program()?,
            gdb: gdb.into(),
        })),
        _ => Ok(None),
    }
}

/// Whether the references of all `count` tests may be written, where the arguments name
/// none: the user is asked.
fn may_bless(args: &LowArgs, count: usize) -> Result<bool> {
    if args.all || args.narrows() {
        return Ok(true);
    }
    let tests = words::count(count, "test");
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        bail!("argument --bless: name the tests, or add --all to write the references of {tests}");
    }
    say::ask(&format!(
        "write the references of {tests}, without any being named? [y/N] "
    ))
}

/// What the caller excludes. Its files are read once: one may be a pipe.
fn excludes(tree: &Tree, args: &LowArgs) -> Result<Excludes> {
    let skip = var(SKIP_VARIABLE).unwrap_or_default();
    let mut excludes = Excludes::new(&skip.to_string_lossy(), &host());
    if let Some(local) = &tree.local {
        excludes.read_local(local)?;
    }
    for file in &args.exclude_files {
        excludes.read(file)?;
    }
    Ok(excludes)
}

/// Checks that tests can have their directories in `dir`, which is created if missing:
/// else each of them would fail for the same reason.
fn writable(dir: &Path) -> Result<()> {
    let what = || {
        format!(
            "cannot run tests in {}; set TEST_DIR to a writable directory",
            dir.display()
        )
    };
    std::fs::create_dir_all(dir).with_context(what)?;
    access(dir, AccessFlags::W_OK | AccessFlags::X_OK).with_context(what)
}

/// The tests that would be run, given `-E`, `--failed`, `--resume` and `--shard`.
pub(super) fn left_to_run(
    call: &Invocation,
    tree: &Tree,
    tests: Vec<Arc<Test>>,
) -> Result<Vec<Arc<Test>>> {
    let args = &call.args;
    // Read in any case: one that is missing or wrong is told.
    let excludes = excludes(tree, args)?;
    if !args.failed && !args.resume && args.shard.is_none() && args.filter.is_none() {
        return Ok(tests);
    }
    let jobs = planned(call, &tests, &excludes, None)?;
    let planned = |test: &Arc<Test>| jobs.iter().any(|job| Arc::ptr_eq(&job.test, test));
    Ok(tests.into_iter().filter(planned).collect())
}

/// Leaves what would be run of `chosen`.
pub(super) fn keep_planned(
    call: &Invocation,
    tree: &Tree,
    tests: &[Arc<Test>],
    chosen: &mut Chosen,
) -> Result<()> {
    let excludes = excludes(tree, &call.args)?;
    let jobs = planned(call, tests, &excludes, Some(chosen))?;
    chosen.keep(&jobs);
    Ok(())
}

/// The jobs that would be run.
fn planned(
    call: &Invocation,
    tests: &[Arc<Test>],
    excludes: &Excludes,
    chosen: Option<&Chosen>,
) -> Result<Vec<Job>> {
    let args = &call.args;
    let memory = call.open_history().take_memory();
    let share = share(args)?;
    let (_, Planned { jobs, .. }) =
        plan_jobs(args, tests, &memory, excludes, share.as_ref(), chosen);
    plan::validate(args, &jobs, memory.has_runs())?;
    Ok(jobs)
}

/// Prints the errors of the reporters; returns whether there were any.
fn tell_troubles(reporters: &mut [Box<dyn Reporter>]) -> bool {
    let troubles: Vec<String> = reporters.iter_mut().flat_map(|r| r.finish()).collect();
    troubles.iter().for_each(|trouble| say::error(trouble));
    !troubles.is_empty()
}

fn plan_jobs(
    args: &LowArgs,
    tests: &[Arc<Test>],
    memory: &Memory,
    excludes: &Excludes,
    share: Option<&Share>,
    chosen: Option<&Chosen>,
) -> (Vec<Arc<Combo>>, Planned) {
    let mut wanted = if args.failed {
        let mut jobs = memory.failing();
        jobs.extend(memory.not_reached_last());
        // What is not selected is no reason for another combination.
        let selected: HashSet<&str> = tests.iter().map(|test| test.name.as_str()).collect();
        jobs.retain(|(name, _)| selected.contains(name.as_str()));
        Wanted::only(jobs)
    } else if args.resume {
        Wanted::only(memory.not_reached_last())
    } else {
        Wanted::all()
    };
    if let Some(chosen) = chosen {
        wanted = wanted.and(chosen.jobs());
    }
    // Without options for a combination, those of the last run are used.
    let combos = wanted
        .combos()
        .filter(|_| !plan::names_combination(args))
        .unwrap_or_else(|| plan::combos(args));
    let mut planned = plan::jobs(tests, &combos, excludes, &wanted, args, share, memory);
    if let Some(chosen) = chosen {
        chosen.order(&mut planned.jobs);
    }
    (combos, planned)
}

/// The variable that names a file which a program touches to say that it knows shards.
const SHARD_STATUS: &str = "TEST_SHARD_STATUS_FILE";

/// The share of the jobs that is to be run.
fn share(args: &LowArgs) -> Result<Option<Share>> {
    let times = args.shard_times.as_deref().map(results::times);
    let share = Share::find(args, &var, times.transpose()?)?;
    if args.shard == Some(args::Share::Auto)
        && let Some(file) = var(SHARD_STATUS).filter(|file| !file.is_empty())
    {
        let touched = OpenOptions::new().create(true).append(true).open(&file);
        touched.with_context(|| format!("cannot touch {}", file.display()))?;
    }
    Ok(share)
}

/// The parts of the program that a run needs.
struct CheckHost<'a> {
    args: &'a LowArgs,
    /// How the program was started, for commands to run again: variables of the caller's
    /// that say what is run and where, and its name.
    program: String,
    envs: Environments,
    pasts: HashMap<JobId, Past>,
    bless: Option<Bless>,
    recorder: Option<Recorder>,
    /// Where tests keep what they have found out about the machine.
    found_dir: Option<PathBuf>,
}

impl<'a> CheckHost<'a> {
    fn new(
        call: &'a Invocation,
        envs: Environments,
        memory: &Memory,
        jobs: &[Job],
    ) -> Result<Self> {
        let args = &call.args;
        let machine = &envs.first().machine;
        let bless = match &args.bless {
            Some(variant) => {
                let variant = Variant::parse(variant.as_deref())?;
                Some(Bless::new(variant, machine))
            }
            None => var(REGEN_VARIABLE).map(|_| Bless::regenerate(machine)),
        };
        let past = |job: &Job| Some((job.id, memory.last(&job.test, &job.combo)?));
        Ok(Self {
            args,
            program: plan::called(&call.argv0, &var),
            pasts: jobs.iter().filter_map(past).collect(),
            envs,
            bless,
            recorder: None,
            found_dir: None,
        })
    }
}

impl RunHost for CheckHost<'_> {
    fn environment(
        &self,
        job: &Job,
        test_dir: &Path,
        sock_dir: &Path,
    ) -> Vec<(OsString, OsString)> {
        let env = self.envs.of(&job.combo);
        let mut env = env.of(&job.combo, test_dir, sock_dir);
        env.retain(|(name, _)| name != FOUND_VARIABLE);
        // What one build of QEMU can do says nothing of another.
        let build = self.envs.number(&job.combo).to_string();
        let found = self
            .found_dir
            .as_ref()
            .map(|dir| (FOUND_VARIABLE.into(), dir.join(build).into()));
        env.extend(found);
        if let Some(recorder) = &self.recorder {
            recorder.begin(job, &mut env);
        }
        env
    }

    fn reference(&self, job: &Job) -> Option<PathBuf> {
        golden::find(&job.test, &job.combo, &self.envs.of(&job.combo).machine)
    }

    fn past(&self, job: &Job) -> Option<Past> {
        self.pasts.get(&job.id).copied()
    }

    fn rerun(&self, job: &Job) -> String {
        plan::rerun(&self.program, self.args, job)
    }

    fn finished(&self, finished: &mut Finished) {
        if let Some(bless) = &self.bless {
            bless.finished(finished);
        }
        if let Some(recorder) = &self.recorder {
            recorder.finished(finished);
        }
    }
}

/// The exit status of a run.
fn status(summary: &Summary, args: &LowArgs) -> u8 {
    if summary.interrupted {
        exit::INTERRUPTED
    } else if summary.failed > 0 || (summary.flaky > 0 && !args.flaky_passes) {
        exit::FAILED
    } else {
        exit::OK
    }
}

impl Invocation {
    /// Where the history is kept: beside the scratch directory.
    pub(super) fn history_dir(&self) -> PathBuf {
        let mut dir = test_dir(&self.cwd, &var).into_os_string();
        dir.push("-history");
        dir.into()
    }

    /// The history. A run does not depend on it: an error is only reported.
    pub(super) fn open_history(&self) -> History {
        History::open(&self.history_dir()).unwrap_or_else(|error| {
            say::error(&format!(
                "this run is not recorded in the history: {error:#}"
            ));
            History::unrecorded()
        })
    }
}
