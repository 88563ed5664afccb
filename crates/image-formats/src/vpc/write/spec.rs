//! The description of an image.

use serde::{Deserialize, Serialize};

use crate::arrange::Placement;
use crate::block::{SectorRun, check_runs};
use crate::built::Feature;
use crate::guid::{self, Guid};
use crate::spec_error::{SpecError, ensure};
use crate::value::Endian::Little;
use crate::vpc::layout::{LARGEST_GEOMETRY, SECTOR, size_is_geometry};
use crate::vpc::locator::LOCATORS;

/// The description of a valid image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Bytes the guest sees, a multiple of 512, up to 2040 GiB. Where the size follows from the
    /// geometry it is that of the geometry.
    pub virtual_size: u64,
    /// The current size in the footer, in bytes, where it is not `virtual_size`: possible where
    /// the size follows from the geometry.
    pub current_size: Option<u64>,
    /// Whether the image is a fixed one: the data as it is, and a footer.
    pub fixed: bool,
    /// Bytes in a block, a power of two, 512 to 256 MiB; of a fixed image the unit of `blocks`.
    pub block_size: u32,
    /// What the blocks hold; the others are not in the file.
    pub blocks: Vec<Block>,
    /// The parent, which makes the image a differencing one.
    pub parent: Option<Parent>,
    /// The program that made the image, up to 4 characters, filled up with zeros. The size of
    /// images of `qemu` and `vpc ` follows from the geometry, that of others does not.
    pub creator_app: String,
    /// The system that it ran on, up to 4 characters: `Wi2k` or `Mac `.
    pub creator_os: String,
    /// Cylinders, heads and sectors.
    pub geometry: Geometry,
    /// Entries of the block allocation table behind those that are needed.
    pub spare_entries: u32,
    /// When the image was made, in seconds since the year 2000.
    pub timestamp: u32,
    /// Whether the image is marked as temporary.
    pub temporary: bool,
    /// Whether the machine that it belongs to was saved.
    pub saved_state: bool,
    /// What the UUID of the image follows from.
    pub seed: u64,
    /// Where the dynamic header, the block allocation table, the names of the parent and the
    /// blocks go, in this natural order; a unit is 512 bytes.
    pub placement: Placement,
}

/// A block and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Which one, counted from 0.
    pub index: u64,
    /// The sectors of 512 bytes that are in the file, in rising order. Others are zeros, or
    /// those of the parent.
    pub runs: Vec<SectorRun>,
    /// Whether the bitmap of a block without a parent names all sectors, and not only those.
    #[serde(default)]
    pub all_sectors: bool,
}

/// Cylinders, heads and sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Geometry {
    /// What the specification computes from the size.
    #[default]
    Computed,
    /// The largest one, which says nothing of the size.
    Largest,
    /// These.
    Given {
        /// Cylinders.
        cylinders: u16,
        /// Heads, 1 to 16.
        heads: u8,
        /// Sectors in a track, not 0.
        sectors: u8,
    },
}

/// The parent of a differencing image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parent {
    /// Its name in the dynamic header, up to 256 units of UTF-16.
    pub name: String,
    /// What it is called on platforms, at most 8.
    pub locators: Vec<Locator>,
    /// The seed of the parent's description, from which its UUID follows.
    pub seed: u64,
    /// When it was changed, in seconds since the year 2000.
    pub timestamp: u32,
}

/// What the parent is called on a platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locator {
    /// The platform.
    pub platform: Platform,
    /// The name, up to 2000 characters.
    pub name: String,
    /// Whether its space is counted in sectors, as the specification has it, and not in bytes,
    /// as Virtual PC counts.
    #[serde(default)]
    pub space_in_sectors: bool,
}

/// A platform that has names of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// A relative path on Windows, in UTF-16: `.\base.vhd`.
    W2ru,
    /// An absolute path on Windows, in UTF-16: `C:\base.vhd`.
    W2ku,
    /// A relative path on Windows, in bytes; no longer used.
    Wi2r,
    /// An absolute path on Windows, in bytes; no longer used.
    Wi2k,
    /// A file URL: `file://localhost/base.vhd`.
    MacX,
}

impl Locator {
    /// Its code, and the name as it is stored.
    pub(super) fn encoded(&self) -> (&'static [u8; 4], Vec<u8>) {
        match self.platform {
            Platform::W2ru => (b"W2ru", Little.encode_utf16(&self.name)),
            Platform::W2ku => (b"W2ku", Little.encode_utf16(&self.name)),
            Platform::Wi2r => (b"Wi2r", self.name.as_bytes().to_vec()),
            Platform::Wi2k => (b"Wi2k", self.name.as_bytes().to_vec()),
            Platform::MacX => (b"MacX", self.name.as_bytes().to_vec()),
        }
    }
}

impl Default for Spec {
    /// An empty disk of 4 MiB whose size is in the footer.
    fn default() -> Self {
        Self {
            virtual_size: 4 << 20,
            current_size: None,
            fixed: false,
            block_size: 2 << 20,
            blocks: Vec::new(),
            parent: None,
            creator_app: "win ".to_owned(),
            creator_os: "Wi2k".to_owned(),
            geometry: Geometry::default(),
            spare_entries: 0,
            timestamp: 0,
            temporary: false,
            saved_state: false,
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
    "data", "blocks with data";
    "partial-bitmap", "blocks whose bitmap names some sectors only";
    "fixed", "a fixed image";
    "dynamic", "a dynamic image";
    "parent", "a parent, by a relative path in UTF-16";
    "parent-absolute", "a parent, by an absolute path in UTF-16";
    "parent-mac", "a parent, by a file URL";
    "parent-deprecated", "a parent, by a path in bytes";
    "parent-name", "a parent, by the name in the dynamic header alone";
    "locator-sectors", "the space of a parent's path counted in sectors";
    "small-blocks", "blocks of less than 512 KiB";
    "large-blocks", "blocks of more than 2 MiB";
    "size-by-geometry", "the size of the disk is that of the geometry";
    "larger-current-size", "a current size that does not count, since the geometry does";
    "largest-geometry", "a geometry that says nothing";
    "creator-vpc", "an image of Virtual PC";
    "creator-qemu", "an image of QEMU whose size is that of the geometry";
    "creator-other", "an image of another program";
    "creator-mac", "an image made on a Macintosh";
    "temporary", "an image that is marked as temporary";
    "saved-state", "an image of a machine that was saved";
    "spare-entries", "more entries of the block table than blocks";
    "placement", "parts in another order, or with gaps";
}

impl Spec {
    /// The features of [`FEATURES`] that the image has.
    pub(crate) fn features(&self) -> Vec<&'static str> {
        let locators = self.parent.iter().flat_map(|parent| &parent.locators);
        let on = |wanted: &[Platform]| {
            let mut locators = locators.clone();
            locators.any(|locator| wanted.contains(&locator.platform))
        };
        let in_sectors = |locator: &Locator| locator.space_in_sectors;
        let sparse = |block: &Block| !block.all_sectors && !self.is_whole(block);
        let by_geometry = self.has_geometry_size();
        let app = self.creator_app.as_str();
        [
            (
                "data",
                self.blocks.iter().any(|block| !block.runs.is_empty()),
            ),
            (
                "partial-bitmap",
                !self.fixed && self.blocks.iter().any(sparse),
            ),
            ("fixed", self.fixed),
            ("dynamic", !self.fixed && self.parent.is_none()),
            ("parent", on(&[Platform::W2ru])),
            ("parent-absolute", on(&[Platform::W2ku])),
            ("parent-mac", on(&[Platform::MacX])),
            ("parent-deprecated", on(&[Platform::Wi2r, Platform::Wi2k])),
            (
                "parent-name",
                self.parent.is_some() && locators.clone().next().is_none(),
            ),
            ("locator-sectors", locators.clone().any(in_sectors)),
            ("small-blocks", !self.fixed && self.block_size < 512 << 10),
            ("large-blocks", !self.fixed && self.block_size > 2 << 20),
            ("size-by-geometry", by_geometry),
            ("larger-current-size", self.current_size.is_some()),
            ("largest-geometry", self.geometry == Geometry::Largest),
            ("creator-vpc", app == "vpc "),
            ("creator-qemu", app == "qemu"),
            ("creator-other", app != "vpc " && app != "qemu"),
            ("creator-mac", self.creator_os == "Mac "),
            ("temporary", self.temporary),
            ("saved-state", self.saved_state),
            ("spare-entries", !self.fixed && self.spare_entries > 0),
            ("placement", self.placement != Placement::default()),
        ]
        .into_iter()
        .filter_map(|(name, has)| has.then_some(name))
        .collect()
    }

    /// Whether the runs of a block name all of its sectors.
    fn is_whole(&self, block: &Block) -> bool {
        let named: u64 = block.runs.iter().map(|run| u64::from(run.count)).sum();
        named == u64::from(self.block_size) / SECTOR
    }

    /// The UUID of the image.
    pub(super) fn uuid(&self) -> Guid {
        guid::seeded(self.seed, 0)
    }

    /// The creator, filled up with zeros.
    pub(super) fn padded(text: &str) -> [u8; 4] {
        let mut padded = [0; 4];
        for (byte, char) in padded.iter_mut().zip(text.bytes()) {
            *byte = char;
        }
        padded
    }

    /// Cylinders, heads and sectors.
    pub(super) fn chs(&self) -> (u16, u8, u8) {
        match self.geometry {
            Geometry::Computed => chs(self.virtual_size / SECTOR),
            Geometry::Largest => (65535, 16, 255),
            Geometry::Given {
                cylinders,
                heads,
                sectors,
            } => (cylinders, heads, sectors),
        }
    }

    fn geometry_sectors(&self) -> u64 {
        let (cylinders, heads, sectors) = self.chs();
        u64::from(cylinders) * u64::from(heads) * u64::from(sectors)
    }

    fn has_geometry_size(&self) -> bool {
        size_is_geometry(&Self::padded(&self.creator_app), self.geometry_sectors())
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        let block = u64::from(self.block_size);
        let power = block.is_power_of_two() && (SECTOR..=256 << 20).contains(&block);
        ensure!(
            power,
            "block size {block}: a power of two, 512 bytes to 256 MiB"
        );
        let size = self.virtual_size;
        ensure!(
            size.is_multiple_of(SECTOR),
            "disk size {size}: not of sectors"
        );
        ensure!(size <= 2040 << 30, "disk size {size}: at most 2040 GiB");
        for text in [&self.creator_app, &self.creator_os] {
            ensure!(text.len() <= 4, "'{text}': at most 4 characters");
        }
        self.validate_geometry()?;
        let whole = self
            .current_size
            .is_none_or(|size| size.is_multiple_of(SECTOR));
        ensure!(whole, "a current size that is not of sectors");
        ensure!(
            !self.fixed || self.parent.is_none(),
            "a fixed image has no parent"
        );
        if let Some(parent) = &self.parent {
            parent.validate()?;
        }
        for block in &self.blocks {
            let sectors = u64::from(self.block_size) / SECTOR;
            check_runs(&block.runs, sectors, block.index)?;
            ensure!(
                !block.all_sectors || self.parent.is_none(),
                "block {}: the parent has the other sectors",
                block.index
            );
        }
        Ok(())
    }

    fn validate_geometry(&self) -> Result<(), SpecError> {
        let size = self.virtual_size;
        let sectors = self.geometry_sectors();
        let named = self.has_geometry_size();
        ensure!(
            !named || sectors * SECTOR == size,
            "disk size {size}: that of the geometry is {}",
            sectors * SECTOR
        );
        ensure!(
            named || self.current_size.is_none(),
            "a current size that is not the disk size needs a size by geometry"
        );
        let most = self.current_size.unwrap_or(size) / SECTOR;
        let fits = sectors <= most || sectors == LARGEST_GEOMETRY;
        ensure!(fits, "a geometry of {sectors} sectors for a disk of {most}");
        let (_, heads, track) = self.chs();
        let given = matches!(self.geometry, Geometry::Given { .. });
        let usual = (1..=16).contains(&heads) && track > 0;
        ensure!(
            !given || usual,
            "a geometry of {heads} heads and {track} sectors"
        );
        Ok(())
    }
}

impl Parent {
    fn validate(&self) -> Result<(), SpecError> {
        let units = self.name.encode_utf16().count();
        ensure!(
            units <= 256,
            "a parent name of {units} characters: at most 256"
        );
        let count = self.locators.len() as u64;
        ensure!(count <= LOCATORS, "{count} locators: at most {LOCATORS}");
        ensure!(units > 0 || count > 0, "a parent without a name");
        for locator in &self.locators {
            let length = locator.encoded().1.len();
            ensure!(length > 0, "a locator without a name");
            ensure!(length <= 4096, "a locator of {length} bytes: at most 4096");
        }
        Ok(())
    }
}

/// Cylinders, heads and sectors of a disk of so many sectors, as the specification computes them.
pub(super) fn chs(sectors: u64) -> (u16, u8, u8) {
    let sectors = sectors.min(LARGEST_GEOMETRY);
    let (track, heads) = if sectors >= 65535 * 16 * 63 {
        (255, 16)
    } else {
        let tracks = sectors / 17;
        let heads = tracks.div_ceil(1024).max(4);
        if tracks < heads * 1024 && heads <= 16 {
            (17, heads)
        } else if sectors / 31 < 16 * 1024 {
            (31, 16)
        } else {
            (63, 16)
        }
    };
    // None of these is larger than its field.
    let cylinders = sectors / track / heads;
    (cylinders as u16, heads as u8, track as u8)
}

#[cfg(test)]
mod tests {
    use super::chs;

    /// Geometries that `qemu-img create` gives to disks.
    #[test]
    fn geometries_are_computed() {
        for (sectors, geometry) in [
            (0, (0, 4, 17)),
            (68, (1, 4, 17)),
            (8160, (120, 4, 17)),
            (20_480, (301, 4, 17)),
            (1 << 20, (1040, 16, 63)),
            (u64::MAX, (65535, 16, 255)),
        ] {
            assert_eq!(chs(sectors), geometry, "{sectors}");
        }
        // Never larger than the disk.
        for sectors in (0..70_000_000).step_by(77_777) {
            let (cylinders, heads, track) = chs(sectors);
            let found = u64::from(cylinders) * u64::from(heads) * u64::from(track);
            assert!(found <= sectors && sectors - found < 16 * 255, "{sectors}");
        }
    }
}
