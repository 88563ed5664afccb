//! Whether the parts of a [`Spec`] fit together and into the format.

use std::collections::HashSet;

use crate::luks;
use crate::qcow2::header::{
    QEMU_MAX_CLUSTER_BITS, QEMU_MAX_L1_BYTES, QEMU_MAX_REFCOUNT_TABLE_BYTES,
};
use crate::qcow2::types::Geometry;
use crate::qcow2::write::spec::{Encryption, Spec};
use crate::spec_error::{SpecError, ensure};

/// The geometry of the image, where it can be made.
pub(super) fn validate(spec: &Spec) -> Result<Geometry, SpecError> {
    let v3 = spec.version == 3;
    ensure!(
        v3 || spec.version == 2,
        "version {} is neither 2 nor 3",
        spec.version
    );
    ensure!(
        spec.cluster_bits <= QEMU_MAX_CLUSTER_BITS,
        "cluster_bits {} is more than 21",
        spec.cluster_bits
    );
    ensure!(
        spec.refcount_order <= 6,
        "refcount_order {} is more than 6",
        spec.refcount_order
    );
    let geometry = Geometry::new(spec.cluster_bits, spec.refcount_order, spec.extended_l2);
    let Some(geometry) = geometry else {
        return Err(SpecError(format!(
            "cluster_bits {} is less than 9",
            spec.cluster_bits
        )));
    };
    ensure!(
        spec.virtual_size.is_multiple_of(512),
        "virtual_size is not a multiple of 512"
    );
    let l1 = geometry.l1_entries_for(spec.virtual_size) + u64::from(spec.extra_l1_entries);
    ensure!(
        l1 * 8 <= QEMU_MAX_L1_BYTES,
        "the L1 table of {l1} entries is longer than 32 MiB"
    );
    ensure!(
        u64::from(spec.refcount_table_clusters) << spec.cluster_bits
            <= QEMU_MAX_REFCOUNT_TABLE_BYTES,
        "the refcount table of {} clusters is longer than 8 MiB",
        spec.refcount_table_clusters
    );
    if v3 {
        let length = spec.header_length;
        ensure!(
            length >= 104 && length.is_multiple_of(8),
            "header_length {length} is not 104, 112, 120, ..."
        );
        let zstd = spec.compression.number() != 0;
        ensure!(
            !zstd || length >= 112,
            "a compression type needs a header_length of at least 112"
        );
        ensure!(
            !spec.extended_l2 || spec.cluster_bits >= 14,
            "extended L2 entries need cluster_bits of at least 14"
        );
    } else {
        let plain = spec.refcount_order == 4
            && !spec.extended_l2
            && !spec.lazy_refcounts
            && !spec.dirty
            && spec.unknown_compatible == 0
            && spec.data_file.is_none()
            && spec.bitmaps.is_empty()
            && spec.compression.number() == 0;
        ensure!(plain, "version 2 has 16-bit refcounts and no features");
    }
    validate_parts(spec)?;
    Ok(geometry)
}

fn validate_parts(spec: &Spec) -> Result<(), SpecError> {
    if let Some(backing) = &spec.backing {
        ensure!(
            (1..=1023).contains(&backing.name.len()),
            "the backing file name does not have 1 to 1023 bytes"
        );
        let raw = spec.data_file.as_ref().is_some_and(|file| file.raw);
        ensure!(
            !raw,
            "a raw external data file is incompatible with a backing file"
        );
    }
    ensure!(
        spec.data_file.is_none() || spec.snapshots.is_empty(),
        "an external data file is incompatible with snapshots"
    );
    if let Some(Encryption::Header(header)) = &spec.encryption {
        ensure!(
            header.len() as u64 >= luks::HEADER_LENGTH,
            "the LUKS header has less than 592 bytes"
        );
    }
    let mut names = HashSet::new();
    for bitmap in &spec.bitmaps {
        ensure!(
            (1..=1023).contains(&bitmap.name.len()),
            "a bitmap's name does not have 1 to 1023 bytes"
        );
        ensure!(
            (9..=31).contains(&bitmap.granularity_bits),
            "granularity_bits {} is not 9 to 31",
            bitmap.granularity_bits
        );
        ensure!(
            names.insert(&bitmap.name),
            "two bitmaps have the name '{}'",
            bitmap.name
        );
    }
    let mut ids = HashSet::new();
    for snapshot in &spec.snapshots {
        let short = |text: &str| text.len() <= usize::from(u16::MAX);
        ensure!(
            short(&snapshot.id) && short(&snapshot.name),
            "a snapshot's ID or name is longer than 65535 bytes"
        );
        ensure!(
            ids.insert(&snapshot.id),
            "two snapshots have the ID '{}'",
            snapshot.id
        );
        let extra = snapshot.extra.len();
        ensure!(
            extra == 0 || snapshot.icount.is_some(),
            "extra snapshot data needs icount before it"
        );
        ensure!(
            extra <= 1000,
            "a snapshot has more than 1024 bytes of extra data"
        );
        ensure!(
            snapshot.disk_size.is_none() || snapshot.clusters.is_some(),
            "a snapshot with disk_size needs clusters"
        );
    }
    Ok(())
}
