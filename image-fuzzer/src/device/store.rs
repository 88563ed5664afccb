//! The work folder of a campaign. What is in it is written whole, so that a kill spoils nothing.
//!
//! ```text
//! device.json       what is fuzzed
//! image             the image that the disk begins with, where it has one
//! queue/            inputs that reached new blocks, as traces
//! findings/GROUP/   an example of each group: see `report`
//! blocks            blocks reached so far, as in campaigns of images
//! totals.json       what was counted
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::machine::Machine;
use super::program::{Program, trace};
use crate::campaign::BlockLog;
use crate::exec::scratch;
use crate::files::{append, write_whole};
use crate::input::guard::Guard;
use crate::triage::Key;

/// The file that says what is fuzzed, by which such a work folder is known.
pub const DEVICE: &str = "device.json";

/// The image that the disk begins with.
const IMAGE: &str = "image";

/// The log of blocks.
const BLOCKS: &str = "blocks";

const TOTALS: &str = "totals.json";

/// What was counted over all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Inputs that were run.
    pub inputs: u64,
    /// How often an emulator was started.
    pub starts: u64,
    /// Time on the clock, in seconds.
    pub seconds: f64,
}

/// What is kept of a finding besides its trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Its group.
    #[serde(flatten)]
    pub key: Key,
    /// What happened, in a sentence.
    pub summary: String,
    /// What was fuzzed.
    pub machine: Machine,
    /// Whether a fresh emulator showed it again.
    pub confirmed: bool,
    /// Whether its trace cannot be made smaller.
    pub minimised: bool,
    /// How often it was seen.
    pub hits: u64,
    /// The frames at the end, the innermost first, where a debugger found them.
    #[serde(default)]
    pub stack: Vec<String>,
    /// The guarding allocator that it was seen under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// What the emulator says of its version.
    #[serde(default)]
    pub version: String,
}

/// The file of a [`Finding`] in its folder.
pub const FINDING: &str = "finding.json";

/// The trace of a finding, in its folder.
pub const TRACE: &str = "trace";

/// A work folder, locked for as long as this lives.
pub struct Store {
    root: PathBuf,
    _lock: Flock<File>,
}

impl Store {
    /// Opens or makes the work folder of a campaign on this machine.
    ///
    /// # Errors
    ///
    /// It cannot be written, is in use, or belongs to another device or to images.
    pub fn open(root: &Path, machine: &Machine) -> Result<Self> {
        let describe = || format!("cannot use the work folder '{}'", root.display());
        if !root.join(DEVICE).exists() && has_others_files(root) {
            bail!(
                "'{}' is no work folder of a device: it has no {DEVICE}, and is not empty",
                root.display()
            );
        }
        for folder in ["", "queue", "findings"] {
            fs::create_dir_all(root.join(folder)).with_context(describe)?;
        }
        let root = root.canonicalize().with_context(describe)?;
        let lock = File::create(root.join(".lock")).with_context(describe)?;
        let Ok(lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
            bail!("'{}' is in use by another image-fuzzer", root.display());
        };
        scratch::sweep(&[&root]);
        let store = Self { root, _lock: lock };
        match store.machine() {
            Ok(before) if before != *machine => bail!(
                "'{}' is the work folder of '{}' with other arguments; give another folder",
                store.root.display(),
                before.name
            ),
            _ => Ok(store),
        }
    }

    /// Says in the work folder what is fuzzed, once that is known to work.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn begin(&self, machine: &Machine) -> Result<()> {
        let text = serde_json::to_string_pretty(machine)? + "\n";
        write_whole(&self.root.join(DEVICE), text.as_bytes())
    }

    fn machine(&self) -> Result<Machine> {
        machine(&self.root)
    }

    /// Its path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder for the emulators of a worker, which is removed when this is dropped, or by the
    /// next campaign.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn scratch(&self) -> Result<TempDir> {
        scratch(&self.root)
    }

    /// Where the image is that the disk begins with.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.root.join(IMAGE)
    }

    /// The inputs of the queue, in their order. One that cannot be read is passed over.
    #[must_use]
    pub fn queue(&self) -> Vec<Program> {
        let entries = fs::read_dir(self.root.join("queue")).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries.flatten().map(|it| it.path()).collect();
        paths.sort();
        let texts = paths
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok());
        texts.filter_map(|text| text.parse().ok()).collect()
    }

    /// Adds an input to the queue.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn add(&self, number: usize, program: &Program) -> Result<()> {
        let path = self.root.join("queue").join(format!("{number:06}"));
        write_whole(&path, program.to_string().as_bytes())
    }

    /// The log of blocks.
    #[must_use]
    pub fn blocks(&self) -> BlockLog {
        BlockLog::read(&self.root)
    }

    /// Adds lines to the log of blocks.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn log_blocks(&self, lines: &str) -> Result<()> {
        append(&self.root.join(BLOCKS), &format!("{lines}\n"))
    }

    /// What was counted.
    #[must_use]
    pub fn totals(&self) -> Totals {
        totals(&self.root)
    }

    /// Stores what was counted.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn put_totals(&self, totals: &Totals) -> Result<()> {
        let text = serde_json::to_string(totals)? + "\n";
        write_whole(&self.root.join(TOTALS), text.as_bytes())
    }

    /// The folder of a group.
    #[must_use]
    pub fn folder(&self, key: &Key) -> PathBuf {
        self.root.join("findings").join(key.folder_name())
    }
}

/// Whether a folder has anything that a campaign does not put there before it begins.
fn has_others_files(root: &Path) -> bool {
    let own = [".lock", "queue", "findings", IMAGE, ".image"];
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.map(|it| it.file_name()).any(|name| {
        let name = name.to_string_lossy();
        !own.contains(&name.as_ref()) && !name.starts_with(scratch::PREFIX)
    })
}

/// A folder below `root` for emulators, which a later campaign removes where this process is
/// killed.
///
/// # Errors
///
/// It cannot be made.
pub fn scratch(root: &Path) -> Result<TempDir> {
    scratch::owned(root).with_context(|| format!("cannot make a folder in '{}'", root.display()))
}

/// What the work folder `root` fuzzes.
///
/// # Errors
///
/// It is no such folder.
pub fn machine(root: &Path) -> Result<Machine> {
    let path = root.join(DEVICE);
    let text = fs::read(&path).with_context(|| format!("cannot read '{}'", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("'{}' is damaged", path.display()))
}

/// What was counted in the work folder `root`.
#[must_use]
pub fn totals(root: &Path) -> Totals {
    let text = fs::read(root.join(TOTALS)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// The findings in a work folder, with their folders, by name.
///
/// # Errors
///
/// One is damaged.
pub fn findings(root: &Path) -> Result<Vec<(PathBuf, Finding)>> {
    let entries = fs::read_dir(root.join("findings")).into_iter().flatten();
    let mut folders: Vec<PathBuf> = entries.flatten().map(|it| it.path()).collect();
    folders.retain(|folder| folder.join(FINDING).is_file());
    folders.sort();
    let read = |folder: PathBuf| Ok((folder.clone(), finding(&folder)?));
    folders.into_iter().map(read).collect()
}

/// The finding in a folder.
///
/// # Errors
///
/// There is none, or it is damaged.
pub fn finding(folder: &Path) -> Result<Finding> {
    let path = folder.join(FINDING);
    let text = fs::read(&path).with_context(|| format!("cannot read '{}'", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("'{}' is damaged", path.display()))
}

/// The trace of the finding in a folder.
///
/// # Errors
///
/// It cannot be read, or is none.
pub fn read_trace(path: &Path) -> Result<Program> {
    let text = fs::read_to_string(path).with_context(|| format!("'{}'", path.display()))?;
    text.parse()
        .with_context(|| format!("'{}'", path.display()))
}

/// Writes the trace of a finding.
///
/// # Errors
///
/// It cannot be written.
pub fn put_trace(folder: &Path, finding: &Finding, program: &Program) -> Result<()> {
    let text = trace(program, &finding.machine.command(TRACE));
    write_whole(&folder.join(TRACE), text.as_bytes())
}
