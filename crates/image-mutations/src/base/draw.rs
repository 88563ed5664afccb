//! Drawing a base image: every feature, in every sensible combination.

use image_formats::luks::Volume;
use image_formats::qcow2::{
    Backing, Bitmap, BitmapCluster, Cluster, Compression, Content, DataFile, Encryption, Extension,
    Pattern, Placement, Snapshot, Spec,
};

use super::{BACKING_FILE, BackingFile, Base, DATA_FILE, PASSPHRASE, Qcow2Base};
use crate::rng::Rng;

/// Cluster sizes and how often each is drawn. Small clusters make small images,
/// which are quick to make and put every structure close to every other.
const CLUSTER_BITS: [(u32, u64); 8] = [
    (9, 32),
    (10, 8),
    (12, 28),
    (13, 3),
    (14, 12),
    (16, 15),
    (18, 1),
    (21, 1),
];

/// A random valid base image.
pub fn draw(rng: &mut Rng) -> Base {
    let version = if rng.chance(82) { 3 } else { 2 };
    let newest = version == 3;
    let weights = CLUSTER_BITS.map(|(_, weight)| weight);
    let mut cluster_bits = CLUSTER_BITS[rng.weighted(&weights).unwrap_or(0)].0;
    let extended_l2 = newest && rng.chance(18);
    if extended_l2 {
        cluster_bits = if rng.chance(80) { 14 } else { 16 };
    }
    let mut image = Spec {
        version,
        cluster_bits,
        refcount_order: if newest && rng.chance(45) {
            rng.between(0, 6) as u32
        } else {
            4
        },
        virtual_size: virtual_size(cluster_bits, rng),
        header_length: if rng.chance(85) { 112 } else { 104 },
        compression: if newest && rng.chance(25) {
            Compression::Zstd
        } else {
            Compression::Deflate
        },
        extended_l2,
        lazy_refcounts: newest && rng.chance(15),
        feature_names: newest && rng.chance(30),
        extra_l1_entries: match rng.below(20) {
            0..=2 => rng.between(1, 4) as u32,
            // A table of several clusters.
            3..=4 => rng.between(1, 3) as u32 * (1 << (cluster_bits - 3)),
            _ => 0,
        },
        refcount_table_clusters: if rng.chance(20) {
            rng.between(2, 4) as u32
        } else {
            1
        },
        placement: placement(rng),
        ..Spec::default()
    };
    if image.compression == Compression::Zstd {
        image.header_length = 112;
    }
    if rng.chance(12) {
        image.extensions.push(Extension {
            kind: 0x7e57_7e57,
            data: Pattern::Count(rng.below(256)).bytes(rng.below(40) as usize),
        });
    }
    if newest && rng.chance(12) {
        image.data_file = Some(DataFile {
            name: Some(DATA_FILE.into()),
            raw: rng.chance(50),
        });
    }
    seldom_used(&mut image, rng);
    let backing = backing(&mut image, rng);
    clusters(&mut image, rng);
    snapshots(&mut image, rng);
    bitmaps(&mut image, rng);
    // The smallest clusters have no room for the feature names and much else.
    let crowded = backing.is_some()
        || image.data_file.is_some()
        || !image.bitmaps.is_empty()
        || !image.extensions.is_empty()
        || image.header_length > 112;
    image.feature_names &= image.cluster_bits > 9 || !crowded;
    Base::Qcow2(Qcow2Base { image, backing })
}

/// Seldom used features: encryption, a longer header than is specified, refcounts that are
/// to be rebuilt.
fn seldom_used(image: &mut Spec, rng: &mut Rng) {
    if image.version == 2 {
        return;
    }
    let raw_data = image.data_file.as_ref().is_some_and(|file| file.raw);
    // With smaller clusters the LUKS header takes hundreds of them.
    if image.cluster_bits >= 12 && !raw_data && rng.chance(10) {
        image.encryption = Some(Encryption::Volume(Volume {
            passphrase: PASSPHRASE.into(),
            iterations: 1,
            seed: rng.below(1 << 16),
        }));
    }
    if image.header_length == 112 && rng.chance(8) {
        image.header_length += 8 * rng.between(1, 4) as u32;
        image.header_tail = vec![rng.bits() as u8, 0, 0xff];
    }
    if rng.chance(6) {
        image.unknown_compatible = 1 << rng.between(1, 63);
    }
    image.dirty = image.lazy_refcounts && rng.chance(20);
}

/// A disk of some clusters, sometimes with a partial last one.
fn virtual_size(cluster_bits: u32, rng: &mut Rng) -> u64 {
    let cluster = 1_u64 << cluster_bits;
    let clusters = match rng.below(10) {
        0 => 1,
        1..=5 => rng.between(2, 24),
        6..=8 => rng.between(24, 160),
        _ => rng.between(160, 700),
    };
    let size = clusters.min(((16 << 20) / cluster).max(2)) * cluster;
    if rng.chance(22) {
        (size - rng.below(cluster / 512) * 512).max(512)
    } else {
        size
    }
}

/// The natural order of the structures, or another, with free clusters between.
fn placement(rng: &mut Rng) -> Placement {
    let mut placement = Placement::default();
    if rng.chance(40) {
        placement.order = (0..8).collect();
        rng.shuffle(&mut placement.order);
    }
    if rng.chance(20) {
        placement.gaps = (0..5).map(|_| rng.below(3) as u8).collect();
    }
    placement
}

/// A backing file, for some images.
fn backing(image: &mut Spec, rng: &mut Rng) -> Option<BackingFile> {
    let raw_data = image.data_file.as_ref().is_some_and(|file| file.raw);
    if raw_data || !rng.chance(35) {
        return None;
    }
    let size = match rng.below(4) {
        0 => image.virtual_size / 2,
        1 => image.virtual_size + 65536,
        _ => image.virtual_size,
    };
    let file = BackingFile {
        qcow2: rng.chance(50),
        virtual_size: (size - size % 512).clamp(512, 4 << 20),
    };
    image.backing = Some(Backing {
        name: BACKING_FILE.into(),
        format: rng.chance(80).then(|| file.format().into()),
    });
    Some(file)
}

/// Gives the disk up to a dozen clusters, mostly near its start and end.
fn clusters(image: &mut Spec, rng: &mut Rng) {
    let count = image.virtual_size.div_ceil(1 << image.cluster_bits);
    let most = match image.cluster_bits {
        0..=13 => 12,
        14 => 6,
        15..=16 => 3,
        _ => 1,
    };
    let mut places: Vec<u64> = (0..rng.between(0, most))
        .map(|_| match rng.below(4) {
            0 => count - 1 - rng.below(count.min(3)),
            1 => rng.below(count),
            _ => rng.below(count.min(12)),
        })
        .collect();
    places.sort_unstable();
    places.dedup();
    for index in places {
        let content = content(image, rng);
        image.clusters.push(Cluster { index, content });
    }
}

/// Contents that the image's version and features allow.
fn content(image: &Spec, rng: &mut Rng) -> Content {
    let newest = image.version == 3;
    let weights = [
        50,
        if newest { 12 } else { 0 },
        if newest { 10 } else { 0 },
        if image.data_file.is_some() || image.encryption.is_some() {
            0
        } else {
            25
        },
        if image.extended_l2 { 60 } else { 0 },
    ];
    let pattern = Pattern::Fill(rng.between(1, 255) as u8);
    match rng.weighted(&weights) {
        Some(1) => Content::Zero,
        Some(2) => Content::ZeroAllocated(pattern),
        Some(3) => Content::Compressed(Pattern::Count(rng.below(256))),
        Some(4) => {
            let allocated = (rng.bits() & rng.bits()) as u32;
            Content::Subclusters {
                allocated,
                zero: rng.bits() as u32 & !allocated,
                pattern: (allocated != 0 || rng.chance(30)).then_some(pattern),
            }
        }
        _ if rng.chance(15) => Content::Data(Pattern::Noise(rng.below(256))),
        _ => Content::Data(pattern),
    }
}

/// Up to three snapshots: of the active disk, of an empty one, of a mixture.
fn snapshots(image: &mut Spec, rng: &mut Rng) {
    // Refcounts of one bit cannot count a shared cluster, of two bits few.
    if image.data_file.is_some() || image.refcount_order < 3 || !rng.chance(35) {
        return;
    }
    for number in 1..=rng.between(1, 3) {
        let clusters = match rng.below(4) {
            0 => Some(Vec::new()),
            1 => Some(
                image
                    .clusters
                    .iter()
                    .take(3)
                    .map(|cluster| Cluster {
                        index: cluster.index,
                        content: Content::Data(Pattern::Fill(number as u8)),
                    })
                    .collect(),
            ),
            _ => None,
        };
        // A snapshot with its own clusters may have its own disk size.
        let cluster = 1 << image.cluster_bits;
        let disk_size = match (&clusters, rng.below(4)) {
            (Some(own), 0) if own.is_empty() => {
                Some((image.virtual_size / 2).next_multiple_of(512))
            }
            (Some(_), 1) => Some(image.virtual_size + cluster),
            _ => None,
        };
        let icount = rng.chance(40).then_some(u64::MAX);
        image.snapshots.push(Snapshot {
            id: number.to_string(),
            name: format!("snap{number}"),
            icount,
            // Extra data longer than is specified.
            extra: if icount.is_some() && rng.chance(25) {
                vec![1; rng.between(1, 24) as usize]
            } else {
                Vec::new()
            },
            disk_size,
            vm_state: if rng.chance(15) {
                vec![7; 600]
            } else {
                Vec::new()
            },
            clusters,
            ..Snapshot::default()
        });
    }
}

/// Up to two bitmaps. The largest clusters are drawn seldom, and so have them more
/// often: coarse granularities with them are a case to cover.
fn bitmaps(image: &mut Spec, rng: &mut Rng) {
    let often = if image.cluster_bits == 21 { 80 } else { 28 };
    if image.version != 3 || !rng.chance(often) {
        return;
    }
    for number in 1..=rng.between(1, 2) {
        let clusters = match rng.below(4) {
            0 => Vec::new(),
            1 => vec![BitmapCluster::Ones],
            _ => vec![BitmapCluster::Data(Pattern::Fill(rng.bits() as u8))],
        };
        image.bitmaps.push(Bitmap {
            name: format!("bitmap{number}"),
            granularity_bits: if rng.chance(25) {
                image.cluster_bits as u8
            } else {
                rng.between(9, 18) as u8
            },
            enabled: rng.chance(50),
            in_use: rng.chance(10),
            clusters,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drawn_base_can_be_made() {
        let mut rng = Rng::from_text("bases");
        for _ in 0..600 {
            let base = draw(&mut rng);
            if let Err(why) = crate::base::prepare(&base) {
                panic!("{why:#}\n{}", serde_json::to_string(&base).unwrap());
            }
        }
    }
}
