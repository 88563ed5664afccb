//! The description of an image, and its builder.

use serde::{Deserialize, Serialize};

use super::layout::{BACKING_FILE, KNOWN_FEATURES, MAGIC, NEED_CHECK, NO_PROBE, ZERO};
use crate::arrange::Placement;
use crate::block::{Block, Content, sorted};
use crate::built::{BuiltFile, Feature};
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;

/// The description of a valid image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Bytes the guest sees, a multiple of 512.
    pub virtual_size: u64,
    /// Bytes in a cluster, a power of two, 4 KiB to 64 MiB.
    pub cluster_size: u32,
    /// Clusters in a table: 1, 2, 4, 8 or 16. QEMU takes the overflow of nothing for one where
    /// it is 1, and refuses the image.
    pub table_size: u32,
    /// Clusters in the header, at least 1.
    pub header_size: u32,
    /// What the clusters of the disk hold: data or zeros; the others are unallocated.
    pub blocks: Vec<Block>,
    /// Whether the image is marked to be checked before use.
    pub need_check: bool,
    /// Bits of compatible features; readers ignore them.
    pub compat_features: u64,
    /// Bits of autoclear features; writers clear them.
    pub autoclear_features: u64,
    /// The backing file.
    pub backing: Option<Backing>,
    /// Where L1 table, L2 tables and data clusters go, in this natural order.
    pub placement: Placement,
}

/// A backing file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backing {
    /// Its name, within the header.
    pub name: String,
    /// Whether it is marked to be raw; without, readers probe.
    pub raw: bool,
}

impl Default for Spec {
    /// An empty disk of 1 MiB with small clusters.
    fn default() -> Self {
        Self {
            virtual_size: 1 << 20,
            cluster_size: 4096,
            table_size: 2,
            header_size: 1,
            blocks: Vec::new(),
            need_check: false,
            compat_features: 0,
            autoclear_features: 0,
            backing: None,
            placement: Placement::default(),
        }
    }
}

/// What images can have or not.
pub const FEATURES: &[Feature] = &[
    Feature {
        name: "data",
        what: "allocated clusters",
    },
    Feature {
        name: "zero",
        what: "zero clusters",
    },
    Feature {
        name: "backing",
        what: "a backing file whose format is probed",
    },
    Feature {
        name: "backing-raw",
        what: "a backing file that is marked as raw",
    },
    Feature {
        name: "small-tables",
        what: "tables of one cluster",
    },
    Feature {
        name: "large-header",
        what: "a header of several clusters",
    },
    Feature {
        name: "compat-features",
        what: "unknown compatible and autoclear features",
    },
    Feature {
        name: "need-check",
        what: "an image that was not closed",
    },
];

impl Spec {
    /// The features of [`FEATURES`] that the image has.
    pub(crate) fn features(&self) -> Vec<&'static str> {
        let has = |wanted: fn(&Content) -> bool| self.blocks.iter().any(|b| wanted(&b.content));
        let raw = self.backing.as_ref().map(|backing| backing.raw);
        let unknown = self.compat_features | self.autoclear_features;
        [
            ("data", has(|content| matches!(content, Content::Data(_)))),
            ("zero", has(|content| *content == Content::Zero)),
            ("backing", raw == Some(false)),
            ("backing-raw", raw == Some(true)),
            ("small-tables", self.table_size == 1),
            ("large-header", self.header_size > 1),
            ("compat-features", unknown != 0),
            ("need-check", self.need_check),
        ]
        .into_iter()
        .filter_map(|(name, has)| has.then_some(name))
        .collect()
    }

    fn validate(&self) -> Result<(), SpecError> {
        let (cluster, table) = (self.cluster_size, self.table_size);
        let power = cluster.is_power_of_two() && (1 << 12..=1 << 26).contains(&cluster);
        ensure!(
            power,
            "cluster size {cluster}: a power of two, 4 KiB to 64 MiB"
        );
        let power = table.is_power_of_two() && table <= 16;
        ensure!(power, "table size {table}: 1, 2, 4, 8 or 16");
        ensure!(self.header_size > 0, "a header of 0 clusters");
        let size = self.virtual_size;
        ensure!(size.is_multiple_of(512), "disk size {size}: not of sectors");
        let most = u128::from(self.entries()).pow(2) * u128::from(cluster);
        ensure!(u128::from(size) <= most, "disk size {size}: at most {most}");
        let room = u64::from(cluster) * u64::from(self.header_size) - NAME_AT;
        let name = self
            .backing
            .as_ref()
            .map_or(0, |backing| backing.name.len());
        ensure!(name as u64 <= room, "a backing file name of {name} bytes");
        Ok(())
    }

    /// Entries in a table.
    fn entries(&self) -> u64 {
        u64::from(self.cluster_size) * u64::from(self.table_size) / 8
    }
}

/// Where the name of the backing file goes.
const NAME_AT: u64 = 64;

/// The largest image that is laid out, in clusters.
const MAX_CLUSTERS: u64 = 1 << 22;

/// The image that `spec` describes, called `name`.
///
/// # Errors
///
/// The parts of `spec` contradict each other or the format.
pub fn build(spec: &Spec, name: &str) -> Result<Vec<BuiltFile>, SpecError> {
    spec.validate()?;
    let cluster = u64::from(spec.cluster_size);
    let entries = spec.entries();
    let blocks = sorted(&spec.blocks, spec.virtual_size.div_ceil(cluster))?;
    let mut tables: Vec<u64> = blocks.iter().map(|block| block.index / entries).collect();
    tables.dedup();
    let stored = |block: &&&Block| matches!(block.content, Content::Data(_));
    let stored: Vec<&&Block> = blocks.iter().filter(stored).collect();
    let table = u64::from(spec.table_size);
    let mut lengths = vec![table; 1 + tables.len()];
    lengths.resize(1 + tables.len() + stored.len(), 1);
    let (firsts, total) = spec.placement.arrange(&lengths, spec.header_size.into());
    ensure!(total <= MAX_CLUSTERS, "an image of {total} clusters");
    let mut store = Store::new();
    store.resize(total * cluster);
    write_header(spec, firsts[0] * cluster, &mut store);
    let (table_places, data_places) = firsts[1..].split_at(tables.len());
    for (index, first) in tables.iter().zip(table_places) {
        let at = (firsts[0] * cluster) + index * 8;
        store.write(at, &(first * cluster).to_le_bytes());
    }
    let mut data_places = data_places.iter();
    for block in &blocks {
        let entry = match &block.content {
            Content::Zero => ZERO,
            Content::Compressed(_) => {
                return Err(SpecError("QED has no compressed clusters".to_owned()));
            }
            Content::Data(pattern) => {
                let place = data_places.next().copied().unwrap_or(0) * cluster;
                store.write(place, &pattern.bytes(cluster as usize));
                place
            }
        };
        let table = tables.partition_point(|index| *index < block.index / entries);
        let at = table_places[table] * cluster + block.index % entries * 8;
        store.write(at, &entry.to_le_bytes());
    }
    Ok(vec![BuiltFile {
        name: name.to_owned(),
        bytes: store,
    }])
}

fn write_header(spec: &Spec, l1: u64, store: &mut Store) {
    let backing = spec.backing.as_ref();
    let flag = |set: bool, bit: u64| if set { bit } else { 0 };
    let features = flag(backing.is_some(), BACKING_FILE)
        | flag(spec.need_check, NEED_CHECK)
        | flag(backing.is_some_and(|backing| backing.raw), NO_PROBE);
    debug_assert_eq!(features & !KNOWN_FEATURES, 0);
    let name = backing.map_or(&[][..], |backing| backing.name.as_bytes());
    store.write(0, MAGIC);
    store.write(4, &spec.cluster_size.to_le_bytes());
    store.write(8, &spec.table_size.to_le_bytes());
    store.write(12, &spec.header_size.to_le_bytes());
    store.write(16, &features.to_le_bytes());
    store.write(24, &spec.compat_features.to_le_bytes());
    store.write(32, &spec.autoclear_features.to_le_bytes());
    store.write(40, &l1.to_le_bytes());
    store.write(48, &spec.virtual_size.to_le_bytes());
    if backing.is_some() {
        store.write(56, &(NAME_AT as u32).to_le_bytes());
        store.write(60, &(name.len() as u32).to_le_bytes());
        store.write(NAME_AT, name);
    }
}
