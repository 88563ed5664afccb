//! The options and what they mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args as ClapArgs, CommandFactory as _, Parser};

use crate::commands::{Command, given};
use crate::input::mutate::{FAMILIES, FieldSelection, Intensity};
use crate::inspect::set::SetArgs;
use crate::inspect::show::ShowArgs;

/// Makes disk images that are valid except for a few targeted corruptions, hands them to
/// programs, and judges what those do.
///
/// Without -c, sequences of qemu-img and qemu-io commands are drawn at random.
/// QEMU_IMG and QEMU_IO name the programs, arguments included, where they are not
/// those in PATH. A campaign can be stopped at any time and goes on when started
/// again with the same TEST_DIR.
///
/// Exit status: 0 no fault was found, 1 the work could not be done, 2 the command
/// line is wrong, 3 faults were found, 130 what cannot be gone on with was interrupted.
#[derive(Debug, Parser)]
#[command(
    name = "image-fuzzer",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) subcommand: Option<Subcommand>,
    #[command(flatten)]
    pub(super) fuzz: Fuzz,
}

impl Args {
    /// The subcommand that `word` is likely meant to be, where it is none: a slip of the
    /// fingers is no name of a work folder that is still to be made.
    pub(super) fn meant(word: &Path) -> Option<String> {
        let text = word.to_str()?;
        if text.contains('/') || word.exists() {
            return None;
        }
        let command = Self::command();
        let names = command.get_subcommands().map(|known| known.get_name());
        let near = names
            .chain(["help"])
            .map(|name| (strsim::osa_distance(text, name), name))
            .min()?;
        let most = (near.1.len() / 3).clamp(1, 2);
        (near.0 <= most).then(|| near.1.to_owned())
    }
}

/// What else can be asked for.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Show the structure of an image, its defects marked
    Show(ShowArgs),
    /// Change one field of an image, and nothing else
    ///
    /// The bytes of the field are written into the file itself, which keeps its length and its
    /// other names.
    Set(SetArgs),
    /// Carry out the recipe of a finding again, or those of all findings in a work folder
    Reproduce(ReplayArgs),
    /// Make the example of a finding smaller
    Minimise(ReplayArgs),
    /// List what was found in a work folder
    Report(ReportArgs),
}

/// The options of a campaign.
#[derive(Debug, ClapArgs)]
pub(super) struct Fuzz {
    /// Work folder: queue, findings, logs
    #[arg(value_name = "TEST_DIR", default_value = "image-fuzzer.work")]
    pub(super) test_dir: PathBuf,
    /// Image format to make
    #[arg(value_name = "IMG_GENERATOR", default_value = "qcow2", value_parser = ["qcow2"])]
    pub(super) generator: String,
    /// Stop after so many seconds; what is not done then is done when the campaign
    /// goes on
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) duration: Option<Duration>,
    /// Command to run on each image: a line as typed, such as 'qemu-img info', or a
    /// JSON array of arrays of strings; $test_img is the image (added at the end of a
    /// line without it), $off and $len a range of the disk. Can be repeated
    #[arg(short, long, value_name = "COMMAND", value_parser = commands)]
    pub(super) command: Vec<Given>,
    /// Run one test, made from this seed alone
    #[arg(short, long, value_name = "STRING", conflicts_with_all = ["campaign_seed", "tests"])]
    pub(super) seed: Option<String>,
    /// Draw the tests of the campaign from this seed. Which ones come of it depends on the
    /// number of workers and on time as well: what was seen by then has a part in it
    #[arg(long, value_name = "STRING")]
    pub(super) campaign_seed: Option<String>,
    /// What alone is changed, as a JSON array: [["header"], ["header","version"]];
    /// of a structure a random share of its fields, of a field always that field
    #[arg(long, value_name = "JSON")]
    pub(super) config: Option<FieldSelection>,
    /// Keep the folders of tests that passed
    #[arg(short, long = "keep_passed", alias = "keep-passed")]
    pub(super) keep_passed: bool,
    /// Log passed tests too
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Workers [default: three for two processors]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) jobs: Option<u16>,
    /// Stop after so many tests, counted over the whole campaign
    #[arg(long, value_name = "N")]
    pub(super) tests: Option<u64>,
    /// How much is changed: a number of edits (2; 0 for valid images), a range, or a
    /// share of the fields (20%-50%, as the old fuzzer did, and where --config names a
    /// structure) [default: 1-3]
    #[arg(long, value_name = "AMOUNT")]
    pub(super) intensity: Option<Intensity>,
    /// Draw edits from this family alone; can be repeated
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(FAMILIES.iter().map(|family| family.name)))]
    pub(super) family: Vec<String>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// How programs are run.
#[derive(Debug, ClapArgs)]
pub(super) struct RunArgs {
    /// Another qemu-img, arguments included: what both say of valid images is compared
    #[arg(long, value_name = "PROGRAM", value_parser = words)]
    pub(super) compare_with: Option<Words>,
    /// Seconds a command may take; six times as long before it counts as hanging
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(super) timeout: Duration,
    /// Memory a command may use, in MiB
    #[arg(long, value_name = "MIB", default_value = "1024", value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    pub(super) memory: u64,
    /// Disk space a command may add, in MiB
    #[arg(long, value_name = "MIB", default_value = "512", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(super) disk: u64,
    /// Start the programs anew for each command, without a fork server
    #[arg(long)]
    pub(super) no_fork_server: bool,
    /// Let programs reach all files and the network; run in a machine of its own
    #[arg(long)]
    pub(super) no_sandbox: bool,
    /// Folder that programs may read besides their own and the system's, such as that of
    /// a program which a script starts; can be repeated
    #[arg(long, value_name = "DIR", value_parser = there)]
    pub(super) readable: Vec<PathBuf>,
}

/// `reproduce` and `minimise`
#[derive(Debug, ClapArgs)]
pub(super) struct ReplayArgs {
    /// Folder of a finding or of a test
    #[arg(value_name = "DIR")]
    pub(super) dir: PathBuf,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// `report`
#[derive(Debug, ClapArgs)]
pub(super) struct ReportArgs {
    /// Work folder
    #[arg(value_name = "TEST_DIR", default_value = "image-fuzzer.work")]
    pub(super) dir: PathBuf,
    /// Print JSON
    #[arg(long, conflicts_with = "html")]
    pub(super) json: bool,
    /// Write a page that stands for itself; - is standard output
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}

/// The commands of one `-c`.
#[derive(Clone, Debug)]
pub(super) struct Given(pub(super) Vec<Command>);

/// A program and its arguments.
#[derive(Clone, Debug)]
pub(super) struct Words(pub(super) Vec<String>);

fn commands(text: &str) -> Result<Given, String> {
    given::parse(text)
        .map(Given)
        .map_err(|why| format!("{why:#}"))
}

fn words(text: &str) -> Result<Words, String> {
    match shlex::split(text) {
        None => Err("unclosed quotation mark".into()),
        Some(words) if words.is_empty() => Err("no program is named".into()),
        Some(words) => Ok(Words(words)),
    }
}

/// A file or folder that is there.
fn there(text: &str) -> Result<PathBuf, String> {
    let path = std::path::absolute(text).and_then(std::fs::canonicalize);
    path.map_err(|why| why.to_string())
}

/// Seconds, with a fraction where that is wanted; not zero.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|why| why.to_string())?;
    if duration.is_zero() {
        return Err("must be more than 0".into());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(shlex::split(line).unwrap())
    }

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_old_fuzzers_words_are_understood() {
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
    fn a_command_is_all_that_is_needed() {
        let args = parse("image-fuzzer -c 'qemu-img info' -c 'qemu-img check'").unwrap();
        assert_eq!(args.fuzz.command.len(), 2);
        assert_eq!(args.fuzz.test_dir, PathBuf::from("image-fuzzer.work"));
    }

    /// A mistyped subcommand once began a campaign without an end, in a folder of that name.
    #[test]
    fn a_subcommand_is_known_by_most_of_its_letters() {
        let meant = |word: &str| Args::meant(Path::new(word));
        for (word, name) in [
            ("reprot", "report"),
            ("minimize", "minimise"),
            ("shwo", "show"),
            ("ste", "set"),
            ("reprodcue", "reproduce"),
            ("hlep", "help"),
        ] {
            assert_eq!(meant(word).as_deref(), Some(name), "{word}");
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
            assert_eq!(meant(word), None, "{word}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_a_line() {
        for bad in [
            "image-fuzzer -d 0",
            "image-fuzzer -d -1",
            "image-fuzzer -c ''",
            "image-fuzzer --config '[]'",
            "image-fuzzer --intensity 3-1",
            "image-fuzzer dir vmdk",
            "image-fuzzer -j 0",
            "image-fuzzer --readable /no/such/folder",
            "image-fuzzer --nosuch",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
