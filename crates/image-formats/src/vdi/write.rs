//! The description of an image, and its builder.

use serde::{Deserialize, Serialize};

use super::layout::{
    DIFFERENCING, DISCARDED, DYNAMIC, HEADER_0_LEN, HEADER_1_LEN, HEADER_1_PLUS_LEN, HEADER_AT,
    SIGNATURE, STATIC, UNALLOCATED, UNDO, VERSION_1_1, ZERO_EXPAND,
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
    /// Bytes the guest sees, a multiple of 512.
    pub virtual_size: u64,
    /// Bytes of the disk in a block, a power of two, 512 to 256 MiB. QEMU reads 1 MiB only.
    pub block_size: u32,
    /// Bytes before the data of each block: 0 or a power of two, up to 1 MiB. QEMU does not
    /// look at them.
    pub block_extra: u32,
    /// Which header the image has: 1, or 0 for the earlier one, which QEMU does not read.
    pub version: u8,
    /// Whether the header has the logical geometry, in version 1.
    pub logical_geometry: bool,
    /// How blocks are allocated. In a static image all of them are.
    pub image_type: ImageType,
    /// Whether the flag is set that blocks are filled with zeros when they are allocated.
    pub zero_expand: bool,
    /// A comment, up to 255 bytes.
    pub comment: String,
    /// What the blocks of the disk hold: data or zeros. The others are unallocated.
    pub blocks: Vec<Block>,
    /// Byte offset of the block map, a multiple of 512; 0 is behind the header. In version 1.
    pub map_offset: u32,
    /// Byte offset of the blocks, a multiple of 512; 0 is behind the block map. In version 1.
    pub data_offset: u32,
    /// What the UUIDs of the image and of its last change are made from.
    pub seed: u64,
    /// The seed of the parent, which undo and differencing images must have, and others not.
    pub parent_seed: Option<u64>,
    /// The order of the stored blocks, in this natural order, and the unused ones between
    /// them; where these are, programs that append blocks may overwrite the last ones.
    pub placement: Placement,
}

/// How blocks are allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageType {
    /// As they are written.
    Dynamic,
    /// All of them.
    Static,
    /// As in [`Self::Differencing`]; older.
    Undo,
    /// As they are written; the others are those of the parent.
    Differencing,
}

impl Default for Spec {
    /// An empty disk of 4 MiB.
    fn default() -> Self {
        Self {
            virtual_size: 4 << 20,
            block_size: 1 << 20,
            block_extra: 0,
            version: 1,
            logical_geometry: false,
            image_type: ImageType::Dynamic,
            zero_expand: false,
            comment: String::new(),
            blocks: Vec::new(),
            map_offset: 0,
            data_offset: 0,
            seed: 1,
            parent_seed: None,
            placement: Placement::default(),
        }
    }
}

/// What images can have or not.
pub const FEATURES: &[Feature] = &[
    Feature::new("data", "allocated blocks"),
    Feature::new("zero", "discarded blocks"),
    Feature::new("static", "an image whose blocks are all allocated"),
    Feature::new("differencing", "a differencing image with a parent"),
    Feature::new("undo", "an undo image with a parent"),
    Feature::new("block-size", "blocks that are not of 1 MiB"),
    Feature::new("block-extra", "bytes before the data of each block"),
    Feature::new("version-0", "the header of before version 1.1"),
    Feature::new("logical-geometry", "a header with the logical geometry"),
    Feature::new("zero-expand", "the flag to fill new blocks with zeros"),
    Feature::new("comment", "a comment"),
    Feature::new("shuffled", "stored blocks in another order than the disk's"),
    Feature::new("gaps", "unused blocks between stored ones"),
];

impl Spec {
    /// The features of [`FEATURES`] that the image has.
    pub(crate) fn features(&self) -> Vec<&'static str> {
        let has = |wanted: fn(&Content) -> bool| self.blocks.iter().any(|b| wanted(&b.content));
        Feature::present(&[
            ("data", has(|content| matches!(content, Content::Data(_)))),
            ("zero", has(|content| *content == Content::Zero)),
            ("static", self.image_type == ImageType::Static),
            ("differencing", self.image_type == ImageType::Differencing),
            ("undo", self.image_type == ImageType::Undo),
            ("block-size", self.block_size != 1 << 20),
            ("block-extra", self.block_extra != 0),
            ("version-0", self.version == 0),
            ("logical-geometry", self.logical_geometry),
            ("zero-expand", self.zero_expand),
            ("comment", !self.comment.is_empty()),
            ("shuffled", !self.placement.order.is_empty()),
            ("gaps", self.placement.gaps.iter().any(|gap| *gap > 0)),
        ])
    }

    fn has_parent(&self) -> bool {
        use ImageType::{Differencing, Undo};
        matches!(self.image_type, Undo | Differencing)
    }

    fn validate(&self) -> Result<(), SpecError> {
        let (block, extra, size) = (self.block_size, self.block_extra, self.virtual_size);
        let power = block.is_power_of_two() && (512..=256 << 20).contains(&block);
        ensure!(power, "block size {block}: a power of two, 512 to 256 MiB");
        let power = extra == 0 || extra.is_power_of_two();
        ensure!(
            power && extra <= 1 << 20,
            "block extra {extra}: 0 or a power of two up to 1 MiB"
        );
        ensure!(size.is_multiple_of(512), "disk size {size}: not of sectors");
        let blocks = size.div_ceil(block.into());
        ensure!(blocks <= MAX_BLOCKS, "a disk of {blocks} blocks");
        ensure!(self.version <= 1, "version {}: 0 or 1", self.version);
        let new = extra != 0 || self.logical_geometry || self.map_offset | self.data_offset != 0;
        ensure!(
            self.version == 1 || !new,
            "version 0 has no block extra, logical geometry or offsets"
        );
        let comment = self.comment.len();
        ensure!(
            comment <= 255 && !self.comment.contains('\0'),
            "a comment of {comment} bytes: up to 255, none of them zero"
        );
        ensure!(
            self.has_parent() == self.parent_seed.is_some(),
            "undo and differencing images have a parent, others have none"
        );
        let zero = self.blocks.iter().any(|b| b.content == Content::Zero);
        let fixed = self.image_type == ImageType::Static;
        ensure!(!(fixed && zero), "a static image with a discarded block");
        Ok(())
    }
}

/// The most blocks that a disk has.
const MAX_BLOCKS: u64 = 1 << 20;

/// Where block map and blocks are, in bytes.
#[derive(Clone, Copy)]
struct Places {
    map: u64,
    data: u64,
}

impl Places {
    fn of(spec: &Spec, blocks: u64) -> Result<Self, SpecError> {
        if spec.version == 0 {
            let map = HEADER_AT + HEADER_0_LEN;
            let data = map + blocks * 4;
            return Ok(Self { map, data });
        }
        let given = |given: u32, least: u64, what: &str| {
            let place = match given {
                0 => least.next_multiple_of(512),
                _ => given.into(),
            };
            ensure!(
                place.is_multiple_of(512) && place >= least,
                "{what} at {place}: a multiple of 512, at least {least}"
            );
            Ok(place)
        };
        let map = given(spec.map_offset, 512, "the block map")?;
        let data = given(spec.data_offset, map + blocks * 4, "the blocks")?;
        ensure!(u32::try_from(data).is_ok(), "blocks at {data}: past 4 GiB");
        Ok(Self { map, data })
    }
}

/// The image that `spec` describes, called `name`.
///
/// # Errors
///
/// The parts of `spec` contradict each other or the format.
pub fn build(spec: &Spec, name: &str) -> Result<Vec<BuiltFile>, SpecError> {
    spec.validate()?;
    let block_size = u64::from(spec.block_size);
    let blocks = spec.virtual_size.div_ceil(block_size);
    let places = Places::of(spec, blocks)?;
    let mut entries = vec![UNALLOCATED; blocks as usize];
    let mut stored = Vec::new();
    for block in sorted(&spec.blocks, blocks)? {
        match &block.content {
            Content::Zero => entries[block.index as usize] = DISCARDED,
            Content::Data(pattern) => stored.push((block.index, pattern)),
            Content::Compressed(_) => {
                return Err(SpecError("VDI has no compressed blocks".to_owned()));
            }
        }
    }
    let zeros = Pattern::Fill(0);
    if spec.image_type == ImageType::Static {
        let known: Vec<u64> = stored.iter().map(|(index, _)| *index).collect();
        let others = (0..blocks).filter(|index| known.binary_search(index).is_err());
        stored.extend(others.map(|index| (index, &zeros)));
        stored.sort_by_key(|(index, _)| *index);
    }
    let (numbers, end) = spec.placement.arrange(&vec![1; stored.len()], 0);
    ensure!(
        end <= blocks,
        "{end} stored blocks with the gaps: more than the {blocks} of the disk"
    );
    let step = block_size + u64::from(spec.block_extra);
    let mut store = Store::new();
    for ((index, pattern), number) in stored.iter().zip(&numbers) {
        entries[*index as usize] = *number;
        let at = places.data + number * step;
        store.write(at, &vec![0xee; spec.block_extra as usize]);
        if **pattern != zeros {
            let data = pattern.bytes(spec.block_size as usize);
            store.write(at + u64::from(spec.block_extra), &data);
        }
    }
    store.resize(places.data + end * step);
    write_header(spec, places, stored.len() as u64, &mut store);
    let map = entries.iter().map(|entry| (*entry as u32).to_le_bytes());
    store.write(places.map, &map.collect::<Vec<_>>().concat());
    Ok(vec![BuiltFile {
        name: name.to_owned(),
        bytes: store,
    }])
}

/// The UUIDs of an image with this seed, and of its last change: of the random kind.
fn uuids(seed: u64) -> [Vec<u8>; 2] {
    let bytes = Pattern::Noise(seed).bytes(32);
    let uuid = |bytes: &[u8]| {
        let mut uuid = bytes.to_vec();
        uuid[7] = uuid[7] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    };
    [uuid(&bytes[..16]), uuid(&bytes[16..])]
}

fn write_header(spec: &Spec, places: Places, allocated: u64, store: &mut Store) {
    let old = spec.version == 0;
    let mut next = 0;
    let mut put = |bytes: &[u8], len: u64| {
        store.write(next, bytes);
        next += len;
    };
    put(b"<<< VirtualBox Disk Image >>>\n", 64);
    let image_type = match spec.image_type {
        ImageType::Dynamic => DYNAMIC,
        ImageType::Static => STATIC,
        ImageType::Undo => UNDO,
        ImageType::Differencing => DIFFERENCING,
    };
    let header = if spec.logical_geometry {
        HEADER_1_PLUS_LEN
    } else {
        HEADER_1_LEN
    };
    let word = |number: u64| (number as u32).to_le_bytes();
    put(&SIGNATURE.to_le_bytes(), 4);
    put(&word(if old { 2 } else { VERSION_1_1 }), 4);
    if !old {
        put(&word(header), 4);
    }
    put(&word(image_type), 4);
    put(&word(if spec.zero_expand { ZERO_EXPAND } else { 0 }), 4);
    put(spec.comment.as_bytes(), 256);
    if !old {
        put(&word(places.map), 4);
        put(&word(places.data), 4);
    }
    // The geometry that old firmware reports to guests.
    let sectors = spec.virtual_size / 512;
    let cylinders = (sectors / (16 * 63)).min(16383);
    for number in [cylinders, 16, 63, 512] {
        put(&word(number), 4);
    }
    if !old {
        put(&word(0), 4);
    }
    put(&spec.virtual_size.to_le_bytes(), 8);
    put(&word(spec.block_size.into()), 4);
    if !old {
        put(&word(spec.block_extra.into()), 4);
    }
    let blocks = spec.virtual_size.div_ceil(spec.block_size.into());
    put(&word(blocks), 4);
    put(&word(allocated), 4);
    let [image, change] = uuids(spec.seed);
    put(&image, 16);
    put(&change, 16);
    let [parent, parent_change] = spec.parent_seed.map_or_else(Default::default, uuids);
    put(&parent, 16);
    if old {
        return;
    }
    put(&parent_change, 16);
    if spec.logical_geometry {
        for number in [cylinders.min(1024), 255, 63, 512] {
            put(&word(number), 4);
        }
    }
}
