//! Every option: its words, its help and its effect.

use std::path::PathBuf;

use testdecl::{AIO_MODES, CACHES};

use super::expression::Expression;
use super::flag::Flag;
use super::low::{Action, Color, Detail};
use super::parse_expression;
use super::values::{
    cache_mode, debuggee, folders, groups, jobs, list_of, number, one_of, seconds, shard, size,
};

/// Values of a field that have a single-dash word each: a list of them, and of their options.
macro_rules! dashed {
    ($(#[$doc:meta])* $all:ident, $flags:ident: $field:ident = $($name:literal)*) => {
        $(#[$doc])*
        pub const $all: &[&str] = &[$($name),*];

        static $flags: &[Flag] = &[$(
            Flag::classic(concat!("-", $name), "", |a, _| {
                a.$field = Some($name.into());
                Ok(())
            })
            .exclusive(stringify!($field)),
        )*];
    };
}

dashed! {
    /// Formats with a single-dash word, in the order of the help.
    FORMATS, FORMAT_FLAGS: format = "raw" "bochs" "cloop" "parallels" "qcow" "qcow2" "qed" "vdi"
        "vpc" "vhdx" "vmdk" "luks" "dmg" "vvfat"
}

dashed! {
    /// Protocols with a single-dash word, in the order of the help.
    PROTOCOLS, PROTOCOL_FLAGS: protocol = "file" "rbd" "nbd" "ssh" "nfs" "fuse"
}

/// An option that sets a field to `true`.
macro_rules! sets {
    ($field:ident) => {
        |a, _| {
            a.$field = true;
            Ok(())
        }
    };
}

/// An option that sets a field to what its value is read as.
macro_rules! reads {
    ($field:ident, $v:ident => $value:expr) => {
        |a, value| {
            let $v = value.unwrap_or_default();
            a.$field = $value;
            Ok(())
        }
    };
}

/// An option that stands for an action.
macro_rules! acts {
    ($v:ident => $action:expr) => {
        |a, value| {
            let $v = value.unwrap_or_default();
            a.action = $action;
            Ok(())
        }
    };
}

/// Every option there is, in the sections of the help, each with its heading.
pub static SECTIONS: &[(&str, &[Flag])] = &[
    ("General", GENERAL),
    ("Test environment", ENVIRONMENT),
    ("Image format (at most one; default raw)", FORMAT_FLAGS),
    ("Image protocol (at most one; default file)", PROTOCOL_FLAGS),
    ("Selecting tests", SELECT),
    ("Running tests", RUN),
    ("References", GOLDENS),
    ("Results", RESULTS),
    ("Other actions", OTHER),
];

/// Every option there is.
pub fn flags() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|(_, flags)| *flags)
}

static GENERAL: &[Flag] = &[
    Flag::classic(
        "-h",
        "print a short help",
        acts!(_v => Action::Help { long: false }),
    ),
    Flag::classic(
        "--help",
        "print the complete help",
        acts!(_v => Action::Help { long: true }),
    ),
    Flag::new(
        "--version",
        "print the version",
        acts!(_v => Action::Version),
    ),
    Flag::classic(
        "-n, --dry-run",
        "print the names of the selected tests, run nothing",
        sets!(dry_run),
    )
    .long(
        "One name a line; no programs are needed. With a format given, \
             tests that say they cannot support it are left out.",
    ),
    Flag::classic(
        "-j N",
        "run exactly N tests at once",
        reads!(jobs, v => Some(jobs(v)?)),
    )
    .long(
        "Without it, as many tests run at once as keep the CPUs \
             busy: more than there are CPUs while tests only wait, \
             fewer when load or memory requires it. Tests that must be alone \
             (group serial, -gdb, --debugger) are.",
    ),
    Flag::classic("-d", "debug: pass -d on to the tests", sets!(debug)).long(
        "On a terminal their output is shown as it comes (--no-capture), unless -j or -tap \
             asks for something else.",
    ),
    Flag::classic(
        "-p",
        "print QEMU's own output into the test's output",
        sets!(print),
    )
    .long("Sets PRINT_QEMU=y for the tests."),
    Flag::classic(
        "-gdb",
        "run QEMU under gdbserver, with $GDB_OPTIONS",
        sets!(gdb),
    )
    .long(
        "localhost:12345 where GDB_OPTIONS is unset or empty. Each program that waits is told, \
             with the command line of the gdb that connects to it. Tests run one at a time, \
             without a time-out. With -valgrind, what runs under gdbserver does not run under \
             valgrind.",
    ),
    Flag::classic(
        "-valgrind",
        "run QEMU's programs under valgrind",
        sets!(valgrind),
    )
    .long("Sets VALGRIND_QEMU=y for the tests; time-outs are longer."),
    Flag::classic(
        "-misalign",
        "misalign memory buffers (qemu-io --misalign)",
        sets!(misalign),
    ),
    Flag::classic(
        "--color on|off|auto",
        "use colours; auto: if stdout is a terminal",
        |a, v| {
            let v = v.unwrap_or_default();
            one_of(v, &["on", "off", "auto"])?;
            a.color = match v {
                "on" => Color::On,
                "off" => Color::Off,
                _ => Color::Auto,
            };
            Ok(())
        },
    ),
    Flag::classic(
        "-tap",
        "write TAP version 13 to stdout (verdicts are numbered outside QEMU trees)",
        sets!(tap),
    ),
    Flag::new(
        "--profile NAME",
        "take the options of a profile, from .config/check.toml",
        reads!(profile, v => Some(v.into())),
    )
    .long(
        "The file in the source directory, and ~/.config/check/check.toml, whose options \
             go first; those of the command line go before both. A table [profile.NAME] \
             has options by name (timeout = 900, formats = [\"qcow2\", \"raw\"], \
             fail-fast = true) and may have inherits = \"OTHER\".",
    ),
    Flag::classic(
        "--source-dir DIR",
        "directory of the tests and their references",
        reads!(source_dir, v => Some(PathBuf::from(v))),
    )
    .long(
        "Started through a symbolic link, as from a build tree: where \
             the link points. Else the current directory, or, where that \
             holds no tests, the directory of this program's own suite.",
    ),
    Flag::new(
        "--from-archive FILE",
        "run the tests of an archive, with its runner",
        reads!(from_archive, v => Some(PathBuf::from(v))),
    )
    .long("As if FILE were started, which also works where it may not be executed."),
    Flag::classic(
        "--build-dir DIR",
        "build directory; programs are taken from two levels above it",
        reads!(build_dir, v => Some(PathBuf::from(v))),
    )
    .long(
        "Started through a symbolic link: where the link stands. Else \
             the current directory. Without programs there, those of the \
             installed QEMU are found in PATH.",
    ),
];

static ENVIRONMENT: &[Flag] = &[
    Flag::classic(
        "-nocache",
        "use cache mode none (O_DIRECT)",
        reads!(cache, _v => Some("none".into())),
    )
    .exclusive("cache"),
    Flag::classic(
        "-c MODE",
        "use this cache mode (none, writeback, writethrough, directsync, unsafe); default \
             writeback",
        reads!(cache, v => Some(cache_mode(v)?)),
    )
    .exclusive("cache"),
    Flag::classic(
        "-i MODE",
        "use this aio mode (threads, native, io_uring); default threads",
        reads!(aio, v => {
            one_of(v, AIO_MODES)?;
            Some(v.into())
        }),
    ),
    Flag::classic(
        "-o OPTS",
        "create images with these options (IMGOPTS)",
        reads!(options, v => Some(v.into())),
    )
    .attached_with('=')
    .long("In a QEMU tree Python tests ignore them."),
    Flag::new(
        "--formats F1,F2,...",
        "run with each of these formats, as one run",
        reads!(formats, v => list_of(v, FORMATS)?),
    )
    .exclusive("format")
    .long(
        "With --protocols and --caches every combination is run, in \
             one pool with one summary.",
    ),
    Flag::new(
        "--protocols P1,P2,...",
        "run with each of these protocols, as one run",
        reads!(protocols, v => list_of(v, PROTOCOLS)?),
    )
    .exclusive("protocol"),
    Flag::new(
        "--caches C1,C2,...",
        "run with each of these cache modes, as one run",
        reads!(caches, v => list_of(v, CACHES)?),
    )
    .exclusive("cache"),
    Flag::new(
        "--qemu DIR1,DIR2,...",
        "run with the programs in each of these folders, as one run",
        |a, v| {
            a.qemu.extend(folders(v.unwrap_or_default())?);
            Ok(())
        },
    )
    .long(
        "A folder that has them in bin or usr/bin, or itself, such as QEMU's build directory, or \
             one that scripts/qemu-version has made. All programs are taken from there, whatever \
             QEMU_IMG_PROG and the other variables say; tests that need one that is \
             not there are not run.",
    ),
];

static SELECT: &[Flag] = &[
    Flag::classic(
        "-g, --groups G1,G2,...",
        "include the tests of these groups",
        reads!(groups, v => groups(v)?),
    )
    .long(
        "Tests of group disabled are left out unless it is asked for \
             here. With tests named as well both are conditions: -g quick 001 030 \
             are those of the two that are in quick. In a QEMU tree, as with \
             QEMU's runner, tests named are added, and never excluded.",
    ),
    Flag::classic(
        "-x, --exclude-groups G1,G2,...",
        "leave out the tests of these groups",
        reads!(exclude_groups, v => groups(v)?),
    ),
    Flag::classic(
        "--start-from TEST",
        "drop every test before TEST in the sorted sequence",
        reads!(start_from, v => Some(v.into())),
    ),
    Flag::new(
        "-X, --exclude-file FILE",
        "do not run the tests that FILE lists, or expect them to fail; may be repeated",
        |a, v| {
            a.exclude_files.push(PathBuf::from(v.unwrap_or_default()));
            Ok(())
        },
    )
    .long(
        "A line: a test or a pattern (* ? [..]), then conditions if \
             any (fmt=A,B proto=.. cache=.. host=.., all must hold, values \
             are patterns), then '# reason', which is shown. Such tests \
             count as not run. Example: 2?? fmt=luks,raw host=ci-* # too \
             slow there. A line that begins with fail is a known failure: it is run, a \
             failure is expected, and a pass makes the run fail unless flaky follows the \
             test. Example: fail 030 flaky fmt=qcow2 # bug 7. Such lines may stand in \
             group.local too. --bless takes no notice of them.",
    ),
    Flag::new(
        "-E, --filter EXPRESSION",
        "only what EXPRESSION holds for, of what else is selected",
        |a, v| {
            let new = parse_expression::read(v.unwrap_or_default())?;
            a.filter = Some(match a.filter.take() {
                Some(before) => Expression::Or(Box::new(before), Box::new(new)),
                None => new,
            });
            Ok(())
        },
    )
    .long(
        "nextest's words: test(), group(), format(), protocol(), cache(), needs() (of \
             the header), kind() (rust, script), failed(), slow() (10 s or more when it \
             last passed), all(), none(); & and, | or, ! not, - (and not), parentheses. \
             In test(..) and the like: a pattern, =exact, ~part or /regex/. Several -E \
             are alternatives. Example: 'group(quick) & !format(luks) - test(00*)'",
    ),
    Flag::new(
        "--reaching WHAT",
        "only tests that reach WHAT: a function, file or line; may be repeated",
        |a, v| {
            a.reaching.push(v.unwrap_or_default().into());
            Ok(())
        },
    )
    .long(
        "As --coverage has recorded it. WHAT is a function or a pattern of functions \
             (qcow2_co_truncate, 'qcow2_co_*'), a source file or a pattern of files \
             (block/qcow2.c, 'block/qcow2-*.c') or a line (block/qcow2.c:1234). Those that reach \
             what few tests reach are run first, then those that reach most of it, then those \
             that reach the least else, then the soonest; -n and --list tell how soon. Where no format or protocol is given, with those that \
             were recorded.",
    ),
    Flag::new(
        "--affected-by COMMITS|PATCH",
        "only tests that reach a function that these commits, or the patch in a file, change",
        reads!(affected_by, v => Some(v.into())),
    )
    .long(
        "COMMITS as git diff takes them (main..HEAD; main: up to the files as they are now). \
             In the order of --reaching. Changed functions that no test reaches are named, and so \
             is what changed and is no recorded code. Of macros, tables and fields that change, \
             the functions that use them are meant, as far as the source is at hand. The recorded programs may be those before \
             the change or after it: functions are known by their names.",
    ),
    Flag::new(
        "--qemu-source DIR",
        "with --affected-by: QEMU's repository; default: that of the tests, in a QEMU tree",
        reads!(qemu_source, v => Some(PathBuf::from(v))),
    ),
    Flag::new(
        "--failed",
        "only what failed and has not passed since, or was not started in the last run",
        sets!(failed),
    )
    .exclusive("last run")
    .long(
        "A failure is kept for its format, protocol, cache mode, aio mode and options \
             until the test passes under the same. Without any of these options: under all \
             in which something failed.",
    ),
    Flag::new(
        "--resume",
        "only what an interrupted run did not start or finish",
        sets!(resume),
    )
    .exclusive("last run"),
    Flag::new(
        "--shard I/N|auto",
        "only the I-th of N shares, I from 1",
        reads!(shard, v => Some(shard(v)?)),
    )
    .long(
        "With auto, I and N are those of the environment: GitLab (CI_NODE_INDEX, \
             CI_NODE_TOTAL), CircleCI (CIRCLE_NODE_INDEX, CIRCLE_NODE_TOTAL), Buildkite \
             (BUILDKITE_PARALLEL_JOB, BUILDKITE_PARALLEL_JOB_COUNT), Bazel (TEST_SHARD_INDEX, \
             TEST_TOTAL_SHARDS, TEST_SHARD_STATUS_FILE), Slurm arrays (SLURM_ARRAY_TASK_ID, \
             _MIN, _STEP, _COUNT). Each pair of test and combination is in exactly one share, \
             with all its repetitions. All shards must select the same tests, so no --failed or \
             --resume beside it where machines differ. check merge-results makes one run of \
             their results and names a shard that is missing.",
    ),
    Flag::new(
        "--shard-times RESULTS",
        "with --shard: shares that take about as long, by the times in RESULTS",
        reads!(shard_times, v => Some(PathBuf::from(v))),
    )
    .long(
        "RESULTS is a file of --json or --record of an earlier run: the same file for every \
             shard. The history is not used, since it differs between machines and the shares \
             would not fit together. The longest test goes first, to the share with least to \
             do; one without a time counts as the median.",
    ),
];

static RUN: &[Flag] = &[
    Flag::new("--shuffle[=SEED]", "run in random order", |a, v| {
        a.shuffle = Some(v.map(|v| number(v, 0)).transpose()?);
        Ok(())
    })
    .long("The seed is printed; the same seed gives the same order."),
    Flag::new(
        "--repeat N",
        "run every test N times",
        reads!(repeat, v => Some(number(v, 1)?)),
    ),
    Flag::new(
        "--until-fail",
        "run again and again until a test fails (at most --repeat \
             times)",
        sets!(until_fail),
    ),
    Flag::new(
        "--fail-fast",
        "start no more tests after the first failure",
        sets!(fail_fast),
    ),
    Flag::new(
        "--rerun-failed N",
        "run a failed test up to N more times",
        reads!(rerun_failed, v => number(v, 1)?),
    )
    .long(
        "A test that fails and then passes is flaky: see --flaky. A test may \
             declare more in its header (retries: N).",
    ),
    Flag::new(
        "--flaky pass|fail",
        "whether a flaky test makes the run fail; default fail",
        |a, v| {
            let v = v.unwrap_or_default();
            one_of(v, &["pass", "fail"])?;
            a.flaky_passes = v == "pass";
            Ok(())
        },
    )
    .long(
        "With pass the exit status is 0 and TAP says ok; it is named as flaky all the \
             same, and --failed runs it until it passes at once.",
    ),
    Flag::new(
        "--timeout SECONDS",
        "kill a test that runs for longer; default 600, 0 for no limit",
        reads!(timeout, v => Some(seconds(v)?)),
    )
    .long(
        "A test may declare its own. The stacks of all its processes \
             are written to its log first, where gdb or eu-stack is \
             installed. Lifted under gdb, longer under valgrind.",
    ),
    Flag::new(
        "--coverage[=blocks]",
        "record which functions of QEMU's programs each test reaches; with =blocks, which blocks",
        |a, v| {
            let v = v.unwrap_or("functions");
            one_of(v, &["functions", "blocks"])?;
            a.coverage = Some(match v {
                "blocks" => Detail::Blocks,
                _ => Detail::Functions,
            });
            Ok(())
        },
    )
    .long(
        "For --reaching, --affected-by, --reached-by and --coverage-report. The programs are \
             those that are tested otherwise: nothing is rebuilt. Names need debug symbols or an \
             unstripped build. =blocks tells lines and inlined functions exactly, and takes \
             longer; of programs as large as the emulator it records every block in block/, nbd/ \
             and the tools' own files alone. A test's result replaces its earlier one; functions \
             that have not changed keep theirs when a program is rebuilt. Kept in \
             TEST_DIR-history/coverage. Needs Linux on x86-64.",
    ),
    Flag::new(
        "--keep",
        "keep the scratch files of tests that pass",
        sets!(keep),
    ),
    Flag::new(
        "--output-limit SIZE",
        "kill a test that prints more; default 64M, 0 for no limit",
        reads!(output_limit, v => Some(size(v)?)),
    ),
    Flag::new(
        "--scratch-limit SIZE",
        "kill a test whose scratch files take more; default 16G, 0 for \
             no limit",
        reads!(scratch_limit, v => Some(size(v)?)),
    )
    .long(
        "This is the space used on disk, not the length of the \
             files.",
    ),
    Flag::new(
        "--left-behind fail|warn",
        "verdict of a test that leaves processes or mounts behind",
        |a, v| {
            let v = v.unwrap_or_default();
            one_of(v, &["fail", "warn"])?;
            a.left_behind_fails = Some(v == "fail");
            Ok(())
        },
    )
    .long(
        "They are killed and named either way. Default: fail; in a QEMU \
             tree warn, so that verdicts equal those of QEMU's runner.",
    ),
    Flag::new(
        "--no-capture",
        "show what a test prints as it comes",
        sets!(no_capture),
    )
    .long("It is compared with the reference all the same. Tests run one at a time."),
    Flag::new(
        "--debugger gdb",
        "run a program that one test starts under gdb",
        |a, v| {
            let v = v.unwrap_or_default();
            one_of(v, &["gdb"])?;
            a.debugger = Some(v.into());
            Ok(())
        },
    )
    .long(
        "The first program under test, or the one that --debugger-for names. gdb has the \
             terminal; the program is stopped before its first instruction, and keeps the \
             streams, the process id and the parent that the test gave it. quit kills it, \
             detach lets it go on. Exactly one test, without a time-out (those inside QEMU's \
             Python tests stay). The run is not recorded: tests that failed before count as \
             failed.",
    ),
    Flag::new(
        "--debugger-for PROGRAM",
        "what --debugger is for: PROGRAM, its N-th start (PROGRAM:N), or the test (test)",
        |a, v| {
            a.debugger_for = Some(debuggee(v.unwrap_or_default())?);
            // There is one debugger to choose from.
            a.debugger.get_or_insert_with(|| "gdb".into());
            Ok(())
        },
    )
    .long(
        "qemu-img, qemu-io, qemu-nbd, qemu-storage-daemon, or qemu for the emulator; \
             qemu-img:3 is its third start. Starts that only ask for a version or for help do \
             not count. Of a daemon (qemu-nbd --fork) it is the first process; gdb's \
             follow-fork-mode goes on from there. With test it is the test itself, under \
             'gdb --args'; its output then goes to the terminal and is not compared.",
    ),
];

static GOLDENS: &[Flag] = &[
    Flag::new(
        "--bless[=VARIANT]",
        "save what the tests print as their references",
        |a, v| {
            if let Some(variant) = v {
                one_of(
                    variant,
                    &[&["plain", "nocache", "machine"], FORMATS].concat(),
                )?;
            }
            a.bless = Some(v.map(str::to_owned));
            Ok(())
        },
    )
    .long(
        "Also for a test that has none. Saves the variant that is used, \
             or VARIANT: plain, nocache, machine, or a format. Where no tests, groups \
             or --failed are named, it asks, or wants --all. Refused if CI is set.",
    ),
    Flag::new("--all", "with --bless: of every test, unasked", sets!(all)),
    Flag::new(
        "--review",
        "review the differences of the last run: accept, reject, \
             skip, show",
        acts!(_v => Action::Review),
    )
    .long(
        "Of all tests, or of those named; -qcow2 and the like narrow it to such runs. On a \
             terminal the answers are single keys; ? shows them.",
    ),
    Flag::new(
        "--unused-goldens",
        "list references that no test uses, or that equal the \
             plain one",
        acts!(_v => Action::UnusedGoldens),
    ),
];

static RESULTS: &[Flag] = &[
    Flag::new(
        "--junit FILE",
        "write the results as JUnit XML",
        reads!(junit, v => Some(PathBuf::from(v))),
    ),
    Flag::new(
        "--junit-failures-only",
        "with --junit: no text of tests that passed or were not run",
        sets!(junit_failures_only),
    )
    .long(
        "Their elements stay, since CI systems count them, with name, time and why a test \
             was not run. Left out is their <system-out>: output, cases that were skipped, \
             notes. Failures and flaky tests keep everything.",
    ),
    Flag::new(
        "--record FILE",
        "record the run: its events, and the files of tests that did not pass",
        reads!(record, v => Some(PathBuf::from(v))),
    )
    .long(
        "For check replay, which shows the run again anywhere. In it are the events of \
             --json and, of each job that did not simply pass, output, reference, whole \
             difference, .notrun and .casenotrun, sanitizer logs, stacks and core files. It is a \
             tar file compressed with zstd, and whole up to the last result where the run is \
             killed.",
    ),
    Flag::new(
        "--extract DIR",
        "with check replay: unpack the files of a record into DIR, which must be new or empty",
        reads!(extract, v => Some(PathBuf::from(v))),
    ),
    Flag::new(
        "--json FILE",
        "write the events as JSON, one per line",
        reads!(json, v => Some(PathBuf::from(v))),
    ),
    Flag::new(
        "--html DIR",
        "write the results as an HTML page, DIR/index.html",
        reads!(html, v => Some(PathBuf::from(v))),
    )
    .long(
        "It has the failures first, filters, times, and what has changed since the last run \
             of the same tests and combinations.",
    ),
    Flag::new(
        "--trace FILE",
        "write a trace of which tests ran when, side by side",
        reads!(trace, v => Some(PathBuf::from(v))),
    )
    .long(
        "To be opened in https://ui.perfetto.dev or chrome://tracing: a track for each slot \
             that tests run in, verdicts as colours, and how many tests were running, waiting \
             and done. The file can be opened at any time, also after an aborted run.",
    ),
    Flag::new(
        "--reached-by TEST",
        "list the functions that TEST reaches: those that few others reach first",
        acts!(v => Action::ReachedBy(v.into())),
    )
    .long(
        "As --coverage has recorded it. A line: how many tests reach the function, how soon \
             this one does, its name and its place. Functions that are inlined everywhere are \
             listed where blocks were recorded. -qcow2 and the like narrow it to such runs.",
    ),
    Flag::new(
        "--coverage-report DIR",
        "write which tests reach which functions as an HTML page, DIR/index.html",
        acts!(v => Action::CoverageReport(v.into())),
    )
    .long(
        "As --coverage has recorded it, by file and function; functions that no test reaches \
             first.",
    ),
    Flag::new(
        "--recording DIR",
        "with --coverage-report: show another suite beside it, from its TEST_DIR-history; \
             may be repeated",
        |a, v| {
            a.recordings.push(PathBuf::from(v.unwrap_or_default()));
            Ok(())
        },
    ),
    Flag::new(
        "--history",
        "show the results of earlier runs: of all tests, or of those named",
        acts!(_v => Action::History),
    ),
];

static OTHER: &[Flag] = &[
    Flag::new(
        "--list",
        "list the selected tests: name, groups, first sentence; run nothing",
        sets!(list),
    )
    .long(
        "Tests that cannot support the format given are left out, as for -n. With --json FILE \
             they are written there too, an object (test, groups, summary) per line.",
    ),
    Flag::new(
        "--list-groups",
        "list the groups with their meanings",
        acts!(_v => Action::ListGroups),
    ),
    Flag::new(
        "--new 'WHAT IT TESTS'",
        "create the skeleton of a new test and print its path",
        acts!(v => Action::New(v.into())),
    )
    .long(
        "-g names its groups. The number is the next one of the range (in \
             iotests/README.md) whose tests are most in these groups; where none \
             is, the next behind all ranges. With --start-from NNN it is the \
             first free one from there on.",
    ),
    Flag::new(
        "--install-into QEMU_TREE",
        "replace the tests/qemu-iotests/check of a QEMU tree",
        acts!(v => Action::InstallInto(v.into())),
    )
    .long(
        "A small stub that starts this program; the original is kept \
             beside it as check.orig.",
    ),
    Flag::new(
        "--remove-from QEMU_TREE",
        "restore the tests/qemu-iotests/check of a QEMU tree",
        acts!(v => Action::RemoveFrom(v.into())),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_know_the_same_formats_and_protocols() {
        assert_eq!(FORMATS, testdecl::FORMATS);
        assert_eq!(PROTOCOLS, testdecl::PROTOCOLS);
    }
}
