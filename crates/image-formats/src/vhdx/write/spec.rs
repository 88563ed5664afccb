//! The description of an image.

use serde::{Deserialize, Serialize};

use crate::arrange::Placement;
use crate::block::{SectorRun, check_runs};
use crate::built::Feature;
use crate::guid::{self, Guid};
use crate::spec_error::{SpecError, ensure};
use crate::vhdx::layout::MIB;

/// The description of a valid image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Bytes the guest sees, a multiple of the logical sector size, up to 64 TiB.
    pub virtual_size: u64,
    /// Bytes in a payload block, a power of two, 1 MiB to 256 MiB.
    pub block_size: u32,
    /// Bytes in a sector of the disk, 512 or 4096. QEMU reads no others than 512.
    pub logical_sector_size: u32,
    /// Bytes in a physical sector, 512 or 4096.
    pub physical_sector_size: u32,
    /// Whether blocks stay allocated, as in a fixed image, where those that `blocks` does not
    /// name are present and hold zeros.
    pub fixed: bool,
    /// What the blocks of the disk hold; the others are not present.
    pub blocks: Vec<Block>,
    /// The parent, which makes the image a differencing one.
    pub parent: Option<Parent>,
    /// Who made the image, up to 256 units of UTF-16.
    pub creator: String,
    /// Which header is the current one.
    pub headers: Headers,
    /// The sequence number of the current header, at least 1; the other one has one less.
    pub sequence_number: u64,
    /// Bytes of the log, a multiple of 1 MiB, up to 16 MiB; 0 for none.
    pub log_length: u32,
    /// What is in the log and not yet in its place.
    pub log: Option<Log>,
    /// Optional metadata items of users, each with these bytes, up to 4096.
    pub user_metadata: Vec<Vec<u8>>,
    /// Whether there is a region of 1 MiB that no reader knows or has to know.
    pub unknown_region: bool,
    /// What the GUIDs in the image follow from.
    pub seed: u64,
    /// Where the log, the BAT, the metadata, the unknown region, sector bitmaps and payload
    /// blocks go, in this natural order; a unit is 1 MiB.
    pub placement: Placement,
}

/// A payload block and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Which one, counted from 0.
    pub index: u64,
    /// Its state.
    pub state: BlockState,
    /// The sectors that have data in the file, in rising order. Others are zeros, or where the
    /// block is partially present those of the parent. An undefined or unmapped block may have
    /// data left, which does not count.
    #[serde(default)]
    pub runs: Vec<SectorRun>,
}

/// The state of a payload block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockState {
    /// It is not in the file: zeros, or what the parent has.
    NotPresent,
    /// What it held is gone.
    Undefined,
    /// It reads as zeros.
    Zero,
    /// It was discarded.
    Unmapped,
    /// All of it is in the file.
    FullyPresent,
    /// The sectors that have data are in the file. Differencing images only.
    PartiallyPresent,
}

impl BlockState {
    /// Its number in the BAT.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::NotPresent => 0,
            Self::Undefined => 1,
            Self::Zero => 2,
            Self::Unmapped => 3,
            Self::FullyPresent => 6,
            Self::PartiallyPresent => 7,
        }
    }
}

/// Which header is the current one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Headers {
    /// The first one.
    First,
    /// The second one, as after an update.
    #[default]
    Second,
}

/// The parent of a differencing image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parent {
    /// Its path from the folder of the image, with backslashes: `.\base.vhdx`.
    pub relative_path: Option<String>,
    /// Its path from a volume: `\\?\Volume{...}\base.vhdx`.
    pub volume_path: Option<String>,
    /// Its path from a drive: `\\?\C:\base.vhdx`.
    pub absolute_win32_path: Option<String>,
    /// The seed of the parent's description, from which the GUID of its data follows.
    pub seed: u64,
    /// Whether that GUID is the second one, as while the parent is merged.
    pub linkage2: bool,
}

/// A log that is to be replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// What is in the log, in this order, each in an entry of its own; its place in the file
    /// holds other bytes. An entry without updates where there are none.
    pub writes: Vec<LogWrite>,
    /// The sequence number of the first entry, at least 2.
    pub sequence_number: u64,
    /// The sector of 4 KiB of the log where the first entry is; entries wrap around.
    pub sector: u32,
    /// Whether an entry stands before the first one that was written to its place already, and
    /// must not be replayed: a payload block has been put there since.
    pub applied: bool,
    /// Whether an entry with another GUID stands behind the last one.
    pub stale: bool,
    /// Whether the file ends behind its last bytes that are not zeros, and is to be extended.
    pub extends: bool,
}

impl Default for Log {
    /// The BAT, in one entry at the start of the log.
    fn default() -> Self {
        Self {
            writes: vec![LogWrite::Bat],
            sequence_number: 2,
            sector: 0,
            applied: false,
            stale: false,
            extends: false,
        }
    }
}

/// A structure that is written through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogWrite {
    /// Both copies of the region table.
    RegionTables,
    /// The BAT.
    Bat,
    /// The metadata table and the items.
    Metadata,
    /// The sector bitmap blocks.
    SectorBitmaps,
}

impl Default for Spec {
    /// An empty disk of 4 MiB.
    fn default() -> Self {
        Self {
            virtual_size: 4 << 20,
            block_size: 1 << 20,
            logical_sector_size: 512,
            physical_sector_size: 4096,
            fixed: false,
            blocks: Vec::new(),
            parent: None,
            creator: "image-formats".to_owned(),
            headers: Headers::default(),
            sequence_number: 2,
            log_length: 1 << 20,
            log: None,
            user_metadata: Vec::new(),
            unknown_region: false,
            seed: 0,
            placement: Placement::default(),
        }
    }
}

/// Declares the features: name, what it is.
macro_rules! features {
    ($($name:literal, $what:literal;)*) => {
        /// What images can have or not.
        pub const FEATURES: &[Feature] = &[$(Feature { name: $name, what: $what }),*];
    };
}

features! {
    "data", "blocks that are fully present";
    "fixed", "blocks that stay allocated";
    "not-present", "blocks that are not present";
    "zero", "zero blocks";
    "undefined", "undefined blocks";
    "unmapped", "unmapped blocks";
    "stale-data", "unmapped or undefined blocks whose data is still there";
    "parent", "a parent, by a relative path";
    "parent-absolute", "a parent, by an absolute path alone";
    "parent-linkage2", "a parent that is being merged";
    "partially-present", "blocks that are partially present";
    "large-blocks", "blocks of more than 32 MiB";
    "several-chunks", "more than one chunk of blocks";
    "sectors-4k", "logical sectors of 4096 bytes";
    "physical-512", "physical sectors of 512 bytes";
    "first-header", "the first header is current";
    "no-log", "no log at all";
    "large-log", "a log of more than 1 MiB";
    "log", "a log that is to be replayed";
    "log-region-tables", "region tables that are in the log";
    "log-metadata", "metadata that is in the log";
    "log-sector-bitmaps", "sector bitmaps that are in the log";
    "log-wraps", "entries of the log that wrap around";
    "log-applied", "a log entry that must not be replayed";
    "log-stale", "a log entry with another GUID";
    "log-extends", "a log that extends the file";
    "user-metadata", "metadata items of users";
    "unknown-region", "a region that need not be known";
    "placement", "parts in another order, or with gaps";
}

impl Spec {
    /// The features of [`FEATURES`] that the image has.
    pub(crate) fn features(&self) -> Vec<&'static str> {
        let state = |state: BlockState| self.blocks.iter().any(|block| block.state == state);
        let unused = |block: &Block| !block.runs.is_empty() && !block.is_stored();
        let log = self.log.as_ref();
        let writes = |write: LogWrite| log.is_some_and(|log| log.writes.contains(&write));
        let parent = self.parent.as_ref();
        let relative = parent.map(|parent| parent.relative_path.is_some());
        let named = self.blocks.len() as u64;
        [
            ("data", self.fixed || state(BlockState::FullyPresent)),
            ("fixed", self.fixed),
            (
                "not-present",
                state(BlockState::NotPresent) || !self.fixed && named < self.payload_blocks(),
            ),
            ("zero", state(BlockState::Zero)),
            ("undefined", state(BlockState::Undefined)),
            ("unmapped", state(BlockState::Unmapped)),
            ("stale-data", self.blocks.iter().any(unused)),
            ("parent", relative == Some(true)),
            ("parent-absolute", relative == Some(false)),
            (
                "parent-linkage2",
                parent.is_some_and(|parent| parent.linkage2),
            ),
            ("partially-present", state(BlockState::PartiallyPresent)),
            ("large-blocks", self.block_size > 32 << 20),
            ("several-chunks", self.payload_blocks() > self.chunk_ratio()),
            ("sectors-4k", self.logical_sector_size == 4096),
            ("physical-512", self.physical_sector_size == 512),
            ("first-header", self.headers == Headers::First),
            ("no-log", self.log_length == 0),
            ("large-log", self.log_length > 1 << 20),
            ("log", log.is_some()),
            ("log-region-tables", writes(LogWrite::RegionTables)),
            ("log-metadata", writes(LogWrite::Metadata)),
            ("log-sector-bitmaps", writes(LogWrite::SectorBitmaps)),
            ("log-wraps", log.is_some_and(|log| self.log_wraps(log))),
            ("log-applied", log.is_some_and(|log| log.applied)),
            ("log-stale", log.is_some_and(|log| log.stale)),
            ("log-extends", log.is_some_and(|log| log.extends)),
            ("user-metadata", !self.user_metadata.is_empty()),
            ("unknown-region", self.unknown_region),
            ("placement", self.placement != Placement::default()),
        ]
        .into_iter()
        .filter_map(|(name, has)| has.then_some(name))
        .collect()
    }

    /// Whether the entries reach the end of the log: each has two sectors at least.
    fn log_wraps(&self, log: &Log) -> bool {
        let sectors = self.log_length / 4096;
        log.sector + 2 * log.writes.len() as u32 > sectors
    }

    /// GUID number `index` of the image.
    pub(super) fn guid(&self, index: u64) -> Guid {
        guid::seeded(self.seed, index)
    }

    /// Payload blocks on the disk.
    pub(super) fn payload_blocks(&self) -> u64 {
        self.virtual_size
            .div_ceil(u64::from(self.block_size).max(1))
    }

    /// Payload blocks in a chunk.
    pub(super) fn chunk_ratio(&self) -> u64 {
        let chunk = u64::from(self.logical_sector_size) << 23;
        (chunk / u64::from(self.block_size).max(1)).max(1)
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        let block = u64::from(self.block_size);
        let power = block.is_power_of_two() && (MIB..=256 * MIB).contains(&block);
        ensure!(
            power,
            "block size {block}: a power of two, 1 MiB to 256 MiB"
        );
        for size in [self.logical_sector_size, self.physical_sector_size] {
            ensure!(
                matches!(size, 512 | 4096),
                "sector size {size}: 512 or 4096"
            );
        }
        let (size, sector) = (self.virtual_size, u64::from(self.logical_sector_size));
        ensure!(
            size.is_multiple_of(sector),
            "disk size {size}: not of sectors"
        );
        ensure!(size <= 64 << 40, "disk size {size}: at most 64 TiB");
        let units = self.creator.encode_utf16().count();
        ensure!(units <= 256, "a creator of {units} characters: at most 256");
        let sequence = self.sequence_number;
        ensure!(
            sequence > 0,
            "the sequence number 0 leaves none for the other header"
        );
        let log = u64::from(self.log_length);
        let whole = log.is_multiple_of(MIB) && log <= 16 * MIB;
        ensure!(
            whole,
            "log length {log}: a multiple of 1 MiB, at most 16 MiB"
        );
        ensure!(
            log > 0 || self.log.is_none(),
            "a log of 0 bytes to be replayed"
        );
        ensure!(
            self.user_metadata.len() <= 1024,
            "more than 1024 items of users"
        );
        let long = self.user_metadata.iter().any(|item| item.len() > 4096);
        ensure!(!long, "an item of a user of more than 4096 bytes");
        if let Some(parent) = &self.parent {
            ensure!(!parent.paths().is_empty(), "a parent without a path");
        }
        for block in &self.blocks {
            block.validate(self)?;
        }
        Ok(())
    }
}

impl Parent {
    /// The keys of the paths that there are, and the paths.
    pub(super) fn paths(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("relative_path", &self.relative_path),
            ("volume_path", &self.volume_path),
            ("absolute_win32_path", &self.absolute_win32_path),
        ];
        let given = all.into_iter();
        given
            .filter_map(|(key, path)| Some((key, path.clone()?)))
            .collect()
    }
}

impl Block {
    /// Whether what the file holds for it counts.
    pub(super) fn is_stored(&self) -> bool {
        matches!(
            self.state,
            BlockState::FullyPresent | BlockState::PartiallyPresent
        )
    }

    /// Whether it has a place in the file.
    pub(super) fn is_allocated(&self) -> bool {
        self.is_stored() || !self.runs.is_empty()
    }

    fn validate(&self, spec: &Spec) -> Result<(), SpecError> {
        let index = self.index;
        let sectors = spec.block_size / spec.logical_sector_size;
        check_runs(&self.runs, sectors.into(), index)?;
        let partial = self.state == BlockState::PartiallyPresent;
        ensure!(
            !partial || spec.parent.is_some(),
            "block {index} is partially present, and there is no parent"
        );
        let none = matches!(self.state, BlockState::NotPresent | BlockState::Zero);
        ensure!(
            !none || self.runs.is_empty(),
            "block {index} has data in a state that has none"
        );
        Ok(())
    }
}
