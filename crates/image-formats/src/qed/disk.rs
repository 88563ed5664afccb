//! The guest's view.

use super::layout::{Layout, NO_PROBE, ZERO};
use crate::disk::{Disk, DiskError, Opening, by_unit, read_parent};
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// The disk in an image.
struct QedDisk {
    bytes: Store,
    layout: Layout,
    parent: Option<Box<dyn Disk>>,
}

/// Opens the disk in an image.
///
/// # Errors
///
/// Cluster or table size are out of range, or the backing file cannot be opened.
pub(super) fn open(bytes: Store, opening: Opening<'_>) -> Result<Box<dyn Disk>, DiskError> {
    let layout = Layout::read(&bytes);
    if !layout.has_geometry() {
        return Err(DiskError::damaged("cluster or table size is out of range"));
    }
    let format = (layout.features & NO_PROBE != 0).then_some("raw");
    let parent = layout.backing_name(&bytes);
    let parent = parent.map(|name| opening.parent(&name, format));
    Ok(Box::new(QedDisk {
        parent: parent.transpose()?,
        bytes,
        layout,
    }))
}

impl Disk for QedDisk {
    fn size(&self) -> u64 {
        self.layout.image_size
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let (bytes, layout, parent) = (&self.bytes, self.layout, &mut self.parent);
        by_unit(layout.cluster_size, offset, buf, |cluster, within, part| {
            let at = cluster * layout.cluster_size + within;
            if at >= layout.image_size {
                part.fill(0);
                return Ok(());
            }
            match find(bytes, layout, cluster)? {
                0 => read_parent(parent, at, part)?,
                ZERO => part.fill(0),
                host => bytes.read(host.saturating_add(within), part),
            }
            bytes.check_reads()?;
            Ok(())
        })
    }
}

/// Byte offset of a cluster of the disk, 0 where it is not allocated, or [`ZERO`].
fn find(bytes: &Store, layout: Layout, cluster: u64) -> Result<u64, DiskError> {
    let entries = layout.entries();
    let (l1, l2) = (cluster / entries, cluster % entries);
    let entry = |table: u64, index: u64| {
        let at = table.saturating_add(index * 8);
        number(bytes, at, 8, Little)
    };
    if l1 >= entries {
        return Ok(0);
    }
    let table = entry(layout.l1, l1);
    if table == 0 {
        return Ok(0);
    }
    let aligned = |offset: u64| offset.is_multiple_of(layout.cluster_size);
    if !aligned(table) {
        let text = format!("the L2 table at {table:#x} is not cluster aligned");
        return Err(DiskError::Damaged(text));
    }
    let host = entry(table, l2);
    if host != ZERO && !aligned(host) {
        let text = format!("the cluster at {host:#x} is not cluster aligned");
        return Err(DiskError::Damaged(text));
    }
    Ok(host)
}
