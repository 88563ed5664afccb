//! The options of `device`, and how emulators are run.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use clap::builder::PossibleValuesParser;

use super::values::{groups, guard, seconds};
use crate::files::existing_path;
use crate::input::guard::GuardPlan;
use image_mutations::base::Formats;

/// The options of `device`.
#[derive(Debug, ClapArgs)]
pub(super) struct DeviceArgs {
    /// The device, as 'qemu-system-x86_64 -device help' names it: virtio-blk-pci, nvme, ahci
    #[arg(value_name = "NAME", required_unless_present = "args")]
    pub(super) name: Option<String>,
    /// Work folder: queue, findings [default: image-fuzzer.NAME]
    #[arg(value_name = "TEST_DIR")]
    pub(super) dir: Option<PathBuf>,
    /// The arguments of the emulator, instead of a device, as QEMU's generic fuzzer takes them:
    /// '-M pc -device lsi -device scsi-hd,drive=d -drive file=null-co://,if=none,id=d'. NAME is
    /// then a name for the campaign
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub(super) args: Option<String>,
    /// What of the machine is fuzzed: patterns for types of objects, whose registers and those of
    /// objects in them are meant, and for names of memory regions: 'ide* piix*'. 'info mtree -o'
    /// and 'info qom-tree' in QEMU's monitor show them [default: NAME and what it is plugged into]
    #[arg(long, value_name = "GLOBS")]
    pub(super) objects: Option<String>,
    /// Format of the disk's image, which qemu-img makes; with --args the disk is
    /// '-device ...,drive=disk' [default: a disk of zeroes without an image]
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(Formats::words()))]
    pub(super) format: Option<String>,
    /// Give each emulator an image with mutations, as campaigns on images have them; a finding
    /// that needs them keeps the image and what was changed in it
    #[arg(long, requires = "format")]
    pub(super) mutate: bool,
    #[command(flatten)]
    pub(super) emulator: EmulatorArgs,
    /// Let the emulator read this folder, besides its own and the system's: where it is a script,
    /// the folder of the program that it starts; can be repeated
    #[arg(long, value_name = "DIR", value_parser = existing_path)]
    pub(super) allow_read: Vec<PathBuf>,
    /// Stop after this many seconds
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) duration: Option<Duration>,
    /// Number of workers, each with an emulator [default: the number of processors]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) jobs: Option<u16>,
    /// Stop after this many inputs, counted over the whole campaign
    #[arg(long, value_name = "N")]
    pub(super) inputs: Option<u64>,
    /// Stop when there are so many groups of findings, those of earlier runs included: 3-groups
    #[arg(long, value_name = "N-groups", value_parser = groups)]
    pub(super) until: Option<usize>,
    /// Stop at the first finding; the same as --until 1-groups
    #[arg(long, conflicts_with = "until")]
    pub(super) exit_on_finding: bool,
    /// Draw the inputs from this seed. What they are also depends on which reached new blocks
    #[arg(long, value_name = "STRING", default_value = "0")]
    pub(super) campaign_seed: String,
    /// Do not note which basic blocks of the emulator are reached: no input is kept
    #[arg(long)]
    pub(super) no_coverage: bool,
    /// Draw all inputs from what is known of the registers, none from what drivers do
    #[arg(long)]
    pub(super) no_structure: bool,
    /// Run emulators under an allocator that puts blocks of memory beside inaccessible pages: at
    /// their ends or starts, or at the end of all blocks [default: off]
    #[arg(long, value_name = "WHERE", value_parser = guard)]
    pub(super) guard: Option<GuardPlan>,
}

/// How emulators are run.
#[derive(Debug, ClapArgs)]
pub(super) struct EmulatorArgs {
    /// The emulator, or a folder that has qemu-system-x86_64 in build, bin or usr/bin or itself
    /// [default: QEMU_PROG, else qemu-system-x86_64 in PATH]
    #[arg(long, value_name = "PROGRAM")]
    pub(super) qemu: Option<PathBuf>,
    /// Time limit for an input, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub(super) input_timeout: Duration,
    /// Memory limit for the emulator, in MiB
    #[arg(long, value_name = "MIB", default_value = "1024", value_parser = clap::value_parser!(u64).range(64..=1 << 20))]
    pub(super) emulator_memory: u64,
    /// Let the emulator access all files and the network
    #[arg(long)]
    pub(super) no_emulator_sandbox: bool,
}
