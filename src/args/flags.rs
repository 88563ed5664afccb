//! Every option: its words, its help and its effect.

use std::path::PathBuf;

use super::flag::{Flag, Section};
use super::low::{Action, Color};
use super::values::{groups, jobs, list_of, number, one_of, shard, size};

/// Formats with a single-dash word, in the order of the help.
pub const FORMATS: [&str; 14] = [
    "raw",
    "bochs",
    "cloop",
    "parallels",
    "qcow",
    "qcow2",
    "qed",
    "vdi",
    "vpc",
    "vhdx",
    "vmdk",
    "luks",
    "dmg",
    "vvfat",
];

/// Protocols with a single-dash word, in the order of the help.
pub const PROTOCOLS: [&str; 6] = ["file", "rbd", "nbd", "ssh", "nfs", "fuse"];

/// Cache modes QEMU knows.
pub const CACHES: [&str; 5] = ["none", "writeback", "writethrough", "directsync", "unsafe"];

/// A single-dash word that names a format.
macro_rules! format_flag {
    ($name:literal) => {
        Flag::switch(
            &[concat!("-", $name)],
            Section::Format,
            concat!("test ", $name),
            |a, _| {
                a.format = Some($name.into());
                Ok(())
            },
        )
        .classic()
        .exclusive("format")
    };
}

/// A single-dash word that names a protocol.
macro_rules! protocol_flag {
    ($name:literal) => {
        Flag::switch(
            &[concat!("-", $name)],
            Section::Protocol,
            concat!("test ", $name),
            |a, _| {
                a.protocol = Some($name.into());
                Ok(())
            },
        )
        .classic()
        .exclusive("protocol")
    };
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

use Section::{Environment, General, Goldens, Other, Results, Run, Select};

/// Every option there is.
pub static FLAGS: &[Flag] = &[
    Flag::switch(
        &["-h"],
        General,
        "print a short help",
        acts!(_v => Action::Help { long: false }),
    )
    .classic(),
    Flag::switch(
        &["--help"],
        General,
        "print the complete help",
        acts!(_v => Action::Help { long: true }),
    )
    .classic(),
    Flag::switch(
        &["--version"],
        General,
        "print the version",
        acts!(_v => Action::Version),
    ),
    Flag::switch(
        &["-n", "--dry-run"],
        General,
        "print the names of the selected tests, run nothing",
        sets!(dry_run),
    )
    .classic()
    .long(
        "One name a line; no programs are needed. With a format given, \
             tests that say they cannot support it are left out.",
    ),
    Flag::value(
        &["-j"],
        "N",
        General,
        "run exactly N tests at once",
        reads!(jobs, v => Some(jobs(v)?)),
    )
    .classic()
    .long(
        "Without it, as many tests run at once as keep the CPUs \
             busy: more than there are CPUs while tests only wait, \
             fewer when load or memory requires it. Tests that must be alone \
             (group serial, -gdb, --debugger) are.",
    ),
    Flag::switch(
        &["-d"],
        General,
        "debug: pass -d on to the tests",
        sets!(debug),
    )
    .classic(),
    Flag::switch(
        &["-p"],
        General,
        "print QEMU's own output into the test's output",
        sets!(print),
    )
    .classic()
    .long("Sets PRINT_QEMU=y for the tests."),
    Flag::switch(
        &["-gdb"],
        General,
        "run QEMU under gdbserver, with $GDB_OPTIONS",
        sets!(gdb),
    )
    .classic()
    .long(
        "localhost:12345 where GDB_OPTIONS is unset or empty. Tests \
             run one at a time, without a time-out.",
    ),
    Flag::switch(
        &["-valgrind"],
        General,
        "run QEMU's programs under valgrind",
        sets!(valgrind),
    )
    .classic()
    .long("Sets VALGRIND_QEMU=y for the tests; time-outs are longer."),
    Flag::switch(
        &["-misalign"],
        General,
        "misalign memory buffers (qemu-io --misalign)",
        sets!(misalign),
    )
    .classic(),
    Flag::value(
        &["--color"],
        "on|off|auto",
        General,
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
    )
    .classic(),
    Flag::switch(
        &["-tap"],
        General,
        "write TAP version 13 to stdout (verdicts are numbered outside QEMU trees)",
        sets!(tap),
    )
    .classic(),
    Flag::value(
        &["--source-dir"],
        "DIR",
        General,
        "directory of the tests and their references",
        reads!(source_dir, v => Some(PathBuf::from(v))),
    )
    .classic()
    .long(
        "Started through a symbolic link, as from a build tree: where \
             the link points. Else the current directory, or, where that \
             holds no tests, the directory of this program's own suite.",
    ),
    Flag::value(
        &["--build-dir"],
        "DIR",
        General,
        "build directory; programs are taken from two levels above it",
        reads!(build_dir, v => Some(PathBuf::from(v))),
    )
    .classic()
    .long(
        "Started through a symbolic link: where the link stands. Else \
             the current directory. Without programs there, those of the \
             installed QEMU are found in PATH.",
    ),
    Flag::switch(
        &["-nocache"],
        Environment,
        "use cache mode none (O_DIRECT)",
        reads!(cache, _v => Some("none".into())),
    )
    .classic()
    .exclusive("cache"),
    Flag::value(
        &["-c"],
        "MODE",
        Environment,
        "use this cache mode; default writeback",
        reads!(cache, v => Some(v.into())),
    )
    .classic()
    .exclusive("cache"),
    Flag::value(
        &["-i"],
        "MODE",
        Environment,
        "use this aio mode; default threads",
        reads!(aio, v => Some(v.into())),
    )
    .classic(),
    Flag::value(
        &["-o"],
        "OPTS",
        Environment,
        "create images with these options (IMGOPTS)",
        reads!(options, v => Some(v.into())),
    )
    .classic()
    .long("In a QEMU tree Python tests ignore them."),
    Flag::value(
        &["--formats"],
        "F1,F2,...",
        Environment,
        "run with each of these formats, as one run",
        reads!(formats, v => list_of(v, &FORMATS)?),
    )
    .exclusive("format")
    .long(
        "With --protocols and --caches every combination is run, in \
             one pool with one summary.",
    ),
    Flag::value(
        &["--protocols"],
        "P1,P2,...",
        Environment,
        "run with each of these protocols, as one run",
        reads!(protocols, v => list_of(v, &PROTOCOLS)?),
    )
    .exclusive("protocol"),
    Flag::value(
        &["--caches"],
        "C1,C2,...",
        Environment,
        "run with each of these cache modes, as one run",
        reads!(caches, v => list_of(v, &CACHES)?),
    )
    .exclusive("cache"),
    format_flag!("raw"),
    format_flag!("bochs"),
    format_flag!("cloop"),
    format_flag!("parallels"),
    format_flag!("qcow"),
    format_flag!("qcow2"),
    format_flag!("qed"),
    format_flag!("vdi"),
    format_flag!("vpc"),
    format_flag!("vhdx"),
    format_flag!("vmdk"),
    format_flag!("luks"),
    format_flag!("dmg"),
    format_flag!("vvfat"),
    protocol_flag!("file"),
    protocol_flag!("rbd"),
    protocol_flag!("nbd"),
    protocol_flag!("ssh"),
    protocol_flag!("nfs"),
    protocol_flag!("fuse"),
    Flag::value(
        &["-g", "--groups"],
        "G1,G2,...",
        Select,
        "include the tests of these groups",
        reads!(groups, v => groups(v)?),
    )
    .classic()
    .long(
        "Tests of group disabled are left out unless it is asked for \
             here. Tests named as well are added, and never excluded.",
    ),
    Flag::value(
        &["-x", "--exclude-groups"],
        "G1,G2,...",
        Select,
        "leave out the tests of these groups",
        reads!(exclude_groups, v => groups(v)?),
    )
    .classic(),
    Flag::value(
        &["--start-from"],
        "TEST",
        Select,
        "drop every test before TEST in the sorted sequence",
        reads!(start_from, v => Some(v.into())),
    )
    .classic(),
    Flag::value(
        &["-X", "--exclude-file"],
        "FILE",
        Select,
        "do not run the tests that FILE lists; may be repeated",
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
             slow there",
    ),
    Flag::switch(
        &["--failed"],
        Select,
        "only what failed or was not started in the last run",
        sets!(failed),
    )
    .exclusive("last run"),
    Flag::switch(
        &["--resume"],
        Select,
        "only what an interrupted run did not start or finish",
        sets!(resume),
    )
    .exclusive("last run"),
    Flag::value(
        &["--shard"],
        "I/N",
        Select,
        "only the I-th of N equal shares, I from 1",
        reads!(shard, v => Some(shard(v)?)),
    ),
    Flag::maybe(
        &["--shuffle"],
        "SEED",
        Run,
        "run in random order",
        |a, v| {
            a.shuffle = Some(v.map(|v| number(v, 0)).transpose()?);
            Ok(())
        },
    )
    .long("The seed is printed; the same seed gives the same order."),
    Flag::value(
        &["--repeat"],
        "N",
        Run,
        "run every test N times",
        reads!(repeat, v => Some(number(v, 1)?)),
    ),
    Flag::switch(
        &["--until-fail"],
        Run,
        "run again and again until a test fails (at most --repeat \
             times)",
        sets!(until_fail),
    ),
    Flag::switch(
        &["--fail-fast"],
        Run,
        "start no more tests after the first failure",
        sets!(fail_fast),
    ),
    Flag::value(
        &["--rerun-failed"],
        "N",
        Run,
        "run a failed test up to N more times",
        reads!(rerun_failed, v => number(v, 1)?),
    )
    .long(
        "A test that fails and then passes is flaky: not passed, and \
             the exit status is 1.",
    ),
    Flag::value(
        &["--timeout"],
        "SECONDS",
        Run,
        "kill a test that runs for longer; default 600, 0 for no limit",
        reads!(timeout, v => Some(number(v, 0)?)),
    )
    .long(
        "A test may declare its own. The stacks of all its processes \
             are written to its log first, where gdb or eu-stack is \
             installed. Lifted under gdb, longer under valgrind.",
    ),
    Flag::switch(
        &["--keep"],
        Run,
        "keep the scratch files of tests that pass",
        sets!(keep),
    ),
    Flag::value(
        &["--output-limit"],
        "SIZE",
        Run,
        "kill a test that prints more; default 64M, 0 for no limit",
        reads!(output_limit, v => Some(size(v)?)),
    ),
    Flag::value(
        &["--scratch-limit"],
        "SIZE",
        Run,
        "kill a test whose scratch files take more; default 16G, 0 for \
             no limit",
        reads!(scratch_limit, v => Some(size(v)?)),
    )
    .long(
        "This is the space used on disk, not the length of the \
             files.",
    ),
    Flag::value(
        &["--left-behind"],
        "fail|warn",
        Run,
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
    Flag::value(
        &["--debugger"],
        "gdb",
        Run,
        "run one test under 'gdb --args'",
        |a, v| {
            let v = v.unwrap_or_default();
            one_of(v, &["gdb"])?;
            a.debugger = Some(v.into());
            Ok(())
        },
    )
    .long(
        "Exactly one test, on the terminal and without a \
             time-out. The run is not recorded: tests that failed before count \
             as failed.",
    ),
    Flag::maybe(
        &["--bless"],
        "VARIANT",
        Goldens,
        "save what the tests print as their references",
        |a, v| {
            if let Some(variant) = v {
                one_of(
                    variant,
                    &[&["plain", "nocache", "machine"], &FORMATS[..]].concat(),
                )?;
            }
            a.bless = Some(v.map(str::to_owned));
            Ok(())
        },
    )
    .long(
        "Also for a test that has none. Saves the variant that is used, \
             or VARIANT: plain, nocache, machine, or a format. Refused \
             if CI is set.",
    ),
    Flag::switch(
        &["--review"],
        Goldens,
        "review the differences of the last run: accept, reject, \
             skip, show",
        acts!(_v => Action::Review),
    ),
    Flag::switch(
        &["--unused-goldens"],
        Goldens,
        "list references that no test uses, or that equal the \
             plain one",
        acts!(_v => Action::UnusedGoldens),
    ),
    Flag::value(
        &["--junit"],
        "FILE",
        Results,
        "write the results as JUnit XML",
        reads!(junit, v => Some(PathBuf::from(v))),
    ),
    Flag::value(
        &["--json"],
        "FILE",
        Results,
        "write the events as JSON, one per line",
        reads!(json, v => Some(PathBuf::from(v))),
    ),
    Flag::value(
        &["--html"],
        "DIR",
        Results,
        "write the results as an HTML page, DIR/index.html",
        reads!(html, v => Some(PathBuf::from(v))),
    ),
    Flag::switch(
        &["--history"],
        Results,
        "show the results of earlier runs: of all tests, or of those named",
        acts!(_v => Action::History),
    ),
    Flag::switch(
        &["--list-groups"],
        Other,
        "list the groups with their meanings",
        acts!(_v => Action::ListGroups),
    ),
    Flag::value(
        &["--new"],
        "'WHAT IT TESTS'",
        Other,
        "create the skeleton of a new test and print its path",
        acts!(v => Action::New(v.into())),
    )
    .long(
        "-g names its groups. The number is the next one of the range (in \
             iotests/README.md) whose tests are most in these groups; where none \
             is, the next behind all ranges. With --start-from NNN it is the \
             first free one from there on.",
    ),
    Flag::value(
        &["--install-into"],
        "QEMU_TREE",
        Other,
        "replace the tests/qemu-iotests/check of a QEMU tree",
        acts!(v => Action::InstallInto(v.into())),
    )
    .long(
        "A small stub that starts this program; the original is kept \
             beside it as check.orig.",
    ),
    Flag::value(
        &["--remove-from"],
        "QEMU_TREE",
        Other,
        "restore the tests/qemu-iotests/check of a QEMU tree",
        acts!(v => Action::RemoveFrom(v.into())),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_used_once() {
        let mut words: Vec<_> = FLAGS.iter().flat_map(|f| f.words).collect();
        let all = words.len();
        words.sort();
        words.dedup();
        assert_eq!(words.len(), all);
    }

    #[test]
    fn formats_and_protocols_have_their_words() {
        let has = |name: &str, section| {
            FLAGS
                .iter()
                .any(|f| f.section == section && f.words[0].strip_prefix('-') == Some(name))
        };
        assert!(FORMATS.iter().all(|f| has(f, Section::Format)));
        assert!(PROTOCOLS.iter().all(|p| has(p, Section::Protocol)));
    }

    #[test]
    fn defaults_are_those_of_a_run() {
        let settings = crate::run::Settings::new("t".into(), "s".into());
        let timeout = settings.timeout.map_or(0, |t| t.as_secs());
        for (option, default) in [
            ("--timeout", format!("default {timeout},")),
            (
                "--output-limit",
                format!("default {}M,", settings.output_limit >> 20),
            ),
            (
                "--scratch-limit",
                format!("default {}G,", settings.scratch_limit >> 30),
            ),
        ] {
            let flag = FLAGS.iter().find(|f| f.words.contains(&option));
            let said = flag.is_some_and(|f| f.short.contains(&default));
            assert!(said, "{option}: {default}");
        }
    }

    #[test]
    fn help_texts_are_fragments() {
        for flag in FLAGS {
            assert!(!flag.short.ends_with('.'), "{}", flag.title());
            assert!(
                flag.long.is_empty() || flag.long.ends_with(['.', 'e']),
                "{}",
                flag.title()
            );
        }
    }
}
