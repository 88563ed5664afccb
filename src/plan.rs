//! The plan of a run: the command line checked against the tree.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::args::{Candidate, Debuggee, LowArgs};
use crate::exclude::Excludes;
use crate::history::Memory;
use crate::model::{Combo, Job, JobId, Start, Test};
use crate::programs::executable;
use crate::report::Shard;
use crate::run::{Parallel, Settings};
use crate::shard::Share;
use crate::tree::Layout;
use crate::verdict::Policy;
use crate::words::quoted;

/// Tests may take so many times longer under valgrind.
const VALGRIND_FACTOR: u32 = 20;

/// Whether the arguments say anything about what to run on.
#[must_use]
pub fn names_combination(args: &LowArgs) -> bool {
    let words = [
        &args.format,
        &args.protocol,
        &args.cache,
        &args.aio,
        &args.options,
    ];
    let lists = [&args.formats, &args.protocols, &args.caches, &args.qemu];
    words.iter().any(|w| w.is_some()) || lists.iter().any(|l| !l.is_empty())
}

/// Whether `combo` has the format, protocol, cache mode and QEMU that the arguments name; what
/// they do not name may be anything.
#[must_use]
pub fn is_named(args: &LowArgs, combo: &Combo) -> bool {
    let named = |list: &[String], one: &Option<String>, value: &String| {
        (list.is_empty() && one.is_none()) || list.contains(value) || one.as_ref() == Some(value)
    };
    named(&args.formats, &args.format, &combo.format)
        && named(&args.protocols, &args.protocol, &combo.protocol)
        && named(&args.caches, &args.cache, &combo.cache)
        && named(&args.qemu, &None, &combo.qemu)
}

/// Every combination that the arguments ask for, in order.
#[must_use]
pub fn combos(args: &LowArgs) -> Vec<Arc<Combo>> {
    let either = |list: &[String], one: &Option<String>, default: &str| {
        if list.is_empty() {
            vec![one.clone().unwrap_or_else(|| default.to_owned())]
        } else {
            without_doubles(list)
        }
    };
    let formats = either(&args.formats, &args.format, "raw");
    let protocols = either(&args.protocols, &args.protocol, "file");
    let caches = either(&args.caches, &args.cache, "writeback");
    let builds = either(&args.qemu, &None, "");
    let mut combos = Vec::new();
    for format in &formats {
        for protocol in &protocols {
            for cache in &caches {
                combos.extend(builds.iter().map(|qemu| {
                    Arc::new(Combo {
                        format: format.clone(),
                        protocol: protocol.clone(),
                        cache: cache.clone(),
                        aio: args.aio.clone().unwrap_or_else(|| "threads".to_owned()),
                        options: options(format, args.options.as_deref().unwrap_or_default()),
                        qemu: qemu.clone(),
                    })
                }));
            }
        }
    }
    combos
}

fn without_doubles(list: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    list.iter().filter(|w| seen.insert(*w)).cloned().collect()
}

/// The creation options of a format: those asked for, and those that every
/// image of the format gets unless asked for otherwise.
fn options(format: &str, asked: &str) -> String {
    let (name, added) = match format {
        "luks" => ("iter-time=", "iter-time=10"),
        "vmdk" => ("zeroed_grain=", "zeroed_grain=on"),
        _ => return asked.to_owned(),
    };
    match asked {
        "" => added.to_owned(),
        asked if asked.contains(name) => asked.to_owned(),
        asked => format!("{asked},{added}"),
    }
}

/// What earlier runs leave to do: tests by name with their combination.
#[derive(Debug, Clone, Default)]
pub struct Wanted(Option<Vec<(String, Combo)>>);

impl Wanted {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self(None)
    }

    /// Only these.
    #[must_use]
    pub fn only(jobs: Vec<(String, Combo)>) -> Self {
        Self(Some(jobs))
    }

    /// Only those that are also among these.
    #[must_use]
    pub fn and(self, jobs: Vec<(String, Combo)>) -> Self {
        let Some(before) = self.0 else {
            return Self::only(jobs);
        };
        let among: HashSet<(String, Combo)> = before.into_iter().collect();
        Self::only(jobs.into_iter().filter(|job| among.contains(job)).collect())
    }

    /// Every combination among them, in order; `None` where everything is
    /// wanted.
    #[must_use]
    pub fn combos(&self) -> Option<Vec<Arc<Combo>>> {
        let mut combos: Vec<Arc<Combo>> = Vec::new();
        for (_, combo) in self.0.as_ref()? {
            if combos.iter().all(|c| **c != *combo) {
                combos.push(Arc::new(combo.clone()));
            }
        }
        Some(combos)
    }
}

/// What a run is to do.
#[derive(Debug)]
pub struct Planned {
    /// The jobs, in order.
    pub jobs: Vec<Job>,
    /// Which share of all they are, where they are not all.
    pub shard: Option<Shard>,
}

/// The jobs of a run: every test under every combination, as often as asked,
/// less those that the filter expression does not hold for, that another shard runs
/// or that earlier runs have done.
#[must_use]
pub fn jobs(
    tests: &[Arc<Test>],
    combos: &[Arc<Combo>],
    excludes: &Excludes,
    wanted: &Wanted,
    args: &LowArgs,
    share: Option<&Share>,
    memory: &Memory,
) -> Planned {
    let wanted: Option<HashSet<(&str, &Combo)>> = wanted.0.as_ref().map(|jobs| {
        jobs.iter()
            .map(|(name, combo)| (name.as_str(), combo))
            .collect()
    });
    let wanted = |test: &Test, combo: &Combo| {
        wanted
            .as_ref()
            .is_none_or(|w| w.contains(&(test.name.as_str(), combo)))
    };
    let pairs = combos
        .iter()
        .flat_map(|combo| tests.iter().map(move |test| (test, combo)))
        .filter(|(test, combo)| wanted(test, combo) && holds(args, test, combo, memory));
    let mut pairs: Vec<_> = pairs.collect();
    let mut shard = None;
    if let Some(share) = share {
        let (mine, mut of_all) = share.of_pairs(&pairs);
        of_all.jobs *= args.repeat.unwrap_or(1) as usize;
        let mut mine = mine.into_iter();
        pairs.retain(|_| mine.next() == Some(true));
        shard = Some(of_all);
    }
    let mut jobs = Vec::new();
    for repetition in 0..args.repeat.unwrap_or(1) {
        for &(test, combo) in &pairs {
            jobs.push(Job {
                id: JobId(u32::try_from(jobs.len()).unwrap_or(u32::MAX)),
                test: Arc::clone(test),
                combo: Arc::clone(combo),
                repetition,
                skip: excludes.reason(test, combo),
                // What is blessed is no failure any more.
                known: match args.bless {
                    Some(_) => None,
                    None => excludes.known_failure(test, combo),
                },
            });
        }
    }
    Planned { jobs, shard }
}

/// Whether the filter expression holds for a test under a combination.
fn holds(args: &LowArgs, test: &Test, combo: &Combo, memory: &Memory) -> bool {
    let Some(filter) = &args.filter else {
        return true;
    };
    filter.matches(&Candidate {
        test,
        combo,
        failed: memory.is_failing(test, combo),
        last_passed_secs: memory
            .last(test, combo)
            .and_then(|past| past.last_passed_secs),
    })
}

/// Checks the arguments against each other and against `jobs`; `remembered` is
/// whether a last run is recorded.
///
/// # Errors
///
/// They contradict each other.
pub fn validate(args: &LowArgs, jobs: &[Job], remembered: bool) -> Result<()> {
    if jobs.is_empty() {
        bail!(
            "No tests selected{}",
            match (args.failed, args.resume, args.shard) {
                (true, _, _) | (_, true, _) if !remembered =>
                    ": no run is recorded here, so --failed and --resume select nothing",
                (true, _, _) => ": none of these failed when it was last run",
                (_, true, _) => ": the last run finished all of these",
                _ if args.filter.is_some() => ": the expression of -E holds for none",
                (_, _, Some(_)) => " for this shard",
                _ => "",
            }
        );
    }
    if args.debugger.is_some() && jobs.len() != 1 {
        bail!(
            "argument --debugger: exactly one test can be debugged, not {}",
            jobs.len()
        );
    }
    Ok(())
}

/// Makes a test one that a debugger can start: a script is run by the
/// interpreter that its first line names, since a debugger takes no scripts.
///
/// # Errors
///
/// The test cannot be read.
pub fn debuggable(test: &mut Test) -> Result<()> {
    let Start::Exec(file) = &test.start else {
        return Ok(());
    };
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let Some(line) = text.strip_prefix(b"#!") else {
        return Ok(());
    };
    let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
    let line = line.trim_ascii();
    let blank = line.iter().position(u8::is_ascii_whitespace);
    // As the kernel has it: all that follows the interpreter is one argument.
    let (interpreter, argument) = line.split_at(blank.unwrap_or(line.len()));
    let argument = argument.trim_ascii();
    let mut words: Vec<OsString> = Vec::new();
    if !argument.is_empty() {
        words.push(OsStr::from_bytes(argument).to_owned());
    }
    words.push(file.clone().into());
    test.start = Start::Call(OsStr::from_bytes(interpreter).into(), words);
    Ok(())
}

/// Checks that the programs that contain the tests of `jobs` have been built.
///
/// # Errors
///
/// One has not; how it is built.
pub fn require_programs(jobs: &[Job]) -> Result<()> {
    for job in jobs {
        if let Start::Call(program, _) = &job.test.start
            && !executable(program)
        {
            bail!(
                "test {} cannot be run: {} is missing; build it (cargo build -p iotests)",
                job.test.name,
                program.display()
            );
        }
    }
    Ok(())
}

/// Puts what the arguments say into `settings`.
pub fn apply(settings: &mut Settings, args: &LowArgs, layout: Layout) {
    if args.debug {
        settings.test_args.push("-d".into());
    }
    if let Some(jobs) = args.jobs {
        // Fewer than one are one, as for QEMU's runner: scripts compute the number from
        // that of the CPUs.
        settings.parallel = Parallel::Exactly(usize::try_from(jobs).map_or(1, |n| n.max(1)));
    }
    settings.alone = args.gdb || args.debugger.is_some();
    settings.shuffle = args
        .shuffle
        .map(|seed| seed.unwrap_or_else(|| u64::from(rand::random::<u32>())));
    // Bounded by --repeat, the repetitions are jobs of their own.
    settings.until_fail = args.until_fail && args.repeat.is_none();
    settings.fail_fast = args.fail_fast || args.until_fail;
    settings.rerun_failed = args.rerun_failed;
    settings.flaky_passes = args.flaky_passes;
    settings.keep = args.keep;
    if let Some(seconds) = args.timeout {
        settings.timeout = (seconds > 0).then(|| Duration::from_secs(seconds));
    }
    if args.gdb || args.debugger.is_some() {
        settings.timeout = None;
    }
    if args.valgrind {
        settings.timeout_factor = VALGRIND_FACTOR;
    }
    let bound = |limit: u64| if limit == 0 { u64::MAX } else { limit };
    if let Some(limit) = args.output_limit {
        settings.output_limit = bound(limit);
    }
    if let Some(limit) = args.scratch_limit {
        settings.scratch_limit = bound(limit);
    }
    settings.run_without_reference = args.bless.is_some() || args.debugger.is_some();
    if let Some(debugger) = &args.debugger
        && debuggee(args) == Debuggee::Test
    {
        settings.debugger = Some(vec![debugger.into(), "--args".into()]);
    }
    settings.watch_gdbservers = args.gdb;
    settings.policy = Policy {
        left_behind_fails: args.left_behind_fails.unwrap_or(layout == Layout::Ours),
    };
}

/// What `--debugger` is for.
#[must_use]
pub fn debuggee(args: &LowArgs) -> Debuggee {
    args.debugger_for.unwrap_or_default()
}

/// Whether what tests print is shown as it comes. On a terminal `-d` asks for it as well,
/// unless the same command line asks for what cannot be had with it.
#[must_use]
pub fn streams(args: &LowArgs, terminal: bool) -> bool {
    let implied = args.debug
        && terminal
        && !args.tap
        && args.debugger.is_none()
        && args.jobs.is_none_or(|n| n <= 1);
    args.no_capture || implied
}

/// Checks that the debugger that the arguments ask for is installed, as `installed` says.
///
/// # Errors
///
/// It is not; what installs it.
pub fn require_debugger(args: &LowArgs, installed: &dyn Fn(&str) -> bool) -> Result<()> {
    if args.gdb && !installed("gdbserver") {
        bail!(
            "argument -gdb: gdbserver is not installed; install the package gdbserver (Debian, \
             Ubuntu) or gdb-gdbserver (Fedora)"
        );
    }
    match &args.debugger {
        Some(gdb) if !installed(gdb) => {
            bail!("argument --debugger: {gdb} is not installed; install the package {gdb}")
        }
        _ => Ok(()),
    }
}

/// Checks the arguments against the layout of the tree, before anything is run.
///
/// # Errors
///
/// One means nothing there.
pub fn suits(args: &LowArgs, layout: Layout) -> Result<()> {
    match args.jobs {
        Some(jobs) if jobs < 1 && layout == Layout::Ours => bail!(
            "argument -j: must be at least 1, not {jobs}; without -j the number follows the load"
        ),
        _ => Ok(()),
    }
}

/// Variables that say which programs are tested, and where.
const TELLING: [&str; 8] = [
    "TEST_DIR",
    "SOCK_DIR",
    "QEMU_PROG",
    "QEMU_IMG_PROG",
    "QEMU_IO_PROG",
    "QEMU_NBD_PROG",
    "QSD_PROG",
    "PYTHON",
];

/// How the program was called as `argv0`, up to its options, in an environment that `var`
/// tells.
#[must_use]
pub fn called(argv0: &Path, var: &dyn Fn(&str) -> Option<OsString>) -> String {
    let set = TELLING.iter().filter_map(|name| {
        let value = var(name).filter(|value| !value.is_empty())?;
        Some(format!("{name}={} ", quoted(&value.to_string_lossy())))
    });
    set.collect::<String>() + &quoted(&argv0.display().to_string())
}

/// The command that runs just `job` again; `program` is what it begins with
/// ([`called`]).
#[must_use]
pub fn rerun(program: &str, args: &LowArgs, job: &Job) -> String {
    let combo = &job.combo;
    let mut words = vec![format!("-{}", combo.format)];
    if combo.protocol != "file" {
        words.push(format!("-{}", combo.protocol));
    }
    match combo.cache.as_str() {
        "none" => words.push("-nocache".into()),
        "writeback" if args.cache.is_none() => {}
        cache => words.extend(["-c".into(), cache.into()]),
    }
    if combo.aio != "threads" {
        words.extend(["-i".into(), combo.aio.clone()]);
    }
    if let Some(options) = &args.options {
        words.extend(["-o".into(), options.clone()]);
    }
    if !combo.qemu.is_empty() {
        words.extend(["--qemu".into(), combo.qemu.clone()]);
    }
    for (given, word) in [
        (args.misalign, "-misalign"),
        (args.valgrind, "-valgrind"),
        (args.gdb, "-gdb"),
        (args.print, "-p"),
        (args.debug, "-d"),
    ] {
        if given {
            words.push(word.into());
        }
    }
    let number = |n: Option<u64>| n.map(|n| n.to_string());
    let left_behind = args.left_behind_fails;
    let left_behind = left_behind.map(|fails| if fails { "fail" } else { "warn" }.to_owned());
    for (option, value) in [
        ("--timeout", number(args.timeout)),
        ("--output-limit", number(args.output_limit)),
        ("--scratch-limit", number(args.scratch_limit)),
        ("--left-behind", left_behind),
    ] {
        if let Some(value) = value {
            words.extend([option.to_owned(), value]);
        }
    }
    for (option, dir) in [
        ("--source-dir", &args.source_dir),
        ("--build-dir", &args.build_dir),
        ("--from-archive", &args.from_archive),
    ] {
        if let Some(dir) = dir {
            words.extend([option.into(), dir.display().to_string()]);
        }
    }
    words.push(job.test.name.clone());
    let words = words.iter().map(|w| quoted(w));
    let words: Vec<_> = std::iter::once(program.to_owned()).chain(words).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::args::parse;
    use crate::report::sample;

    fn args(line: &str) -> LowArgs {
        parse(line.split_whitespace().map(OsString::from)).unwrap()
    }

    fn planned(line: &str, names: &[&str]) -> Vec<(String, String, u32)> {
        let args = args(line);
        let tests: Vec<_> = names.iter().map(|n| Arc::new(sample::test(n))).collect();
        let share = Share::find(&args, &|_| None, None).unwrap();
        let planned = jobs(
            &tests,
            &combos(&args),
            &Excludes::default(),
            &Wanted::all(),
            &args,
            share.as_ref(),
            &Memory::default(),
        );
        let described = planned.jobs.into_iter().map(|j| {
            let c = &j.combo;
            (
                j.test.name.clone(),
                format!("{} {} {}", c.format, c.protocol, c.cache),
                j.repetition,
            )
        });
        described.collect()
    }

    #[test]
    fn combinations_are_the_product() {
        let all = combos(&args(
            "--formats qcow2,raw,qcow2 --protocols file,nbd --caches none,unsafe",
        ));
        assert_eq!(all.len(), 8);
        let one = &combos(&args("-qcow2 -nbd -nocache -i native -o compat=0.10"))[0];
        assert_eq!(one.format, "qcow2");
        assert_eq!((one.protocol.as_str(), one.cache.as_str()), ("nbd", "none"));
        assert_eq!(
            (one.aio.as_str(), one.options.as_str()),
            ("native", "compat=0.10")
        );
        assert_eq!(combos(&args(""))[0].format, "raw");
    }

    #[test]
    fn luks_and_vmdk_get_options_of_their_own() {
        for (line, want) in [
            ("-luks", "iter-time=10"),
            ("-luks -o key=1", "key=1,iter-time=10"),
            ("-luks -o iter-time=7", "iter-time=7"),
            ("-vmdk", "zeroed_grain=on"),
            ("-vmdk -o zeroed_grain=off", "zeroed_grain=off"),
            ("-raw", ""),
        ] {
            assert_eq!(combos(&args(line))[0].options, want, "{line}");
        }
    }

    #[test]
    fn fewer_than_one_at_once_are_one_in_a_qemu_tree() {
        for (line, want) in [("-j 4", 4), ("-j 1", 1), ("-j 0", 1), ("-j -1", 1)] {
            let args = args(line);
            suits(&args, Layout::Qemu).unwrap();
            assert_eq!(
                suits(&args, Layout::Ours).is_ok(),
                want == 4 || line == "-j 1"
            );
            let mut settings = Settings::new("/t".into(), "/s".into());
            apply(&mut settings, &args, Layout::Qemu);
            assert!(matches!(settings.parallel, Parallel::Exactly(n) if n == want));
        }
    }

    #[test]
    fn shards_share_out_every_job_once() {
        let names = ["001", "002", "003", "004", "005"];
        let whole = planned("--formats raw,qcow2", &names);
        let mut shared: Vec<_> = (1..=3)
            .flat_map(|i| planned(&format!("--formats raw,qcow2 --shard {i}/3"), &names))
            .collect();
        shared.sort();
        let mut sorted = whole.clone();
        sorted.sort();
        assert_eq!(shared, sorted);
        assert_eq!(planned("--repeat 3", &names).len(), 15);
    }

    #[test]
    fn the_rerun_command_says_all_that_matters() {
        let rerun_of = |line: &str| {
            let args = args(line);
            let mut job = sample::job(0, "030", "raw");
            job.combo = Arc::clone(&combos(&args)[0]);
            rerun("./check", &args, &job)
        };
        assert_eq!(rerun_of("-qcow2 1 2 3"), "./check -qcow2 030");
        assert_eq!(
            rerun_of("-luks -nbd -nocache -misalign"),
            "./check -luks -nbd -nocache -misalign 030"
        );
        assert_eq!(
            rerun_of("-raw --timeout 8 --output-limit 1M --left-behind fail"),
            "./check -raw --timeout 8 --output-limit 1048576 --left-behind fail 030"
        );
        let var = |name: &str| match name {
            "TEST_DIR" => Some("/a b".into()),
            "QSD_PROG" => Some("".into()),
            _ => None,
        };
        assert_eq!(
            called(Path::new("./check"), &var),
            "TEST_DIR='/a b' ./check"
        );
        assert_eq!(
            rerun_of("-c unsafe -o a=$b --build-dir /x"),
            "./check -raw -c unsafe -o 'a=$b' --build-dir /x 030"
        );
    }

    #[test]
    fn a_debugger_is_given_the_interpreter_of_a_script() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("001");
        let start = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let mut test = sample::test("001");
            test.start = Start::Exec(file.clone());
            debuggable(&mut test).unwrap();
            test.start
        };
        let script: OsString = file.clone().into();
        assert_eq!(
            start("#! /usr/bin/env  bash \nx"),
            Start::Call("/usr/bin/env".into(), vec!["bash".into(), script.clone()])
        );
        assert_eq!(
            start("#!/bin/sh\n"),
            Start::Call("/bin/sh".into(), vec![script])
        );
        assert_eq!(start("\x7fELF"), Start::Exec(file.clone()));
    }

    #[test]
    fn contradictions_are_errors() {
        let jobs = [sample::job(0, "001", "raw"), sample::job(1, "002", "raw")];
        let said = |line: &str, jobs: &[Job]| match validate(&args(line), jobs, true) {
            Ok(()) => String::new(),
            Err(e) => e.to_string(),
        };
        assert!(said("--debugger gdb", &jobs).contains("exactly one test"));
        assert_eq!(said("--debugger gdb", &jobs[..1]), "");
        assert!(said("--failed", &[]).contains("none of these failed"));
        assert_eq!(said("-qcow2", &jobs), "");
        let forgotten = validate(&args("--resume"), &[], false).unwrap_err();
        assert!(forgotten.to_string().contains("no run is recorded"));
    }

    #[test]
    fn output_streams_where_that_can_be_had() {
        for (line, on_terminal, elsewhere) in [
            ("1", false, false),
            ("-d 1", true, false),
            ("-d -j 1", true, false),
            ("-d -j 2", false, false),
            ("-d -tap", false, false),
            ("-d --debugger gdb 1", false, false),
            ("--no-capture", true, true),
        ] {
            let args = args(line);
            let both = (streams(&args, true), streams(&args, false));
            assert_eq!(both, (on_terminal, elsewhere), "{line}");
        }
    }
}
