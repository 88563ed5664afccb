//! The description of an image, and its builder.

mod cowd;
mod hosted;
mod se;
mod text;

use serde::{Deserialize, Serialize};

use super::layout::SECTOR;
use crate::arrange::Placement;
use crate::block::{Block, Content, sorted};
use crate::built::{BuiltFile, Feature};
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;

/// The description of a valid image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Bytes the guest sees, a multiple of 512, at least 512.
    pub virtual_size: u64,
    /// How the disk is stored.
    pub subformat: Subformat,
    /// Bytes in a grain, the unit of `blocks`: a power of two, 8 KiB to 64 MiB; 4 KiB in
    /// [`Subformat::SeSparse`]; any multiple of 512 in [`Subformat::VmfsSparse`]. Flat extents
    /// have no grains, and take any multiple of 512 too.
    pub grain_size: u32,
    /// What the grains of the disk hold; the others are unallocated. In a stream-optimized
    /// image data are stored blocks of deflate. Zeros need `zeroed_grains` or one of the
    /// sub-formats that always have them: flat ones and [`Subformat::SeSparse`].
    pub blocks: Vec<Block>,
    /// Bytes in an extent of the sub-formats with several, a multiple of the grain size. VMware
    /// makes them of 2 GiB at most.
    pub extent_size: u64,
    /// Whether those extents that hold nothing are of type `ZERO`, without a file.
    pub zero_extents: bool,
    /// Who may write to the extents.
    pub access: Access,
    /// Sectors before the data in the files of flat extents; 0 in [`Subformat::Vmfs`].
    pub flat_offset: u32,
    /// Version of the sparse extents of hosted products, 1 to 3.
    pub version: u32,
    /// Whether grains of zeros have entries of their own, in versions 2 and 3.
    pub zeroed_grains: bool,
    /// Whether grains of zeros are unmapped instead, in [`Subformat::SeSparse`].
    pub unmapped: bool,
    /// Whether hosted sparse extents have a second grain directory with tables of its own.
    pub redundant: bool,
    /// Whether all grain tables are there, those without grains too.
    pub all_tables: bool,
    /// Whether the grain directory of a stream-optimized image is at its end, with markers and
    /// a footer.
    pub footer: bool,
    /// How well grains are compressed, 0 to 9.
    pub level: u32,
    /// Empty stored blocks at the front of each compressed grain: as many as fit into what
    /// readers have room for, twice the grain.
    pub empty_blocks: u32,
    /// Whether the extents are marked as not closed.
    pub unclean: bool,
    /// The sector where the embedded descriptor begins, at least 1. QEMU looks for the content
    /// identifiers at 1 whatever the header says.
    pub descriptor_offset: u32,
    /// Sectors for the embedded descriptor.
    pub descriptor_sectors: u32,
    /// Version of the descriptor, 1 to 3.
    pub descriptor_version: u32,
    /// The encoding that the descriptor names.
    pub encoding: Option<String>,
    /// The content identifier.
    pub cid: u32,
    /// The parent.
    pub parent: Option<Parent>,
    /// The file with the changed blocks.
    pub change_track_path: Option<String>,
    /// Keys, without `ddb.`, and values of the disk data base, besides the geometry.
    pub ddb: Vec<(String, String)>,
    /// Comments behind the first line of the descriptor.
    pub comments: Vec<String>,
    /// Whether lines of the descriptor end with CR, LF.
    pub crlf: bool,
    /// Where the parts of each sparse extent go, in sectors. Their natural order: redundant
    /// grain directory and tables, grain directory and tables, grains; with a footer the
    /// grains of each table before it, and the directory last. The header, the descriptor and
    /// the footer stay where they are, and [`Subformat::SeSparse`] has all in regions; there
    /// the grains alone are ordered.
    pub placement: Placement,
}

/// How the disk is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Subformat {
    /// One sparse extent with the descriptor in it.
    MonolithicSparse,
    /// A descriptor and one flat extent.
    MonolithicFlat,
    /// A descriptor and several sparse extents.
    TwoGbMaxExtentSparse,
    /// A descriptor and several flat extents.
    TwoGbMaxExtentFlat,
    /// One sparse extent with compressed grains and the descriptor in it.
    StreamOptimized,
    /// A descriptor and one flat extent, of ESX Server.
    Vmfs,
    /// A descriptor and one copy-on-write extent, of ESX Server.
    VmfsSparse,
    /// A descriptor and one space-efficient sparse extent, of ESX Server.
    SeSparse,
}

/// Who may write to an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// `RW`: everyone.
    ReadWrite,
    /// `RDONLY`: no one. QEMU leaves out such extents.
    ReadOnly,
}

/// A parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its file name, beside the image.
    pub name: String,
    /// Its content identifier, not `0xffffffff`.
    pub cid: u32,
}

impl Default for Spec {
    /// An empty sparse disk of 1 MiB with small grains.
    fn default() -> Self {
        let ddb = [("virtualHWVersion", "4"), ("adapterType", "ide")];
        Self {
            virtual_size: 1 << 20,
            subformat: Subformat::MonolithicSparse,
            grain_size: 8192,
            blocks: Vec::new(),
            extent_size: 2 << 30,
            zero_extents: false,
            access: Access::ReadWrite,
            flat_offset: 0,
            version: 1,
            zeroed_grains: false,
            unmapped: false,
            redundant: false,
            all_tables: false,
            footer: false,
            level: 6,
            empty_blocks: 0,
            unclean: false,
            descriptor_offset: 1,
            descriptor_sectors: 20,
            descriptor_version: 1,
            encoding: None,
            cid: 0x1234_5678,
            parent: None,
            change_track_path: None,
            ddb: ddb.map(|(key, value)| (key.into(), value.into())).into(),
            comments: Vec::new(),
            crlf: false,
            placement: Placement::default(),
        }
    }
}

/// Declares [`FEATURES`] and [`Spec::features`] from a row for each feature: its name, what it
/// is, and whether a description has it.
macro_rules! features {
    ($spec:ident; $($name:literal, $what:literal, $has:expr;)*) => {
        /// What images can have or not.
        pub const FEATURES: &[Feature] = &[$(Feature { name: $name, what: $what }),*];

        impl Spec {
            /// The features of [`FEATURES`] that the image has.
            pub(crate) fn features(&self) -> Vec<&'static str> {
                let $spec = self;
                let all = [$(($name, $has)),*];
                all.into_iter().filter_map(|(name, has)| has.then_some(name)).collect()
            }
        }
    };
}

features! { spec;
    "monolithic-sparse", "one sparse extent with its descriptor",
        spec.subformat == Subformat::MonolithicSparse;
    "monolithic-flat", "a descriptor and a flat extent",
        spec.subformat == Subformat::MonolithicFlat;
    "split-sparse", "a descriptor and sparse extents",
        spec.subformat == Subformat::TwoGbMaxExtentSparse;
    "split-flat", "a descriptor and flat extents",
        spec.subformat == Subformat::TwoGbMaxExtentFlat;
    "stream-optimized", "an extent with compressed grains",
        spec.subformat == Subformat::StreamOptimized;
    "vmfs", "a flat extent of ESX Server", spec.subformat == Subformat::Vmfs;
    "vmfs-sparse", "a copy-on-write extent of ESX Server",
        spec.subformat == Subformat::VmfsSparse;
    "se-sparse", "a space-efficient extent of ESX Server",
        spec.subformat == Subformat::SeSparse;
    "data", "grains with data", spec.holds(|content| matches!(content, Content::Data(_)));
    "compressed", "compressed grains",
        spec.holds(|content| matches!(content, Content::Compressed(_)));
    "zeroed-grain", "grains of zeros without data",
        spec.subformat.is_sparse() && spec.holds(|content| *content == Content::Zero);
    "unmapped-grain", "grains of zeros that were unmapped",
        spec.unmapped && spec.holds(|content| *content == Content::Zero);
    "several-extents", "more than one extent",
        spec.subformat.is_split() && spec.virtual_size > spec.extent_size;
    "zero-extent", "an extent of zeros without a file",
        spec.zero_extents && (0..spec.extents()).any(|extent| spec.is_empty(extent));
    "read-only-extent", "extents that are only read", spec.access == Access::ReadOnly;
    "flat-offset", "flat extents that begin within their file",
        spec.flat_offset > 0 && spec.subformat.is_flat();
    "version-2", "sparse extents of version 2", spec.subformat.is_hosted() && spec.version == 2;
    "version-3", "sparse extents of version 3", spec.subformat.is_hosted() && spec.version == 3;
    "redundant-directory", "a second grain directory with its own tables",
        spec.subformat.is_hosted() && spec.redundant;
    "unallocated-table", "grain tables that are not there",
        spec.subformat.is_sparse() && !spec.all_tables && spec.has_unused_table();
    "footer", "a grain directory that only the footer knows", spec.footer;
    "empty-blocks", "compressed grains with empty blocks", spec.empty_blocks > 0;
    "unclean", "extents that were not closed", spec.unclean;
    "partial-grain", "a last grain that is not whole",
        spec.subformat.is_sparse() && !spec.virtual_size.is_multiple_of(spec.grain_size.into());
    "large-grain", "grains of 1 MiB or more",
        spec.subformat.is_sparse() && spec.grain_size >= 1 << 20;
    "odd-grain", "grains whose size is no power of two",
        spec.subformat == Subformat::VmfsSparse && !spec.grain_size.is_power_of_two();
    "moved-descriptor", "an embedded descriptor behind sector 1",
        spec.subformat.is_embedded() && spec.descriptor_offset > 1;
    "large-descriptor", "room for a descriptor of more than 20 sectors",
        spec.subformat.is_embedded() && spec.descriptor_sectors > 20;
    "descriptor-version", "a descriptor of version 2 or 3", spec.descriptor_version > 1;
    "encoding", "a descriptor that names its encoding", spec.encoding.is_some();
    "parent", "a parent", spec.parent.is_some();
    "change-tracking", "a file with the changed blocks", spec.change_track_path.is_some();
    "comments", "more comments than usual", !spec.comments.is_empty();
    "crlf", "a descriptor with line ends of Windows", spec.crlf;
    "other-order", "tables and grains in an unusual order",
        spec.subformat.is_sparse() && spec.placement != Placement::default();
}

impl Subformat {
    /// The word for it in the descriptor.
    fn name(self) -> &'static str {
        match self {
            Self::MonolithicSparse => "monolithicSparse",
            Self::MonolithicFlat => "monolithicFlat",
            Self::TwoGbMaxExtentSparse => "twoGbMaxExtentSparse",
            Self::TwoGbMaxExtentFlat => "twoGbMaxExtentFlat",
            Self::StreamOptimized => "streamOptimized",
            Self::Vmfs => "vmfs",
            Self::VmfsSparse => "vmfsSparse",
            Self::SeSparse => "seSparse",
        }
    }

    /// The word for the type of its extents.
    fn extent_type(self) -> &'static str {
        match self {
            Self::MonolithicSparse | Self::TwoGbMaxExtentSparse | Self::StreamOptimized => "SPARSE",
            Self::MonolithicFlat | Self::TwoGbMaxExtentFlat => "FLAT",
            Self::Vmfs => "VMFS",
            Self::VmfsSparse => "VMFSSPARSE",
            Self::SeSparse => "SESPARSE",
        }
    }

    /// Whether the descriptor is in the extent.
    fn is_embedded(self) -> bool {
        matches!(self, Self::MonolithicSparse | Self::StreamOptimized)
    }

    /// Whether there may be several extents.
    fn is_split(self) -> bool {
        matches!(self, Self::TwoGbMaxExtentSparse | Self::TwoGbMaxExtentFlat)
    }

    /// Whether extents are nothing but data.
    fn is_flat(self) -> bool {
        matches!(
            self,
            Self::MonolithicFlat | Self::TwoGbMaxExtentFlat | Self::Vmfs
        )
    }

    /// Whether extents have grains.
    fn is_sparse(self) -> bool {
        !self.is_flat()
    }

    /// Whether extents are sparse ones of hosted products.
    fn is_hosted(self) -> bool {
        self.extent_type() == "SPARSE"
    }

    /// Grains in a grain table.
    fn per_table(self) -> u64 {
        match self.is_hosted() {
            true => super::layout::TABLE_ENTRIES,
            false => super::layout::LARGE_TABLE_ENTRIES,
        }
    }
}

impl Spec {
    fn holds(&self, wanted: fn(&Content) -> bool) -> bool {
        self.blocks.iter().any(|block| wanted(&block.content))
    }

    /// Bytes of each extent but the last.
    fn bytes_per_extent(&self) -> u64 {
        match self.subformat.is_split() {
            true => self.extent_size.max(1),
            false => self.virtual_size.max(1),
        }
    }

    /// How many extents there are.
    fn extents(&self) -> u64 {
        self.virtual_size.div_ceil(self.bytes_per_extent())
    }

    /// The number of the first grain of an extent, and of the first behind it.
    fn grains_of(&self, extent: u64) -> (u64, u64) {
        let grain = u64::from(self.grain_size).max(1);
        let (begin, end) = self.bytes_of(extent);
        (begin / grain, end.div_ceil(grain))
    }

    /// Where an extent begins and ends on the disk, in bytes.
    fn bytes_of(&self, extent: u64) -> (u64, u64) {
        let bytes = self.bytes_per_extent();
        let begin = extent.saturating_mul(bytes).min(self.virtual_size);
        (begin, begin.saturating_add(bytes).min(self.virtual_size))
    }

    /// Whether an extent holds nothing.
    fn is_empty(&self, extent: u64) -> bool {
        let (first, end) = self.grains_of(extent);
        let inside = |block: &Block| (first..end).contains(&block.index);
        !self.blocks.iter().any(inside)
    }

    /// Whether some grain table has no grains.
    fn has_unused_table(&self) -> bool {
        let per_table = self.subformat.per_table();
        (0..self.extents()).any(|extent| {
            let (first, end) = self.grains_of(extent);
            (first..end).step_by(per_table as usize).any(|first| {
                let table = first..(first + per_table).min(end);
                !self.blocks.iter().any(|block| table.contains(&block.index))
            })
        })
    }

    fn validate(&self) -> Result<(), SpecError> {
        let (size, grain) = (self.virtual_size, self.grain_size);
        let sectors = size > 0 && size.is_multiple_of(SECTOR) && size <= MAX_SIZE;
        ensure!(
            sectors,
            "disk size {size}: sectors, at least 1, up to 64 TiB"
        );
        let power = grain.is_power_of_two() && (8192..=64 << 20).contains(&grain);
        let valid = match self.subformat {
            Subformat::SeSparse => grain == 4096,
            subformat if subformat.is_hosted() => power,
            _ => grain > 0 && u64::from(grain).is_multiple_of(SECTOR) && grain <= 64 << 20,
        };
        let subformat = self.subformat.name();
        ensure!(valid, "grain size {grain}: not one of {subformat}");
        if self.subformat.is_split() {
            let extent = self.extent_size;
            let whole = extent > 0 && extent.is_multiple_of(grain.into());
            ensure!(whole, "extent size {extent}: not of grains");
            let count = self.extents();
            ensure!(
                count <= MAX_EXTENTS,
                "{count} extents: at most {MAX_EXTENTS}"
            );
        }
        let version = self.version;
        ensure!((1..=3).contains(&version), "version {version}: 1 to 3");
        let zeroed = !self.zeroed_grains || version > 1;
        ensure!(zeroed, "zeroed grains in version 1");
        let stream = self.subformat == Subformat::StreamOptimized;
        let plain = stream || !self.footer && self.empty_blocks == 0;
        ensure!(plain, "footer or empty blocks in {subformat}");
        let gaps = self.placement.gaps.iter().any(|gap| *gap > 0);
        ensure!(!(self.footer && gaps), "gaps in a stream of markers");
        ensure!(
            !(self.footer && self.redundant),
            "a redundant directory in a stream of markers"
        );
        ensure!(self.level <= 9, "level {}: 0 to 9", self.level);
        let vmfs = self.subformat == Subformat::Vmfs;
        ensure!(!vmfs || self.flat_offset == 0, "an offset in vmfs");
        self.validate_text()
    }
}

/// The largest disk, in bytes.
const MAX_SIZE: u64 = 64 << 40;
/// The most extents.
const MAX_EXTENTS: u64 = 1000;
/// The largest file that is laid out, in sectors.
const MAX_SECTORS: u64 = 1 << 25;

/// An extent that is to be built.
struct Part<'a> {
    /// Sectors of the disk in it.
    sectors: u64,
    /// Its grains that hold something, with their numbers in the extent, in rising order.
    blocks: Vec<(u64, &'a Content)>,
}

impl Part<'_> {
    /// The grain tables that are built, by number.
    fn tables(&self, spec: &Spec) -> Vec<u64> {
        let per_table = spec.subformat.per_table();
        if spec.all_tables {
            let grains = (self.sectors * SECTOR).div_ceil(spec.grain_size.into());
            return (0..grains.div_ceil(per_table)).collect();
        }
        let mut tables: Vec<u64> = self.blocks.iter().map(|(i, _)| i / per_table).collect();
        tables.dedup();
        tables
    }

    /// Entries in the grain directory.
    fn directory_entries(&self, spec: &Spec) -> u64 {
        let grain = u64::from(spec.grain_size);
        (self.sectors * SECTOR).div_ceil(grain * spec.subformat.per_table())
    }
}

/// The image that `spec` describes, called `name`, and the files of its extents.
///
/// # Errors
///
/// The parts of `spec` contradict each other or the format.
pub fn build(spec: &Spec, name: &str) -> Result<Vec<BuiltFile>, SpecError> {
    spec.validate()?;
    let grain = u64::from(spec.grain_size);
    let blocks = sorted(&spec.blocks, spec.virtual_size.div_ceil(grain))?;
    let file = |name: String, bytes| BuiltFile { name, bytes };
    let part = |extent| {
        let (begin, end) = spec.bytes_of(extent);
        let (first, last) = spec.grains_of(extent);
        let inside = blocks.iter().filter(|it| (first..last).contains(&it.index));
        Part {
            sectors: (end - begin) / SECTOR,
            blocks: inside.map(|it| (it.index - first, &it.content)).collect(),
        }
    };
    if spec.subformat.is_embedded() {
        let text = spec.text(name);
        let bytes = hosted::build(spec, &part(0), Some(&text))?;
        return Ok(vec![file(name.to_owned(), bytes)]);
    }
    let mut text = Store::new();
    text.write(0, spec.text(name).as_bytes());
    let mut files = vec![file(name.to_owned(), text)];
    for extent in 0..spec.extents() {
        if spec.zero_extents && spec.is_empty(extent) && spec.subformat.is_split() {
            continue;
        }
        let part = part(extent);
        let bytes = match spec.subformat {
            Subformat::VmfsSparse => cowd::build(spec, &part)?,
            Subformat::SeSparse => se::build(spec, &part)?,
            subformat if subformat.is_flat() => flat(spec, &part)?,
            _ => hosted::build(spec, &part, None)?,
        };
        files.push(file(spec.extent_name(name, extent), bytes));
    }
    Ok(files)
}

/// A flat extent.
fn flat(spec: &Spec, part: &Part<'_>) -> Result<Store, SpecError> {
    let from = u64::from(spec.flat_offset) * SECTOR;
    let len = part.sectors * SECTOR;
    let mut store = Store::new();
    for (index, content) in &part.blocks {
        let at = index * u64::from(spec.grain_size);
        match content {
            Content::Data(pattern) => {
                let data = pattern.bytes(spec.grain_size as usize);
                store.write(from + at, &data);
            }
            Content::Zero => {}
            Content::Compressed(_) => {
                return Err(SpecError("flat extents have no compressed grains".into()));
            }
        }
    }
    store.resize(from + len);
    Ok(store)
}

/// The error for a file that is too large.
fn check_sectors(sectors: u64) -> Result<(), SpecError> {
    ensure!(sectors <= MAX_SECTORS, "a file of {sectors} sectors");
    Ok(())
}
