//! The description of an image, and its builder.

use serde::{Deserialize, Serialize};

use super::disk::cipher;
use super::layout::{AES, COMPRESSED, HEADER_LEN, LONGEST_NAME, MAGIC};
use crate::arrange::Placement;
use crate::block::{Block, Content, sorted};
use crate::built::{BuiltFile, Feature};
use crate::qcow2::{Compression, compress};
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;

/// The description of a valid image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Bytes the guest sees, a multiple of 512, at least 512.
    pub virtual_size: u64,
    /// Binary logarithm of the bytes in a cluster, 9 to 16.
    pub cluster_bits: u8,
    /// Binary logarithm of the entries in an L2 table, 6 to 13.
    pub l2_bits: u8,
    /// What the clusters of the disk hold: data, compressed where that makes it smaller. The
    /// others are unallocated.
    pub blocks: Vec<Block>,
    /// The name of the backing file, up to 1023 bytes. Its format is not stored.
    pub backing: Option<String>,
    /// The time of the last change of the backing file, in seconds since 1970.
    pub mtime: u32,
    /// The passphrase of an encrypted image, 1 to 16 bytes; what is compressed is not encrypted,
    /// so that there is none of it then.
    pub passphrase: Option<String>,
    /// Whether the L1 table begins with a cluster of its own, and not behind the header.
    pub l1_apart: bool,
    /// Where L1 table (where it is apart), L2 tables, data clusters and compressed data go, in
    /// this natural order.
    pub placement: Placement,
}

impl Default for Spec {
    /// An empty disk of 1 MiB.
    fn default() -> Self {
        Self {
            virtual_size: 1 << 20,
            cluster_bits: 12,
            l2_bits: 9,
            blocks: Vec::new(),
            backing: None,
            mtime: 0,
            passphrase: None,
            l1_apart: false,
            placement: Placement::default(),
        }
    }
}

/// What images can have or not.
pub const FEATURES: &[Feature] = &[
    Feature::new("data", "allocated clusters"),
    Feature::new("compressed", "compressed clusters"),
    Feature::new("backing", "a backing file"),
    Feature::new("encrypted", "encryption with AES"),
    Feature::new("small-clusters", "clusters of less than 4 KiB"),
    Feature::new("large-clusters", "clusters of more than 4 KiB"),
    Feature::new("small-tables", "L2 tables that are smaller than a cluster"),
    Feature::new("large-tables", "L2 tables that are larger than a cluster"),
    Feature::new(
        "l1-apart",
        "an L1 table that is not right behind the header",
    ),
    Feature::new("gaps", "unused clusters between others"),
];

impl Spec {
    /// The features of [`FEATURES`] that the image has.
    pub(crate) fn features(&self) -> Vec<&'static str> {
        let has = |wanted: fn(&Content) -> bool| self.blocks.iter().any(|b| wanted(&b.content));
        let table_bits = self.l2_bits.saturating_add(3);
        Feature::present(&[
            ("data", has(|content| matches!(content, Content::Data(_)))),
            (
                "compressed",
                has(|content| matches!(content, Content::Compressed(_))),
            ),
            ("backing", self.backing.is_some()),
            ("encrypted", self.passphrase.is_some()),
            ("small-clusters", self.cluster_bits < 12),
            ("large-clusters", self.cluster_bits > 12),
            ("small-tables", table_bits < self.cluster_bits),
            ("large-tables", table_bits > self.cluster_bits),
            ("l1-apart", self.l1_apart),
            ("gaps", self.placement.gaps.iter().any(|gap| *gap > 0)),
        ])
    }

    fn validate(&self) -> Result<(), SpecError> {
        let (cluster, l2, size) = (self.cluster_bits, self.l2_bits, self.virtual_size);
        ensure!(
            (9..=16).contains(&cluster),
            "cluster bits {cluster}: 9 to 16"
        );
        ensure!((6..=13).contains(&l2), "L2 bits {l2}: 6 to 13");
        let allowed = size.is_multiple_of(512) && size > 0;
        ensure!(allowed, "disk size {size}: a multiple of 512, not 0");
        let entries = self.l1_entries();
        ensure!(entries <= MAX_CLUSTERS, "an L1 table of {entries} entries");
        let zero = self.blocks.iter().any(|b| b.content == Content::Zero);
        ensure!(!zero, "qcow has no zero clusters");
        let name = self.backing.as_ref().map_or(1, String::len);
        let longest = LONGEST_NAME as usize;
        ensure!(
            (1..=longest).contains(&name),
            "a backing file name of {name} bytes: 1 to {longest}"
        );
        if let Some(passphrase) = &self.passphrase {
            let len = passphrase.len();
            ensure!(
                (1..=16).contains(&len),
                "a passphrase of {len} bytes: 1 to 16"
            );
            let compressed = |block: &Block| matches!(block.content, Content::Compressed(_));
            ensure!(
                !self.blocks.iter().any(compressed),
                "compressed clusters in an encrypted image"
            );
        }
        Ok(())
    }

    fn l1_entries(&self) -> u64 {
        self.virtual_size
            .div_ceil(1 << (self.cluster_bits + self.l2_bits))
    }

    fn l2_entries(&self) -> u64 {
        1 << self.l2_bits
    }

    /// The first byte behind header and name of the backing file.
    fn behind_name(&self) -> u64 {
        let name = self.backing.as_ref().map_or(0, String::len);
        (HEADER_LEN + name as u64).next_multiple_of(8)
    }
}

/// The most clusters of an image, and entries of its L1 table.
const MAX_CLUSTERS: u64 = 1 << 20;

/// A cluster of the disk as it is stored.
enum Stored {
    /// As the number of a data cluster, with its contents.
    Plain(Vec<u8>),
    /// As bytes of the compressed data, from this one on.
    Compressed { from: u64, len: u64 },
}

/// The contents of clusters.
#[derive(Default)]
struct Contents {
    /// Each cluster: its index on the disk, and how it is stored.
    clusters: Vec<(u64, Stored)>,
    /// The compressed clusters, one after the other.
    compressed: Vec<u8>,
}

impl Contents {
    fn of(spec: &Spec) -> Result<Self, SpecError> {
        let mut all = Self::default();
        let cluster = 1_usize << spec.cluster_bits;
        let cipher = spec.passphrase.as_ref().map(|p| cipher(p.as_bytes()));
        let count = spec.virtual_size.div_ceil(cluster as u64);
        for block in sorted(&spec.blocks, count)? {
            let stored = match &block.content {
                Content::Data(pattern) => {
                    let mut data = pattern.bytes(cluster);
                    if let Some(cipher) = &cipher {
                        cipher.encrypt(block.index * cluster as u64, &mut data);
                    }
                    Stored::Plain(data)
                }
                Content::Compressed(pattern) => all.compress(pattern.bytes(cluster))?,
                Content::Zero => continue,
            };
            all.clusters.push((block.index, stored));
        }
        Ok(all)
    }

    /// Compresses a cluster, where that makes it smaller.
    fn compress(&mut self, data: Vec<u8>) -> Result<Stored, SpecError> {
        let packed = compress(&data, Compression::Deflate);
        let packed = packed.map_err(|error| SpecError(error.to_string()))?;
        if packed.len() >= data.len() {
            return Ok(Stored::Plain(data));
        }
        let from = self.compressed.len() as u64;
        let len = packed.len() as u64;
        self.compressed.extend(packed);
        Ok(Stored::Compressed { from, len })
    }
}

/// The image that `spec` describes, called `name`.
///
/// # Errors
///
/// The parts of `spec` contradict each other or the format.
pub fn build(spec: &Spec, name: &str) -> Result<Vec<BuiltFile>, SpecError> {
    spec.validate()?;
    let cluster = 1_u64 << spec.cluster_bits;
    let contents = Contents::of(spec)?;
    let entries = spec.l2_entries();
    let mut tables: Vec<u64> = contents.clusters.iter().map(|(i, _)| i / entries).collect();
    tables.dedup();
    let plain = |stored: &&(u64, Stored)| matches!(stored.1, Stored::Plain(_));
    let plain = contents.clusters.iter().filter(plain).count();
    let l1_len = spec.l1_entries() * 8;
    let mut lengths = Vec::new();
    if spec.l1_apart {
        lengths.push(l1_len.div_ceil(cluster));
    }
    lengths.extend(tables.iter().map(|_| (entries * 8).div_ceil(cluster)));
    lengths.extend((0..plain).map(|_| 1));
    lengths.push((contents.compressed.len() as u64).div_ceil(cluster));
    let front = spec.behind_name() + if spec.l1_apart { 0 } else { l1_len };
    let arranged = spec.placement.arrange(&lengths, front.div_ceil(cluster));
    let (firsts, total) = arranged;
    ensure!(total <= MAX_CLUSTERS, "an image of {total} clusters");
    let mut places = firsts.iter().map(|first| first * cluster);
    let mut place = || places.next().unwrap_or(0);
    let l1 = if spec.l1_apart {
        place()
    } else {
        spec.behind_name()
    };
    let mut store = Store::new();
    store.resize(total * cluster);
    write_header(spec, l1, &mut store);
    let table_places: Vec<u64> = tables.iter().map(|_| place()).collect();
    for (index, at) in tables.iter().zip(&table_places) {
        store.write(l1 + index * 8, &at.to_be_bytes());
    }
    let plain_places: Vec<u64> = (0..plain).map(|_| place()).collect();
    let compressed_at = place();
    store.write(compressed_at, &contents.compressed);
    let mut plain_places = plain_places.into_iter();
    for (index, stored) in &contents.clusters {
        let entry = match stored {
            Stored::Plain(data) => {
                let at = plain_places.next().unwrap_or(0);
                store.write(at, data);
                at
            }
            Stored::Compressed { from, len } => {
                COMPRESSED | len << (63 - spec.cluster_bits) | (compressed_at + from)
            }
        };
        let table = tables.partition_point(|table| *table < index / entries);
        let at = table_places[table] + index % entries * 8;
        store.write(at, &entry.to_be_bytes());
    }
    Ok(vec![BuiltFile {
        name: name.to_owned(),
        bytes: store,
    }])
}

fn write_header(spec: &Spec, l1: u64, store: &mut Store) {
    store.write(0, &MAGIC.to_be_bytes());
    store.write(4, &1_u32.to_be_bytes());
    if let Some(name) = &spec.backing {
        store.write(8, &HEADER_LEN.to_be_bytes());
        store.write(16, &(name.len() as u32).to_be_bytes());
        store.write(HEADER_LEN, name.as_bytes());
    }
    store.write(20, &spec.mtime.to_be_bytes());
    store.write(24, &spec.virtual_size.to_be_bytes());
    store.write(32, &[spec.cluster_bits, spec.l2_bits]);
    let method = if spec.passphrase.is_some() { AES } else { 0 };
    store.write(36, &(method as u32).to_be_bytes());
    store.write(40, &l1.to_be_bytes());
}
