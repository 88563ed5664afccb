//! The description of an image, and its builder.

use serde::{Deserialize, Serialize};

use super::layout::{
    GROWING, HEADER_LEN, LARGEST_EXTENT, Layout, MAGIC, SECTOR, TYPE, UNALLOCATED, VERSION_1,
    VERSION_2,
};
use crate::arrange::Placement;
use crate::block::{Block, Content, sorted};
use crate::built::{BuiltFile, Feature};
use crate::pattern::Pattern;
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;

/// The description of a valid image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Bytes the guest sees, a multiple of 512, at least 512.
    pub virtual_size: u64,
    /// The version of the header, 1 or 2.
    pub version: u8,
    /// Bytes of the disk in an extent, a power of two, 512 to 8 MiB.
    pub extent_size: u32,
    /// Bytes in the bitmap of an extent, a bit for each of its sectors at least; 0 for as many
    /// as it needs. Up to 1 MiB.
    pub bitmap_size: u32,
    /// Bytes before the catalog, 512 to 1 MiB.
    pub header_size: u32,
    /// Entries in the catalog besides those that the disk needs, up to 65536.
    pub spare_entries: u32,
    /// Date and time, as in FAT, in version 2.
    pub timestamp: u32,
    /// What the extents of the disk hold: data, or zeros where they have room in the file and no
    /// sector of them is allocated. The others are unallocated.
    pub blocks: Vec<Block>,
    /// Of each extent with data, every so manieth sector is not allocated and reads as zeros; 0
    /// for none.
    pub holes: u32,
    /// Where the extents go, in this natural order. Bochs appends extents behind the number of
    /// those that it knows, so that gaps are overwritten or overwrite.
    pub placement: Placement,
}

impl Default for Spec {
    /// An empty disk of 1 MiB.
    fn default() -> Self {
        Self {
            virtual_size: 1 << 20,
            version: 2,
            extent_size: 16384,
            bitmap_size: 0,
            header_size: 512,
            spare_entries: 0,
            timestamp: 0,
            blocks: Vec::new(),
            holes: 0,
            placement: Placement::default(),
        }
    }
}

/// What images can have or not.
pub const FEATURES: &[Feature] = &[
    Feature::new("data", "allocated extents"),
    Feature::new("empty-extent", "extents without an allocated sector"),
    Feature::new("partial-extent", "extents with unallocated sectors"),
    Feature::new("version-1", "the header of version 1"),
    Feature::new("version-2", "the header of version 2"),
    Feature::new("timestamp", "a time in the header"),
    Feature::new("large-header", "a header of more than 512 bytes"),
    Feature::new("large-bitmap", "bitmaps of more than a sector"),
    Feature::new("sector-extents", "extents of one sector"),
    Feature::new(
        "spare-entries",
        "more entries in the catalog than the disk needs",
    ),
    Feature::new("shuffled", "extents in another order than the disk's"),
    Feature::new("gaps", "unused extents between others"),
];

impl Spec {
    /// The features of [`FEATURES`] that the image has.
    pub(crate) fn features(&self) -> Vec<&'static str> {
        let has = |wanted: fn(&Content) -> bool| self.blocks.iter().any(|b| wanted(&b.content));
        let data = has(|content| matches!(content, Content::Data(_)));
        Feature::present(&[
            ("data", data),
            ("empty-extent", has(|content| *content == Content::Zero)),
            ("partial-extent", data && self.holes > 0),
            ("version-1", self.version == 1),
            ("version-2", self.version == 2),
            ("timestamp", self.timestamp != 0),
            ("large-header", self.header_size > 512),
            ("large-bitmap", self.bitmap() > SECTOR),
            ("sector-extents", self.extent_size == 512),
            ("spare-entries", self.spare_entries > 0),
            ("shuffled", !self.placement.order.is_empty()),
            ("gaps", self.placement.gaps.iter().any(|gap| *gap > 0)),
        ])
    }

    /// Bytes in a bitmap.
    fn bitmap(&self) -> u64 {
        match self.bitmap_size {
            0 => (u64::from(self.extent_size) / SECTOR).div_ceil(8),
            size => size.into(),
        }
    }

    fn validate(&self) -> Result<(), SpecError> {
        let (size, extent) = (self.virtual_size, self.extent_size);
        let allowed = size.is_multiple_of(SECTOR) && size > 0;
        ensure!(allowed, "disk size {size}: a multiple of 512, not 0");
        let version = self.version;
        ensure!(matches!(version, 1 | 2), "version {version}: 1 or 2");
        ensure!(
            version == 2 || self.timestamp == 0,
            "version 1 has no timestamp"
        );
        let allowed = (SECTOR..=LARGEST_EXTENT).contains(&extent.into());
        ensure!(
            extent.is_power_of_two() && allowed,
            "extent size {extent}: a power of two, 512 to 8 MiB"
        );
        let (bitmap, least) = (self.bitmap(), (u64::from(extent) / SECTOR).div_ceil(8));
        ensure!(
            (least..=1 << 20).contains(&bitmap),
            "bitmap size {bitmap}: {least} to 1048576"
        );
        let header = self.header_size;
        ensure!(
            (512..=1 << 20).contains(&header),
            "header size {header}: 512 to 1048576"
        );
        let extents = size.div_ceil(extent.into());
        ensure!(extents <= MAX_EXTENTS, "a disk of {extents} extents");
        let spare = self.spare_entries;
        ensure!(spare <= 1 << 16, "{spare} spare entries: up to 65536");
        let compressed = |block: &Block| matches!(block.content, Content::Compressed(_));
        ensure!(
            !self.blocks.iter().any(compressed),
            "Bochs has no compressed extents"
        );
        Ok(())
    }
}

/// The most extents of a disk, and of an image.
const MAX_EXTENTS: u64 = 1 << 19;

/// The image that `spec` describes, called `name`.
///
/// # Errors
///
/// The parts of `spec` contradict each other or the format.
pub fn build(spec: &Spec, name: &str) -> Result<Vec<BuiltFile>, SpecError> {
    spec.validate()?;
    let extent = u64::from(spec.extent_size);
    let extents = spec.virtual_size.div_ceil(extent);
    let blocks = sorted(&spec.blocks, extents)?;
    let (numbers, end) = spec.placement.arrange(&vec![1; blocks.len()], 0);
    ensure!(end <= MAX_EXTENTS, "an image of {end} extents");
    let layout = Layout {
        version: if spec.version == 1 {
            VERSION_1
        } else {
            VERSION_2
        },
        catalog_at: spec.header_size.into(),
        catalog: extents + u64::from(spec.spare_entries),
        bitmap: spec.bitmap(),
        extent,
        disk: spec.virtual_size,
        disk_field: if spec.version == 1 { 84 } else { 88 },
    };
    let mut store = Store::new();
    store.resize(layout.bitmap_at(end));
    write_header(spec, layout, &mut store);
    let mut catalog = vec![UNALLOCATED as u32; layout.catalog as usize];
    for (block, number) in blocks.iter().zip(&numbers) {
        catalog[block.index as usize] = *number as u32;
        if let Content::Data(pattern) = &block.content {
            let at = layout.bitmap_at(*number);
            write_extent(spec, layout, (at, pattern), &mut store);
        }
    }
    let catalog: Vec<u8> = catalog.into_iter().flat_map(u32::to_le_bytes).collect();
    store.write(layout.catalog_at, &catalog);
    Ok(vec![BuiltFile {
        name: name.to_owned(),
        bytes: store,
    }])
}

/// Writes bitmap and data of an extent, the sectors that are not allocated too.
fn write_extent(spec: &Spec, layout: Layout, (at, data): (u64, &Pattern), store: &mut Store) {
    let sectors = layout.sectors();
    let mut bitmap = vec![0; layout.bitmap as usize];
    for sector in 0..sectors {
        let hole = (sector + 1).checked_rem(spec.holes.into()) == Some(0);
        if !hole {
            bitmap[sector as usize / 8] |= 1 << (sector % 8);
        }
    }
    store.write(at, &bitmap);
    let data = data.bytes(layout.extent as usize);
    store.write(at + layout.bitmap_room(), &data);
}

fn write_header(spec: &Spec, layout: Layout, store: &mut Store) {
    debug_assert!(layout.catalog_at >= HEADER_LEN);
    store.write(0, MAGIC);
    store.write(32, TYPE);
    store.write(48, GROWING);
    let mut word = |at, number: u64| store.write(at, &(number as u32).to_le_bytes());
    word(64, layout.version);
    word(68, layout.catalog_at);
    word(72, layout.catalog);
    word(76, layout.bitmap);
    word(80, layout.extent);
    if spec.version == 2 {
        word(84, spec.timestamp.into());
    }
    store.write(layout.disk_field, &layout.disk.to_le_bytes());
}
