//! The base images of the sweep of qcow2: fixed ones that together have every feature.

use image_formats::luks::Volume;
use image_formats::qcow2::{
    Backing, Bitmap, BitmapCluster, Cluster, Compression, Content, DataFile, Encryption, Extension,
    Pattern, Placement, Snapshot, Spec,
};

use image_mutations::base::{BACKING_FILE, BackingFile, Base, DATA_FILE, PASSPHRASE, Qcow2Base};

/// A base image with the name that rows of the sweep and its list have for it.
pub struct NamedBase {
    /// The name.
    pub name: String,
    /// What it consists of.
    pub base: Base,
}

/// Those of qcow2. Those that the first rows use come first.
pub fn bases() -> Vec<NamedBase> {
    vec![
        named("plain", plain(14)),
        named("snapshots", snapshots()),
        named("bitmaps", bitmaps()),
        named("extended-l2", extended_l2()),
        named("backing", backing()),
        named("luks", luks()),
        named("wide-refcounts", wide_refcounts()),
        named("compressed", compressed()),
        named("data-file", data_file()),
        named("version-2", version_2()),
        named("small-clusters", small_clusters()),
        named("features", features()),
        named("large-snapshots", large_snapshots()),
    ]
}

fn named(name: &'static str, image: Spec) -> NamedBase {
    let backing = image.backing.as_ref().map(|backing| BackingFile {
        qcow2: backing.format.as_deref() == Some("qcow2"),
        virtual_size: image.virtual_size.min(1 << 20),
    });
    NamedBase {
        name: name.to_owned(),
        base: Qcow2Base { image, backing }.into(),
    }
}

fn data(index: u64) -> Cluster {
    cluster(index, Content::Data(Pattern::Fill(index as u8 + 1)))
}

fn cluster(index: u64, content: Content) -> Cluster {
    Cluster { index, content }
}

/// Two clusters of data, zero clusters with and without a host cluster, and room for more
/// in the L2 table and outside of it. There are free clusters between the parts.
fn plain(cluster_bits: u32) -> Spec {
    let per_table = 1 << (cluster_bits - 3);
    Spec {
        cluster_bits,
        virtual_size: (3 * per_table) << cluster_bits,
        clusters: vec![
            data(0),
            data(1),
            cluster(2, Content::Zero),
            cluster(3, Content::ZeroAllocated(Pattern::Fill(7))),
            data(per_table),
        ],
        placement: Placement {
            order: Vec::new(),
            gaps: vec![0, 0, 1, 0, 1],
        },
        ..Spec::default()
    }
}

/// Two snapshots: one of the active disk, one with clusters and a machine's state of its own.
fn snapshots() -> Spec {
    let mut image = plain(12);
    image.virtual_size = 1 << 20;
    image.clusters.truncate(4);
    image.snapshots = vec![
        Snapshot {
            icount: Some(u64::MAX),
            ..Snapshot::default()
        },
        Snapshot {
            id: "2".into(),
            name: "other".into(),
            icount: Some(1),
            extra: vec![1; 8],
            disk_size: Some(1 << 20),
            vm_state: vec![9; 600],
            clusters: Some(vec![data(0), cluster(1, Content::Shared), data(4)]),
            ..Snapshot::default()
        },
    ];
    image
}

/// A snapshot in an image of large clusters, whose tables may be off by whole cache entries.
fn large_snapshots() -> Spec {
    let mut image = plain(14);
    image.virtual_size = 4 << 20;
    image.clusters.truncate(4);
    image.snapshots.push(Snapshot::default());
    image
}

/// Two bitmaps, one of them with several clusters of data.
fn bitmaps() -> Spec {
    let bitmap = |name: &str, granularity_bits, clusters| Bitmap {
        name: name.into(),
        granularity_bits,
        enabled: true,
        in_use: false,
        clusters,
    };
    let stored = BitmapCluster::Data(Pattern::Fill(0x55));
    Spec {
        cluster_bits: 12,
        virtual_size: 40 << 20,
        clusters: vec![data(0), data(3)],
        bitmaps: vec![
            bitmap(
                "first",
                9,
                vec![stored.clone(), BitmapCluster::Ones, stored],
            ),
            bitmap("second", 16, vec![BitmapCluster::Ones]),
        ],
        ..Spec::default()
    }
}

/// L2 entries with subclusters of every kind.
fn extended_l2() -> Spec {
    let subclusters = |allocated, zero, pattern| Content::Subclusters {
        allocated,
        zero,
        pattern,
    };
    let fill = Some(Pattern::Fill(5));
    Spec {
        cluster_bits: 14,
        virtual_size: 4 << 20,
        extended_l2: true,
        clusters: vec![
            data(0),
            cluster(1, subclusters(0xf0f0, 0xf, fill.clone())),
            cluster(2, subclusters(0, 0xff, None)),
            cluster(3, subclusters(0, 0, fill)),
            cluster(4, Content::Compressed(Pattern::Count(1))),
        ],
        ..Spec::default()
    }
}

/// A backing file with its format, and unallocated clusters over it.
fn backing() -> Spec {
    Spec {
        cluster_bits: 12,
        clusters: vec![data(1), cluster(2, Content::Zero)],
        backing: Some(Backing {
            name: BACKING_FILE.into(),
            format: Some("raw".into()),
        }),
        ..Spec::default()
    }
}

fn luks() -> Spec {
    Spec {
        cluster_bits: 12,
        clusters: vec![data(0), cluster(2, Content::Zero)],
        encryption: Some(Encryption::Volume(Volume {
            passphrase: PASSPHRASE.into(),
            iterations: 1,
            seed: 1,
        })),
        ..Spec::default()
    }
}

/// Refcounts of 64 bits: a refcount table of several clusters with many blocks, and an L1
/// table of several clusters.
fn wide_refcounts() -> Spec {
    Spec {
        cluster_bits: 9,
        refcount_order: 6,
        refcount_table_clusters: 3,
        virtual_size: 8 << 20,
        clusters: vec![data(0), data(1), data(65), data(16_000)],
        placement: Placement {
            order: vec![1, 3, 0, 2],
            gaps: vec![0, 30, 2],
        },
        ..Spec::default()
    }
}

fn compressed() -> Spec {
    let stream = |index, first| cluster(index, Content::Compressed(Pattern::Count(first)));
    Spec {
        cluster_bits: 16,
        virtual_size: 2 << 20,
        clusters: vec![stream(0, 0), stream(1, 9), data(2)],
        ..Spec::default()
    }
}

fn data_file() -> Spec {
    Spec {
        cluster_bits: 16,
        clusters: vec![data(0), cluster(1, Content::Zero)],
        data_file: Some(DataFile {
            name: Some(DATA_FILE.into()),
            raw: false,
        }),
        ..Spec::default()
    }
}

fn version_2() -> Spec {
    Spec {
        version: 2,
        cluster_bits: 12,
        clusters: vec![
            data(0),
            data(1),
            cluster(2, Content::Compressed(Pattern::Count(4))),
        ],
        backing: Some(Backing {
            name: BACKING_FILE.into(),
            format: Some("qcow2".into()),
        }),
        ..Spec::default()
    }
}

/// The smallest clusters, with refcounts of one bit.
fn small_clusters() -> Spec {
    Spec {
        cluster_bits: 9,
        refcount_order: 0,
        virtual_size: 200_704,
        clusters: vec![data(0), data(1), cluster(2, Content::Zero), data(300)],
        ..Spec::default()
    }
}

/// Header extensions and feature bits of all kinds, and zstd.
fn features() -> Spec {
    Spec {
        cluster_bits: 12,
        refcount_order: 5,
        header_length: 120,
        header_tail: vec![1],
        compression: Compression::Zstd,
        lazy_refcounts: true,
        dirty: true,
        unknown_compatible: 1 << 40,
        feature_names: true,
        extensions: vec![Extension {
            kind: 0x7e57_7e57,
            data: vec![1; 20],
        }],
        clusters: vec![
            cluster(0, Content::Compressed(Pattern::Count(3))),
            data(1),
            cluster(2, Content::Zero),
        ],
        ..Spec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image_mutations::base::prepare;

    #[test]
    fn each_can_be_made_and_together_they_have_every_feature() {
        let bases = bases();
        for NamedBase { name, base } in &bases {
            if let Err(why) = prepare(base) {
                panic!("{name}: {why:#}");
            }
        }
        let any = |has: fn(&Spec) -> bool| {
            bases
                .iter()
                .any(|named| has(&named.base.qcow2().unwrap().image))
        };
        assert!(any(|image| image.version == 2));
        assert!(any(|image| image.encryption.is_some()));
        assert!(any(|image| image.extended_l2));
        assert!(any(|image| image.data_file.is_some()));
        assert!(any(|image| image.backing.is_some()));
        assert!(any(|image| !image.snapshots.is_empty()));
        assert!(any(|image| !image.bitmaps.is_empty()));
        assert!(any(|image| image.compression == Compression::Zstd));
        assert!(any(|image| image.feature_names && image.dirty));
        let first = &bases[..12];
        assert!(first.iter().any(|named| named.name == "features"));
    }
}
