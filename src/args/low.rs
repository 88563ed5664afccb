//! What the words of the command line say, before files or programs are
//! looked at.

use std::ffi::OsString;
use std::path::PathBuf;

use super::expression::Expression;

/// The command line as given: parsed, but not checked
/// against a tree or a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LowArgs {
    /// What to do in place of running tests; the last one wins.
    pub action: Action,
    /// `-n`.
    pub dry_run: bool,
    /// `--list`.
    pub list: bool,
    /// `-j N`, as given.
    pub jobs: Option<i64>,
    /// `-d`.
    pub debug: bool,
    /// `-p`.
    pub print: bool,
    /// `-gdb`.
    pub gdb: bool,
    /// `-valgrind`.
    pub valgrind: bool,
    /// `-misalign`.
    pub misalign: bool,
    /// `--color`.
    pub color: Color,
    /// `-tap`.
    pub tap: bool,
    /// The format of a single-dash word.
    pub format: Option<String>,
    /// The protocol of a single-dash word.
    pub protocol: Option<String>,
    /// `-nocache`, `-c MODE`.
    pub cache: Option<String>,
    /// `-i MODE`.
    pub aio: Option<String>,
    /// `-o OPTS`.
    pub options: Option<String>,
    /// `--formats`.
    pub formats: Vec<String>,
    /// `--protocols`.
    pub protocols: Vec<String>,
    /// `--caches`.
    pub caches: Vec<String>,
    /// `--qemu`, each folder named.
    pub qemu: Vec<String>,
    /// `-g`.
    pub groups: Vec<String>,
    /// `-x`.
    pub exclude_groups: Vec<String>,
    /// `-X`, each file named.
    pub exclude_files: Vec<PathBuf>,
    /// `--start-from`.
    pub start_from: Option<String>,
    /// `-E`: several are alternatives.
    pub filter: Option<Expression>,
    /// `--reaching`: several are alternatives.
    pub reaching: Vec<String>,
    /// `--affected-by`: commits, or a patch.
    pub affected_by: Option<String>,
    /// `--qemu-source DIR`.
    pub qemu_source: Option<PathBuf>,
    /// `--failed`.
    pub failed: bool,
    /// `--resume`.
    pub resume: bool,
    /// `--shard I/N|auto`.
    pub shard: Option<Share>,
    /// `--shard-times RESULTS`.
    pub shard_times: Option<PathBuf>,
    /// `--shuffle[=SEED]`: the seed, where one is given.
    pub shuffle: Option<Option<u64>>,
    /// `--repeat N`.
    pub repeat: Option<u32>,
    /// `--until-fail`.
    pub until_fail: bool,
    /// `--fail-fast`.
    pub fail_fast: bool,
    /// `--rerun-failed N`.
    pub rerun_failed: u32,
    /// `--flaky`: whether a flaky test is no failure.
    pub flaky_passes: bool,
    /// `--timeout SECONDS`; 0 is none.
    pub timeout: Option<u64>,
    /// `--coverage[=functions|blocks]`.
    pub coverage: Option<Detail>,
    /// `--recording DIR`.
    pub recordings: Vec<PathBuf>,
    /// `--keep`.
    pub keep: bool,
    /// `--output-limit SIZE`, bytes; 0 is none.
    pub output_limit: Option<u64>,
    /// `--scratch-limit SIZE`, bytes; 0 is none.
    pub scratch_limit: Option<u64>,
    /// `--left-behind`: whether that fails a test.
    pub left_behind_fails: Option<bool>,
    /// `--debugger gdb`.
    pub debugger: Option<String>,
    /// `--debugger-for PROGRAM`, `--debugger-for PROGRAM:N`.
    pub debugger_for: Option<Debuggee>,
    /// `--no-capture`.
    pub no_capture: bool,
    /// `--bless[=VARIANT]`: the variant, where one is given.
    pub bless: Option<Option<String>>,
    /// `--all`.
    pub all: bool,
    /// `--junit FILE`.
    pub junit: Option<PathBuf>,
    /// `--junit-failures-only`.
    pub junit_failures_only: bool,
    /// `--json FILE`.
    pub json: Option<PathBuf>,
    /// `--html DIR`.
    pub html: Option<PathBuf>,
    /// `--record FILE`.
    pub record: Option<PathBuf>,
    /// `--extract DIR`.
    pub extract: Option<PathBuf>,
    /// `--trace FILE`.
    pub trace: Option<PathBuf>,
    /// `--source-dir`.
    pub source_dir: Option<PathBuf>,
    /// `--build-dir`.
    pub build_dir: Option<PathBuf>,
    /// `--from-archive`.
    pub from_archive: Option<PathBuf>,
    /// `--profile NAME`.
    pub profile: Option<String>,
    /// Test names, as typed.
    pub tests: Vec<String>,
    /// What follows `--`; `Some` and empty where nothing does.
    pub command: Option<Vec<OsString>>,
}

impl LowArgs {
    /// Whether any argument says which tests are meant, beyond leaving some out.
    #[must_use]
    pub fn narrows(&self) -> bool {
        !self.tests.is_empty()
            || !self.groups.is_empty()
            || self.filter.is_some()
            || self.selects_by_reach()
            || self.failed
            || self.resume
    }

    /// Whether tests are selected by what they reach.
    #[must_use]
    pub fn selects_by_reach(&self) -> bool {
        !self.reaching.is_empty() || self.affected_by.is_some()
    }
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Action {
    /// Run tests (or list them, or run a command).
    #[default]
    Run,
    /// Print a page of help: the short one for `-h`.
    Help {
        /// The complete help (`--help`).
        long: bool,
    },
    /// Print the version.
    Version,
    /// Print the groups and what they mean.
    ListGroups,
    /// Print the results of earlier runs.
    History,
    /// List what this test reaches.
    ReachedBy(String),
    /// Write what tests reach as a page, into this directory.
    CoverageReport(PathBuf),
    /// Review the differences of the last run.
    Review,
    /// List references that no test uses.
    UnusedGoldens,
    /// Write the skeleton of a new test that tests this.
    New(String),
    /// Write the suite to a file that runs elsewhere.
    Archive(PathBuf),
    /// Put a stub in the place of QEMU's runner.
    InstallInto(PathBuf),
    /// Put QEMU's runner back.
    RemoveFrom(PathBuf),
    /// Show a run of earlier again.
    Replay(PathBuf),
    /// Make one run of the results of several.
    MergeResults(Vec<PathBuf>),
}

/// What is recorded of programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// The start of each function.
    Functions,
    /// Every basic block.
    Blocks,
}

/// Which share of the jobs is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The first number, from 1, of the second.
    Of(usize, usize),
    /// What the environment says.
    Auto,
}

/// What runs under a debugger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debuggee {
    /// The test itself.
    Test,
    /// A program under test.
    Start {
        /// Which: one of [`DEBUGGEES`]; `None` for whichever is started.
        program: Option<&'static str>,
        /// Which of its starts, from 1.
        nth: u32,
    },
}

impl Default for Debuggee {
    fn default() -> Self {
        Self::Start {
            program: None,
            nth: 1,
        }
    }
}

/// The programs under test, and the variable that tells tests where each is.
pub const DEBUGGEES: [(&str, &str); 5] = [
    ("qemu-img", "QEMU_IMG_PROG"),
    ("qemu-io", "QEMU_IO_PROG"),
    ("qemu-nbd", "QEMU_NBD_PROG"),
    ("qemu-storage-daemon", "QSD_PROG"),
    ("qemu", "QEMU_PROG"),
];

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Color {
    /// Where the output goes to a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}
