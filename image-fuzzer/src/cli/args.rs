//! The options.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use blocks::FileGlob;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args as ClapArgs, CommandFactory as _, Parser};

use super::conform::{ConformArgs, GenerateArgs};
use super::device_args::{DeviceArgs, EmulatorArgs};
use super::export::ExportArgs;
use super::merge::MergeArgs;
use super::read::ReadArgs;
use super::values::{groups, guard, seconds};
use crate::campaign::{Feedback, Fleet, StatusMode};
use crate::commands::build::Build;
use crate::commands::{Command, Programs, given};
use crate::exec::Limits;
use crate::files::existing_path;
use crate::input::guard::GuardPlan;
use crate::inspect::set::SetArgs;
use crate::inspect::show::ShowArgs;
use crate::oracle::Class;
use crate::oracle::readers::SecondReader;
use crate::oracle::runner::Settings;
use image_mutations::base::Formats;
use image_mutations::mutate::{FAMILIES, FieldSelection, Intensity};

/// Makes disk images that are valid except for a few targeted corruptions, runs programs on
/// them and checks for crashes, hangs and corruption.
///
/// Without -c, sequences of qemu-img and qemu-io commands are drawn at random. QEMU_IMG and
/// QEMU_IO name the programs to run, arguments included; the default is those in PATH. A
/// campaign can be stopped at any time, and resumes when it is started again with the same
/// TEST_DIR.
///
/// Exit status: 0 no findings, 1 an error, 2 a wrong command line, 3 findings (of reproduce:
/// not reproduced), 130 interrupted where it cannot be resumed.
#[derive(Debug, Parser)]
#[command(
    name = "image-fuzzer",
    version,
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) subcommand: Option<Subcommand>,
    #[command(flatten)]
    pub(super) fuzz: FuzzArgs,
}

impl Args {
    /// The subcommand that `word` is probably a misspelling of: it is parsed as the name of a
    /// work folder to create.
    fn similar_subcommand(word: &Path) -> Option<String> {
        let text = word.to_str()?;
        if text.contains('/') || word.exists() {
            return None;
        }
        let command = Self::command();
        let names = command.get_subcommands().map(|known| known.get_name());
        let (distance, name) = names
            .chain(["help"])
            .map(|name| (strsim::osa_distance(text, name), name))
            .min()
            .filter(|(distance, _)| *distance > 0)?;
        let max_distance = (name.len() / 3).clamp(1, 2);
        (distance <= max_distance).then(|| name.to_owned())
    }
}

/// The subcommands; without one it is `fuzz`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Run a campaign; the same as without a subcommand
    Fuzz(Box<FuzzArgs>),
    /// Fuzz a device of an emulator: what a guest can do to it
    ///
    /// Inputs are accesses of ports, registers and memory, over the QTest protocol of a stock
    /// emulator. See docs/devices.md.
    ///
    /// Exit status: 0 no findings, 3 findings, 1 an error, 2 a wrong command line.
    Device(Box<DeviceArgs>),
    /// Show the structure of an image and its defects
    Show(ShowArgs),
    /// Change one field of an image and nothing else
    ///
    /// The bytes of the field are written in place: the file keeps its length and its links.
    Set(SetArgs),
    /// Write what the guest reads from an image, as another reader has it
    ///
    /// For --compare-with, and for fuzzing that reader: -c 'image-fuzzer read --with imago
    /// $test_img'.
    Read(ReadArgs),
    /// Write images of a format, each in a folder with its recipe and what is known of it
    ///
    /// image.json has the features that the image uses, the files that it needs, and of a valid
    /// image the size of its disk and, up to 64 MiB, the SHA-256 of the data that its guest
    /// reads. The same seed gives the same files.
    Generate(GenerateArgs),
    /// Show which features of a format a reader knows, and which broken images it accepts
    ///
    /// Gives images of each feature, of rising complexity, to a reader that writes the data of
    /// the disk to its standard output, or into the file $out: image-fuzzer conform qcow2 --
    /// qemu-img convert -f qcow2 -O raw $img $out. Broken images break one rule each that a
    /// reader must enforce.
    ///
    /// Exit status: 0; 3 other data than the image holds, a crash, or no end; 1 an error.
    Conform(ConformArgs),
    /// Run the recipe of a finding, or those of all findings in a work folder
    ///
    /// Prints the stack of a crash with functions, files and lines where there are debug
    /// symbols.
    ///
    /// With --with, prints which builds show which findings, and keeps that in the folders of
    /// the findings. A build is the folder of qemu-img and qemu-io, or one with them in build,
    /// bin, usr/bin or usr/local/bin. Where it also has the loader that they ask for, as the
    /// root of another system has, they run with its loader and its libraries.
    ///
    /// Exit status: 0 reproduced, or, with --with, whatever the builds show; 3 not reproduced;
    /// 1 an error. With --exit-status: 0 not shown, 1 shown, 125 the build cannot be run, 128
    /// an error.
    Reproduce(ReproduceArgs),
    /// Find the first build that shows a finding, or the first that no longer does
    ///
    /// The builds are folders as for 'reproduce --with', the oldest first. Of the builds
    /// between one that shows the finding and one that does not, the one in the middle is run
    /// until two are left; those that cannot be run are passed over. Another finding counts as
    /// not shown.
    ///
    /// Exit status: 0 found; 3 the oldest and the newest build agree; 1 an error.
    ///
    /// For a bisection of QEMU's history: git bisect run sh -c 'ninja -C build qemu-img qemu-io
    /// || exit 125; image-fuzzer reproduce --with build --exit-status FOLDER'.
    Bisect(BisectArgs),
    /// Minimise the example of a finding
    #[command(visible_alias = "minimize")]
    Minimise(ReplayArgs),
    /// List the findings in a work folder
    Report(ReportArgs),
    /// Show which basic blocks and functions of the programs a campaign reached
    ///
    /// By source file, where the programs have debug symbols or those are installed; else by
    /// function, as the distance from where the program is loaded, and with the command that
    /// installs them. A program that was replaced since has counts alone.
    Coverage(CoverageArgs),
    /// Make one work folder of several
    ///
    /// The queue has the fewest recipes that reach what all of them reach; those of which it is
    /// not known stay. Each group of findings has its smallest example and the hits of all
    /// campaigns. The statistics are added up; curves over time, and the folders of tests that
    /// were kept, stay where they are. A campaign can go on in the new folder. It appears whole
    /// or not at all.
    ///
    /// Exit status: 0; 1 a folder is damaged, in use or of another version.
    Merge(MergeArgs),
    /// Write the images of a campaign for other fuzzers
    ///
    /// Those of the queue that reach something of their own, each once, without commands. Images
    /// that show a finding are in crashes and hangs of the work folder.
    Export(ExportArgs),
}

/// The options of a campaign.
#[derive(Debug, ClapArgs)]
pub(super) struct FuzzArgs {
    /// Work folder: queue, findings, logs
    #[arg(value_name = "TEST_DIR", default_value = "image-fuzzer.work")]
    pub(super) test_dir: PathBuf,
    /// Format of the images; 'all' shares the time out
    #[arg(value_name = "FORMAT", default_value = "qcow2", value_parser = PossibleValuesParser::new(Formats::words()))]
    pub(super) format: String,
    /// The same as the second word
    #[arg(long = "format", value_name = "FORMAT", value_parser = PossibleValuesParser::new(Formats::words()))]
    pub(super) format_option: Option<String>,
    /// Stop after this many seconds; what is not finished then is finished when the
    /// campaign is resumed
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) duration: Option<Duration>,
    /// Command to run on each image: a line as typed, such as 'qemu-img info', or a
    /// JSON array of arrays of strings; $test_img is the image (appended to a line
    /// without it), $off and $len a range of the disk. Can be repeated
    #[arg(short, long, value_name = "COMMAND", value_parser = commands)]
    pub(super) command: Vec<GivenCommands>,
    /// Run a single test, made from this seed alone
    #[arg(short, long, value_name = "STRING", conflicts_with_all = ["campaign_seed", "tests"])]
    pub(super) seed: Option<String>,
    /// Draw the tests of the campaign from this seed. Which tests that gives also depends on
    /// the number of workers and on timing, since what was seen before affects it
    #[arg(long, value_name = "STRING")]
    pub(super) campaign_seed: Option<String>,
    /// Change only these structures and fields, a JSON array:
    /// [["header"], ["header","version"]]; of a structure a random share of its fields is
    /// changed, a named field always. Of formats other than qcow2 they are named as 'show' names
    /// them, without indexes: [["footer","checksum"], ["bat"]]
    #[arg(long, value_name = "JSON", value_parser = selection)]
    pub(super) config: Option<String>,
    /// Keep the folders of tests that passed
    #[arg(short, long, alias = "keep_passed")]
    pub(super) keep_passed: bool,
    /// Log passed tests too
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Number of workers [default: 3 for every 2 processors]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) jobs: Option<u16>,
    /// Stop after this many tests, counted over the whole campaign
    #[arg(long, value_name = "N")]
    pub(super) tests: Option<u64>,
    /// Stop when so many groups of findings are confirmed, those of earlier runs included:
    /// 3-groups
    #[arg(long, value_name = "N-groups", value_parser = groups)]
    pub(super) until: Option<usize>,
    /// Stop at the first finding; the same as --until 1-groups
    #[arg(long, conflicts_with = "until")]
    pub(super) exit_on_finding: bool,
    /// How much is changed: a number of edits (2; 0 for valid images), a range (1-3), or a
    /// share of the fields (20%-50%, as QEMU's image fuzzer did, and where --config names a
    /// structure) [default: 1-3]
    #[arg(long, value_name = "AMOUNT")]
    pub(super) intensity: Option<Intensity>,
    /// Draw edits from this family of mutations only; can be repeated
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(FAMILIES.iter().map(|family| family.name)))]
    pub(super) family: Vec<String>,
    /// Run tests under an allocator that puts blocks of memory beside inaccessible pages: at
    /// their ends or starts, or at the end of all blocks, which is slow [default: ends or
    /// starts for one test in 4]
    #[arg(long, value_name = "WHERE", value_parser = guard)]
    pub(super) guard: Option<GuardPlan>,
    /// Run also where a command fails on a valid image or its program is not found: such
    /// commands are left out, or say nothing about the images
    #[arg(long)]
    pub(super) force: bool,
    /// How to show the status on standard error: a screen, one line that is redrawn, plain
    /// lines now and then, or not at all [default: a screen on a terminal, elsewhere plain]
    #[arg(long, value_name = "HOW", value_parser = status)]
    pub(super) status: Option<StatusMode>,
    /// Leave out the sweep, which tries the limits of the formats in a fixed order before and
    /// between the tests drawn at random
    #[arg(long)]
    pub(super) no_sweep: bool,
    /// Run the sweep alone, and end with it
    #[arg(long, conflicts_with_all = ["no_sweep", "seed"])]
    pub(super) sweep_only: bool,
    /// List the tests of the sweep and run nothing: number, base image, what is changed, and
    /// the commands
    #[arg(long, requires = "sweep_only")]
    pub(super) list: bool,
    /// Do not note which basic blocks of programs are reached: recipes are kept for new
    /// messages and exit statuses alone. Blocks are noted of stock programs for x86-64 that
    /// have a fork server and leave SIGILL alone; 'image-fuzzer coverage' shows them
    #[arg(long)]
    pub(super) no_coverage: bool,
    /// What decides which earlier recipes are varied, and how: new 'blocks' and messages, new
    /// 'messages' alone, or nothing ('off', every test is drawn anew)
    #[arg(long, value_name = "WHAT", value_parser = feedback_parser(), conflicts_with = "seed")]
    pub(super) feedback: Option<Feedback>,
    /// Note the blocks of this library too, where a program has loaded it; can be repeated
    #[arg(long, value_name = "LIBRARY", value_parser = existing_path, conflicts_with_all = ["no_coverage", "no_fork_server"])]
    pub(super) cover: Vec<PathBuf>,
    /// Share what is found with the other instances of a fleet, image-fuzzer and 'afl-fuzz -M'
    /// or -S, that have their folders in this one; it may be on a shared file system
    #[arg(long, value_name = "DIR", requires = "name", conflicts_with_all = ["seed", "sweep_only"])]
    pub(super) sync: Option<PathBuf>,
    /// The name of this instance, and of its folder in that of the fleet: up to 32 letters,
    /// digits, - and _
    #[arg(long, value_name = "NAME", requires = "sync", value_parser = instance)]
    pub(super) name: Option<String>,
    /// How long it is between two looks at the other instances
    #[arg(long, value_name = "SECONDS", requires = "sync", default_value = "30", value_parser = seconds)]
    pub(super) sync_interval: Duration,
    /// Run qemu-img and qemu-io of this folder, which has them in build, bin or usr/bin or
    /// itself, whatever QEMU_IMG and QEMU_IO say; scripts/qemu-version makes such folders
    #[arg(long, value_name = "DIR", value_parser = existing_path)]
    pub(super) qemu: Option<PathBuf>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

impl FuzzArgs {
    /// The fleet that the campaign is an instance of.
    pub(super) fn fleet(&self) -> Option<Fleet> {
        Some(Fleet {
            dir: self.sync.clone()?,
            name: self.name.clone()?,
            interval: self.sync_interval,
        })
    }

    /// What to ask where the word for the work folder, given without the subcommand, is
    /// probably meant to be something else; `None` where it is not.
    pub(super) fn question(&self) -> Option<String> {
        let folder = self.test_dir.display();
        if self.test_dir.is_file() {
            return Some(format!(
                "'{folder}' is a file, not a work folder; did you mean 'image-fuzzer show {folder}'?"
            ));
        }
        let name = Args::similar_subcommand(&self.test_dir)?;
        Some(format!(
            "unknown subcommand '{folder}'; did you mean '{name}'? To use a work folder of that \
             name, give ./{folder}"
        ))
    }
}

/// How programs are run.
#[derive(Debug, ClapArgs)]
pub(super) struct RunArgs {
    /// Another qemu-img, arguments included, or the name of a reader (7z, imago, pyqcow): what
    /// both make of the same image is compared, of mutated images the data that the guest reads
    #[arg(long, value_name = "PROGRAM", value_parser = program)]
    pub(super) compare_with: Option<ProgramWords>,
    /// Programs given with -c that are not QEMU's must refuse images that break the rules of
    /// the format, as its specification says readers must [default: where they refuse an image
    /// without the magic bytes]
    #[arg(long)]
    pub(super) must_refuse: bool,
    /// Time limit for a command, in seconds; it hangs if it takes six times as long
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(super) timeout: Duration,
    /// Memory limit for a command, in MiB
    #[arg(long, value_name = "MIB", default_value = "1024", value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    pub(super) memory: u64,
    /// Limit for the disk space that a command adds, in MiB
    #[arg(long, value_name = "MIB", default_value = "512", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(super) disk: u64,
    /// Start programs anew for each command, without a fork server; blocks are not noted
    #[arg(long)]
    pub(super) no_fork_server: bool,
    /// Let programs access all files and the network; only for machines that may be damaged
    #[arg(long)]
    pub(super) no_sandbox: bool,
    /// Report memory leaks of programs that were built with AddressSanitizer
    #[arg(long)]
    pub(super) leaks: bool,
    /// Let programs read this folder, besides their own and the system's: where a program is
    /// a script, the folder of the program that it starts; can be repeated
    #[arg(long, alias = "readable", value_name = "DIR", value_parser = existing_path)]
    pub(super) allow_read: Vec<PathBuf>,
    /// Look for separate debug files in this folder, too, which has them as /usr/lib/debug has
    /// (.build-id/3a/6fdf43.debug); can be repeated
    #[arg(long, value_name = "DIR", value_parser = existing_path)]
    pub(super) debug_dir: Vec<PathBuf>,
}

impl RunArgs {
    /// The settings of test runners, whose scratch folders are in memory or in `fallback`, with
    /// the programs of the folder `qemu`, where one is named.
    ///
    /// # Errors
    ///
    /// A program is not found, or the environment names one with an unclosed quotation mark.
    pub(super) fn settings(&self, qemu: Option<&Path>, fallback: &Path) -> Result<Settings> {
        let mut readable = self.allow_read.clone();
        let programs = match qemu {
            None => Programs::from_env()?,
            Some(folder) => {
                let build = Build::open(folder, &BTreeSet::from(["qemu-img", "qemu-io"]))
                    .with_context(|| format!("--qemu '{}'", folder.display()))?;
                readable.extend(build.readable);
                build.programs
            }
        };
        let compare_with = match &self.compare_with {
            None => None,
            Some(ProgramWords(words))
                if words.len() == 1 && SecondReader::known(&words[0]).is_some() =>
            {
                let reader = SecondReader::known(&words[0]);
                if let Some(reader) = &reader {
                    programs.find(reader.command().program())?;
                }
                reader
            }
            Some(words) => {
                let words = words.0.iter().map(Into::into).collect();
                let other = programs.with_qemu_img(words);
                other.find("qemu-img")?;
                Some(SecondReader::QemuImg(other))
            }
        };
        Ok(Settings {
            limits: Limits {
                wall: self.timeout,
                // A thread that spins is to exceed the wall-clock limit first, so that its
                // stack is sampled.
                cpu: (self.timeout * 2).max(Duration::from_secs(1)),
                memory: self.memory << 20,
                disk_growth: self.disk << 20,
                ..Limits::default()
            },
            compare_with,
            must_refuse: self.must_refuse,
            leaks: self.leaks,
            fork_server: !self.no_fork_server,
            sandbox: !self.no_sandbox,
            readable,
            debug_folders: self.debug_dir.clone(),
            ..Settings::new(programs, fallback)
        })
    }
}

/// The options of `reproduce`.
#[derive(Debug, ClapArgs)]
pub(super) struct ReproduceArgs {
    /// Folders of findings or tests, or work folders
    #[arg(value_name = "DIR", required = true)]
    pub(super) dirs: Vec<PathBuf>,
    /// Run the findings with the programs in each of these folders, and print which show them
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub(super) with: Vec<PathBuf>,
    /// Run them with qemu-img and qemu-io of this folder, as a campaign with --qemu does
    #[arg(long, value_name = "DIR", value_parser = existing_path, conflicts_with = "with")]
    pub(super) qemu: Option<PathBuf>,
    /// Print the result of --with as JSON
    #[arg(long, requires = "with")]
    pub(super) json: bool,
    /// Tell by the exit status alone whether the build of --with shows a finding, as 'git
    /// bisect run' wants it; nothing is kept
    #[arg(long, requires = "with", conflicts_with = "json")]
    pub(super) exit_status: bool,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// The options of `bisect`.
#[derive(Debug, ClapArgs)]
pub(super) struct BisectArgs {
    /// Folder of a finding
    #[arg(value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// Folders of builds, the oldest first
    #[arg(value_name = "BUILD", required = true, num_args = 2..)]
    pub(super) builds: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// The options of `minimise`.
#[derive(Debug, ClapArgs)]
pub(super) struct ReplayArgs {
    /// Folder of a finding or of a test; with --device-args a trace of QTest operations
    #[arg(value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// The arguments of the emulator for a trace from elsewhere: '-M pc -device lsi ...'
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub(super) device_args: Option<String>,
    /// Folder to make for the trace, the tests and the text to mail [default: DIR.minimised]
    #[arg(long, value_name = "DIR", requires = "device_args")]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) emulator: EmulatorArgs,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// The options of `report`.
#[derive(Debug, ClapArgs)]
pub(super) struct ReportArgs {
    /// Work folder
    #[arg(value_name = "TEST_DIR", default_value = "image-fuzzer.work")]
    pub(super) dir: PathBuf,
    /// Only findings of this class, such as crash; can be repeated
    #[arg(long, value_name = "CLASS", value_parser = class)]
    pub(super) class: Vec<Class>,
    /// Only findings whose text or command contains this, a regular expression
    #[arg(long, value_name = "REGEX")]
    pub(super) matching: Option<regex::Regex>,
    /// Compare with the findings in another work folder, such as one of another version of
    /// the programs: which are new here, gone, or still there
    #[arg(long, value_name = "TEST_DIR")]
    pub(super) against: Option<PathBuf>,
    /// Of the findings in a device, print the tests in C for QEMU's tests/qtest
    #[arg(long, conflicts_with_all = ["html", "sarif", "json"])]
    pub(super) qtest_c: bool,
    /// Print JSON
    #[arg(long, conflicts_with_all = ["html", "sarif"])]
    pub(super) json: bool,
    /// Write a log in the form of SARIF 2.1.0; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "html")]
    pub(super) sarif: Option<PathBuf>,
    /// Write a self-contained HTML page; - is standard output
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}

/// The options of `coverage`.
#[derive(Debug, ClapArgs)]
pub(super) struct CoverageArgs {
    /// Work folder
    #[arg(value_name = "TEST_DIR", default_value = "image-fuzzer.work")]
    pub(super) dir: PathBuf,
    /// Only source files whose path, or the end of it from a / on, is like this: qemu-img.c,
    /// 'block/qcow2*.c'; one with a / at its end stands for all files in a folder: block/
    #[arg(value_name = "GLOB", value_parser = file_glob)]
    pub(super) files: Vec<FileGlob>,
    /// List the functions that no test reached, and of those reached in part the lines of
    /// blocks that were not; what one program reached of a file is not listed for another
    #[arg(long)]
    pub(super) list_unreached: bool,
    /// Show all files, functions and lines, also where there are many
    #[arg(long)]
    pub(super) all: bool,
    /// Print JSON
    #[arg(long, conflicts_with_all = ["html", "list_unreached"])]
    pub(super) json: bool,
    /// Write a self-contained HTML page; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "list_unreached")]
    pub(super) html: Option<PathBuf>,
    /// Look for separate debug files in this folder, too, which has them as /usr/lib/debug has
    /// (.build-id/3a/6fdf43.debug); can be repeated
    #[arg(long, value_name = "DIR", value_parser = existing_path)]
    pub(super) debug_dir: Vec<PathBuf>,
}

/// The commands of one `-c`.
#[derive(Clone, Debug)]
pub(super) struct GivenCommands(pub(super) Vec<Command>);

/// A program and its arguments.
#[derive(Clone, Debug)]
pub(super) struct ProgramWords(pub(super) Vec<String>);

fn commands(text: &str) -> Result<GivenCommands, String> {
    given::parse(text)
        .map(GivenCommands)
        .map_err(|why| format!("{why:#}"))
}

/// A selection, whose names are looked up when the formats are known.
fn selection(text: &str) -> Result<String, String> {
    let list = FieldSelection::list(text);
    list.map(|_| text.to_owned())
        .map_err(|why| format!("{why:#}"))
}

/// The name of an instance of a fleet, as AFL++ takes it.
fn instance(text: &str) -> Result<String, String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match text.len() {
        1..=32 if text.chars().all(is_part) => Ok(text.to_owned()),
        _ => Err("must be 1 to 32 letters, digits, - and _".into()),
    }
}

fn file_glob(text: &str) -> Result<FileGlob, String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    text.parse().map_err(|why| format!("{why}"))
}

fn feedback_parser() -> impl TypedValueParser<Value = Feedback> {
    PossibleValuesParser::new(["blocks", "messages", "off"]).map(|word| match word.as_str() {
        "messages" => Feedback::Messages,
        "off" => Feedback::Off,
        _ => Feedback::Blocks,
    })
}

fn status(text: &str) -> Result<StatusMode, String> {
    match text {
        "screen" => Ok(StatusMode::Auto),
        "line" => Ok(StatusMode::Line),
        "plain" => Ok(StatusMode::Plain),
        "off" => Ok(StatusMode::Off),
        _ => Err("must be screen, line, plain or off".into()),
    }
}

fn class(text: &str) -> Result<Class, String> {
    Class::of_word(text).ok_or_else(|| {
        let known: Vec<String> = Class::ALL.iter().map(ToString::to_string).collect();
        format!("unknown class; known are {}", known.join(", "))
    })
}

fn program(text: &str) -> Result<ProgramWords, String> {
    match shlex::split(text) {
        None => Err("unclosed quotation mark".into()),
        Some(words) if words.is_empty() => Err("it is empty".into()),
        Some(words) => Ok(ProgramWords(words)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::guard::GuardMode;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(shlex::split(line).unwrap())
    }

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn options_of_qemus_image_fuzzer_are_understood() {
        let args = parse(
            r#"image-fuzzer -d 5 -k -v -s abc -c '[["qemu-img","info","$test_img"]]'
               --config '[["header"]]' dir qcow2"#,
        )
        .unwrap();
        assert_eq!(args.fuzz.duration, Some(Duration::from_secs(5)));
        assert_eq!(args.fuzz.seed.as_deref(), Some("abc"));
        assert!(args.fuzz.keep_passed && args.fuzz.verbose);
        assert_eq!(args.fuzz.command[0].0.len(), 1);
        assert_eq!(args.fuzz.test_dir, PathBuf::from("dir"));
        parse("image-fuzzer --duration=1 --keep_passed --command='qemu-img check' x").unwrap();
    }

    #[test]
    fn old_spellings_are_understood() {
        for option in ["--keep_passed", "--keep-passed"] {
            let args = parse(&format!("image-fuzzer {option}")).unwrap();
            assert!(args.fuzz.keep_passed, "{option}");
        }
        for option in ["--readable", "--allow-read"] {
            let args = parse(&format!("image-fuzzer {option} /")).unwrap();
            assert_eq!(args.fuzz.run.allow_read, [PathBuf::from("/")], "{option}");
        }
        for name in ["minimise", "minimize"] {
            let args = parse(&format!("image-fuzzer {name} dir")).unwrap();
            assert!(matches!(args.subcommand, Some(Subcommand::Minimise(_))));
        }
        let mut command = Args::command();
        let help = command.render_long_help().to_string();
        assert!(!help.contains("--readable") && !help.contains("--keep_passed"));
    }

    #[test]
    fn a_campaign_can_be_named_or_not() {
        let plain = parse("image-fuzzer -d 5 --no-sweep dir").unwrap();
        let named = parse("image-fuzzer fuzz -d 5 --no-sweep dir").unwrap();
        let Some(Subcommand::Fuzz(named)) = named.subcommand else {
            panic!("another subcommand");
        };
        assert_eq!(format!("{:?}", plain.fuzz), format!("{named:?}"));
    }

    #[test]
    fn a_command_is_all_that_is_needed() {
        let args = parse("image-fuzzer -c 'qemu-img info' -c 'qemu-img check'").unwrap();
        assert_eq!(args.fuzz.command.len(), 2);
        assert_eq!(args.fuzz.test_dir, PathBuf::from("image-fuzzer.work"));
    }

    #[test]
    fn the_guard_is_off_on_or_for_a_share() {
        let guard = |line: &str| parse(line).unwrap().fuzz.guard;
        assert_eq!(guard("image-fuzzer work"), None);
        assert_eq!(guard("image-fuzzer --guard=off"), Some(GuardPlan::Off));
        let starts = Some(GuardPlan::Always(GuardMode::Starts));
        assert_eq!(guard("image-fuzzer --guard starts"), starts);
    }

    /// A mistyped subcommand once started a campaign without an end, in a folder of that name.
    #[test]
    fn a_misspelt_subcommand_is_recognised() {
        let similar = |word: &str| Args::similar_subcommand(Path::new(word));
        for (word, name) in [
            ("reprot", "report"),
            ("minimize", "minimise"),
            ("shwo", "show"),
            ("ste", "set"),
            ("reprodcue", "reproduce"),
            ("hlep", "help"),
        ] {
            assert_eq!(similar(word).as_deref(), Some(name), "{word}");
        }
        for word in [
            "work",
            "test",
            "image-fuzzer.work",
            "./report",
            "/tmp/x",
            "fuzz",
            "s",
        ] {
            assert_eq!(similar(word), None, "{word}");
        }
    }

    #[test]
    fn wrong_options_are_errors() {
        for bad in [
            "image-fuzzer -d 0",
            "image-fuzzer -d -1",
            "image-fuzzer -c ''",
            "image-fuzzer --config '[]'",
            "image-fuzzer --intensity 3-1",
            "image-fuzzer dir vmdq",
            "image-fuzzer -j 0",
            "image-fuzzer --guard middle",
            "image-fuzzer --status verbose",
            "image-fuzzer --until 0-groups",
            "image-fuzzer --until soon",
            "image-fuzzer --until 2 --exit-on-finding",
            "image-fuzzer --readable /no/such/folder",
            "image-fuzzer --allow-read /no/such/folder",
            "image-fuzzer --nosuch",
            "image-fuzzer --list",
            "image-fuzzer --sweep-only --no-sweep",
            "image-fuzzer --sweep-only -s seed",
            "image-fuzzer coverage work '['",
            "image-fuzzer coverage work ''",
            "image-fuzzer coverage --json --html page",
            "image-fuzzer --no-coverage --cover /lib",
            "image-fuzzer --no-fork-server --cover /lib",
            "image-fuzzer --sync fleet",
            "image-fuzzer --name a",
            "image-fuzzer --sync fleet --name a/b",
            "image-fuzzer --sync fleet --name ''",
            "image-fuzzer --sync fleet --name a -s seed",
            "image-fuzzer --sync fleet --name a --sweep-only",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
