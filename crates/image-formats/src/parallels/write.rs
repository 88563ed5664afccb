//! The description of an image, and its builder.

use serde::{Deserialize, Serialize};

use super::check::bitmap_clusters;
use super::extension::{self, BITMAP_LEN, DIRTY_BITMAP, FEATURE_LEN, HEADER_LEN};
use super::layout::{BAT_AT, CLOSED, EMPTY, IN_USE, MAGIC, MAGIC_EXT, SECTOR};
use crate::arrange::Placement;
use crate::block::{Block, Content, sorted};
use crate::built::{self, BuiltFile};
use crate::pattern::Pattern;
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;

/// The description of a valid image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Bytes the guest sees, a multiple of 512; below 2 TiB unless `ext` is set.
    pub virtual_size: u64,
    /// Whether the image is of the later kind (`WithouFreSpacExt`), whose BAT counts in clusters.
    pub ext: bool,
    /// Sectors in a cluster, 1 to 131072. Parallels has used 63, 504, 512 and 2048.
    pub tracks: u32,
    /// Whether the data area begins right behind the BAT, without its place in the header; not
    /// with `ext`.
    pub implied_data_offset: bool,
    /// Clusters between the BAT and the data area, where its place is in the header.
    pub data_gap: u8,
    /// The mark of open images.
    pub state: State,
    /// Whether the image is marked as empty; it has no blocks then.
    pub empty: bool,
    /// What the clusters of the disk hold: data. The others are unallocated.
    pub blocks: Vec<Block>,
    /// The format extension.
    pub extension: Option<Extension>,
    /// Where the extension, the clusters of bitmaps, and those of the disk go, in this natural
    /// order. `qemu-img check` knows the last ones only: others behind them are leaks to it.
    pub placement: Placement,
}

/// The mark of open images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Closed.
    Closed,
    /// Open, or not closed properly.
    Open,
    /// Closed by a program that knows no format extension.
    Unmarked,
}

/// A format extension. It fits into a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extension {
    /// Dirty bitmaps.
    pub bitmaps: Vec<Bitmap>,
    /// Other features, behind the bitmaps. QEMU refuses images with any.
    pub others: Vec<Feature>,
}

/// A dirty bitmap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bitmap {
    /// What its identifier is made from.
    pub seed: u64,
    /// Sectors for a bit, a power of two.
    pub granularity: u32,
    /// What each of its clusters holds.
    pub clusters: Vec<BitmapCluster>,
}

/// A cluster of a bitmap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BitmapCluster {
    /// All bits are 0, without being stored.
    Zeros,
    /// All bits are 1, without being stored.
    Ones,
    /// Stored.
    Data(Pattern),
}

/// A feature that no specification names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// Its number, neither 0 nor that of dirty bitmaps.
    pub magic: u64,
    /// Whether programs that do not know it must not change the image.
    pub necessary: bool,
    /// Whether programs that do not know it leave it as it is.
    pub transit: bool,
    /// What it holds.
    pub data: Vec<u8>,
}

impl Default for Spec {
    /// An empty disk of 1 MiB with small clusters.
    fn default() -> Self {
        Self {
            virtual_size: 1 << 20,
            ext: true,
            tracks: 64,
            implied_data_offset: false,
            data_gap: 0,
            state: State::Closed,
            empty: false,
            blocks: Vec::new(),
            extension: None,
            placement: Placement::default(),
        }
    }
}

/// What images can have or not.
pub const FEATURES: &[built::Feature] = &[
    built::Feature::new("data", "allocated clusters"),
    built::Feature::new(
        "sector-bat",
        "a BAT that counts in sectors (WithoutFreeSpace)",
    ),
    built::Feature::new(
        "cluster-bat",
        "a BAT that counts in clusters (WithouFreSpacExt)",
    ),
    built::Feature::new("odd-clusters", "clusters of a size that is no power of two"),
    built::Feature::new(
        "implied-data-offset",
        "no place of the data area in the header",
    ),
    built::Feature::new("data-gap", "unused clusters before the data area"),
    built::Feature::new("open", "an image that was not closed"),
    built::Feature::new("unmarked", "an image of a program without format extension"),
    built::Feature::new("empty", "an image that is marked as empty"),
    built::Feature::new("extension", "a format extension"),
    built::Feature::new("bitmap", "dirty bitmaps"),
    built::Feature::new("unknown-feature", "features that no specification names"),
    built::Feature::new("gaps", "unused clusters between others"),
];

impl Spec {
    /// The features of [`FEATURES`] that the image has.
    pub(crate) fn features(&self) -> Vec<&'static str> {
        let extension = self.extension.as_ref();
        built::Feature::present(&[
            ("data", !self.blocks.is_empty()),
            ("sector-bat", !self.ext),
            ("cluster-bat", self.ext),
            ("odd-clusters", !self.tracks.is_power_of_two()),
            ("implied-data-offset", self.implied_data_offset),
            ("data-gap", self.data_gap > 0),
            ("open", self.state == State::Open),
            ("unmarked", self.state == State::Unmarked),
            ("empty", self.empty),
            ("extension", extension.is_some()),
            ("bitmap", extension.is_some_and(|e| !e.bitmaps.is_empty())),
            (
                "unknown-feature",
                extension.is_some_and(|e| !e.others.is_empty()),
            ),
            ("gaps", self.placement.gaps.iter().any(|gap| *gap > 0)),
        ])
    }

    fn validate(&self) -> Result<(), SpecError> {
        let (tracks, size) = (self.tracks, self.virtual_size);
        let allowed = (1..=1 << 17).contains(&tracks);
        ensure!(allowed, "clusters of {tracks} sectors: 1 to 131072");
        ensure!(
            size.is_multiple_of(SECTOR),
            "disk size {size}: not of sectors"
        );
        let small = self.ext || size / SECTOR <= u32::MAX.into();
        ensure!(
            small,
            "disk size {size}: at most 32 bits of sectors without ext"
        );
        let clusters = self.clusters();
        ensure!(clusters <= MAX_CLUSTERS, "a disk of {clusters} clusters");
        let implied = self.implied_data_offset;
        ensure!(
            !implied || !(self.ext || self.data_gap > 0),
            "the place of the data area is implied without ext and data_gap only"
        );
        let blocks = self.blocks.is_empty();
        ensure!(!self.empty || blocks, "an empty image with blocks");
        let data = |block: &Block| matches!(block.content, Content::Data(_));
        ensure!(
            self.blocks.iter().all(data),
            "Parallels has neither zero nor compressed clusters"
        );
        match &self.extension {
            Some(extension) => self.validate_extension(extension),
            None => Ok(()),
        }
    }

    fn validate_extension(&self, extension: &Extension) -> Result<(), SpecError> {
        let sectors = self.virtual_size / SECTOR;
        for bitmap in &extension.bitmaps {
            let granularity = bitmap.granularity;
            let power = granularity.is_power_of_two();
            ensure!(power, "bitmap granularity {granularity}: a power of two");
            let wanted = bitmap_clusters(sectors, granularity.into(), self.cluster_size());
            let given = bitmap.clusters.len() as u64;
            ensure!(given == wanted, "a bitmap of {given} clusters: {wanted}");
        }
        for feature in &extension.others {
            let magic = feature.magic;
            let other = magic != extension::END && magic != DIRTY_BITMAP;
            ensure!(other, "a feature with the number {magic:#x}");
        }
        Ok(())
    }

    fn cluster_size(&self) -> u64 {
        u64::from(self.tracks) * SECTOR
    }

    /// Clusters of the disk.
    fn clusters(&self) -> u64 {
        self.virtual_size.div_ceil(self.cluster_size())
    }

    /// Where the data area begins, in sectors.
    fn data(&self) -> u64 {
        let end = (BAT_AT + self.clusters() * 4).div_ceil(SECTOR);
        if self.implied_data_offset {
            return end;
        }
        let tracks = u64::from(self.tracks);
        end.next_multiple_of(tracks) + u64::from(self.data_gap) * tracks
    }
}

/// The most clusters of a disk, and of an image.
const MAX_CLUSTERS: u64 = 1 << 20;

/// The image that `spec` describes, called `name`.
///
/// # Errors
///
/// The parts of `spec` contradict each other or the format.
pub fn build(spec: &Spec, name: &str) -> Result<Vec<BuiltFile>, SpecError> {
    spec.validate()?;
    let blocks = sorted(&spec.blocks, spec.clusters())?;
    let extension = spec.extension.as_ref();
    let bitmap_data: Vec<&Pattern> = extension
        .into_iter()
        .flat_map(|extension| &extension.bitmaps)
        .flat_map(|bitmap| &bitmap.clusters)
        .filter_map(|cluster| match cluster {
            BitmapCluster::Data(pattern) => Some(pattern),
            _ => None,
        })
        .collect();
    let before = usize::from(extension.is_some());
    let parts = before + bitmap_data.len() + blocks.len();
    let (numbers, end) = spec.placement.arrange(&vec![1; parts], 0);
    ensure!(end <= MAX_CLUSTERS, "an image of {end} clusters");
    let (data, size) = (spec.data() * SECTOR, spec.cluster_size());
    let places: Vec<u64> = numbers.iter().map(|number| data + number * size).collect();
    let (extension_place, rest) = places.split_at(before);
    let (bitmap_places, block_places) = rest.split_at(bitmap_data.len());
    let mut store = Store::new();
    store.resize(data + end * size);
    write_header(spec, extension_place.first().copied(), &mut store);
    for (pattern, place) in bitmap_data.iter().zip(bitmap_places) {
        store.write(*place, &pattern.bytes(size as usize));
    }
    let unit = if spec.ext { size } else { SECTOR };
    for (block, place) in blocks.iter().zip(block_places) {
        let entry = u32::try_from(place / unit);
        let entry = entry.map_err(|_| SpecError(format!("a cluster at {place}")))?;
        store.write(BAT_AT + block.index * 4, &entry.to_le_bytes());
        if let Content::Data(pattern) = &block.content {
            store.write(*place, &pattern.bytes(size as usize));
        }
    }
    if let (Some(extension), Some(place)) = (extension, extension_place.first()) {
        write_extension(spec, extension, (*place, bitmap_places), &mut store)?;
    }
    Ok(vec![BuiltFile {
        name: name.to_owned(),
        bytes: store,
    }])
}

fn write_header(spec: &Spec, extension: Option<u64>, store: &mut Store) {
    let sectors = spec.virtual_size / SECTOR;
    let state = match spec.state {
        State::Closed => CLOSED,
        State::Open => IN_USE,
        State::Unmarked => 0,
    };
    let data = if spec.implied_data_offset {
        0
    } else {
        spec.data()
    };
    let cylinders = (sectors / (16 * 32)).min(u32::MAX.into());
    let mut put = |at, number: u64, bytes: usize| {
        store.write(at, &number.to_le_bytes()[..bytes]);
    };
    put(16, 2, 4);
    put(20, 16, 4);
    put(24, cylinders, 4);
    put(28, spec.tracks.into(), 4);
    put(32, spec.clusters(), 4);
    put(36, sectors, 8);
    put(44, state, 4);
    put(48, data, 4);
    put(52, if spec.empty { EMPTY } else { 0 }, 4);
    put(56, extension.unwrap_or(0) / SECTOR, 8);
    store.write(0, if spec.ext { MAGIC_EXT } else { MAGIC });
}

/// Writes the extension to byte `at`; `clusters` are the places of those of bitmaps.
fn write_extension(
    spec: &Spec,
    extension: &Extension,
    (at, clusters): (u64, &[u64]),
    store: &mut Store,
) -> Result<(), SpecError> {
    let sectors = spec.virtual_size / SECTOR;
    let mut features = Vec::new();
    let mut places = clusters.iter();
    for bitmap in &extension.bitmaps {
        let mut data = sectors.to_le_bytes().to_vec();
        data.extend(Pattern::Noise(bitmap.seed).bytes(16));
        data.extend(bitmap.granularity.to_le_bytes());
        data.extend((bitmap.clusters.len() as u32).to_le_bytes());
        debug_assert_eq!(data.len() as u64, BITMAP_LEN);
        for cluster in &bitmap.clusters {
            let entry = match cluster {
                BitmapCluster::Zeros => 0,
                BitmapCluster::Ones => 1,
                BitmapCluster::Data(_) => places.next().copied().unwrap_or(0) / SECTOR,
            };
            data.extend(entry.to_le_bytes());
        }
        push_feature(&mut features, DIRTY_BITMAP, 0, &data);
    }
    for feature in &extension.others {
        let flags = u64::from(feature.necessary) | u64::from(feature.transit) << 1;
        push_feature(&mut features, feature.magic, flags, &feature.data);
    }
    push_feature(&mut features, extension::END, 0, &[]);
    let (len, room) = (features.len() as u64, spec.cluster_size() - HEADER_LEN);
    ensure!(len <= room, "features of {len} bytes: at most {room}");
    store.write(at, &extension::MAGIC.to_le_bytes());
    store.write(at + HEADER_LEN, &features);
    let sum = extension::md5(store, at + HEADER_LEN, room);
    store.write(at + 8, &sum);
    Ok(())
}

fn push_feature(features: &mut Vec<u8>, magic: u64, flags: u64, data: &[u8]) {
    features.extend(magic.to_le_bytes());
    features.extend(flags.to_le_bytes());
    features.extend((data.len() as u32).to_le_bytes());
    features.extend([0; 4]);
    features.extend(data);
    let len = (features.len() as u64).next_multiple_of(8);
    debug_assert!(features.len() as u64 >= FEATURE_LEN);
    features.resize(len as usize, 0);
}
