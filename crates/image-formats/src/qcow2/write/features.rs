//! What images can have or not.

use crate::built::Feature;
use crate::qcow2::compression::Compression;
use crate::qcow2::write::spec::{Cluster, Content, Encryption, Spec};

/// Declares [`FEATURES`], and which of them a description has, from a row for each: its name,
/// what it is, and whether a description has it.
macro_rules! features {
    ($($name:literal, $what:literal, $has:expr;)*) => {
        /// What images can have or not.
        pub const FEATURES: &[Feature] = &[$(Feature { name: $name, what: $what }),*];

        impl Spec {
            /// The features of [`FEATURES`] that the image has, by name.
            #[must_use]
            pub fn features(&self) -> Vec<&'static str> {
                let has: &[(&str, fn(&Spec) -> bool)] = &[$(($name, $has)),*];
                has.iter().filter(|(_, has)| has(self)).map(|(name, _)| *name).collect()
            }
        }
    };
}

features! {
    "version-2", "a header of version 2", |image| image.version == 2;
    "clusters-512", "clusters of 512 bytes", |image| image.cluster_bits == 9;
    "clusters-2m", "clusters of 2 MiB", |image| image.cluster_bits == 21;
    "data", "clusters with data", |image| has(image, |content| matches!(content, Content::Data(_)));
    "zero", "zero clusters", |image| has(image, |content| *content == Content::Zero);
    "zero-allocated", "zero clusters with a place for data",
        |image| has(image, |content| matches!(content, Content::ZeroAllocated(_)));
    "deflate", "clusters compressed with deflate",
        |image| is_compressed(image) && image.compression == Compression::Deflate;
    "zstd", "clusters compressed with zstd",
        |image| is_compressed(image) && image.compression == Compression::Zstd;
    "compression-type", "a header that names zstd, compressed clusters or not",
        |image| image.compression == Compression::Zstd;
    "extended-l2", "extended L2 entries", |image| image.extended_l2;
    "subclusters", "clusters of which a part is allocated or zeros",
        |image| has(image, |content| matches!(content, Content::Subclusters { .. }));
    "backing-file", "a backing file", |image| image.backing.is_some();
    "data-file", "an external data file",
        |image| image.data_file.as_ref().is_some_and(|file| !file.raw);
    "data-file-raw", "an external data file that is a raw image",
        |image| image.data_file.as_ref().is_some_and(|file| file.raw);
    "snapshots", "internal snapshots", |image| !image.snapshots.is_empty();
    "vm-state", "snapshots with the state of a machine",
        |image| image.snapshots.iter().any(|snapshot| !snapshot.vm_state.is_empty());
    "bitmaps", "persistent bitmaps", |image| !image.bitmaps.is_empty();
    "luks", "encryption with LUKS",
        |image| matches!(image.encryption, Some(Encryption::Volume(_)));
    "lazy-refcounts", "lazy refcounts", |image| image.lazy_refcounts && !image.dirty;
    "dirty", "an image that was not closed", |image| image.dirty;
    "refcount-widths", "refcounts of other than 16 bits", |image| image.refcount_order != 4;
    "feature-names", "a feature name table", |image| image.feature_names;
    "unknown-extension", "an unknown header extension", |image| !image.extensions.is_empty();
    "unknown-compatible", "an unknown compatible feature",
        |image| image.unknown_compatible != 0;
    "long-header", "a header longer than is specified", |image| image.header_length > 112;
    "partial-cluster", "a disk that ends within a cluster",
        |image| !image.virtual_size.is_multiple_of(1 << image.cluster_bits.min(21));
    "order", "structures in an unusual order", |image| !image.placement.order.is_empty();
}

/// Whether a cluster of the disk is stored so.
fn has(image: &Spec, wanted: fn(&Content) -> bool) -> bool {
    image
        .clusters
        .iter()
        .any(|cluster| wanted(&cluster.content))
}

fn is_compressed(image: &Spec) -> bool {
    let compressed = |cluster: &Cluster| matches!(cluster.content, Content::Compressed(_));
    image.clusters.iter().any(compressed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_image_has_no_features() {
        assert_eq!(Spec::default().features(), [""; 0]);
        let image = Spec {
            version: 2,
            cluster_bits: 9,
            ..Spec::default()
        };
        assert_eq!(image.features(), ["version-2", "clusters-512"]);
    }
}
