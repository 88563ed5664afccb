//! The guest's view.

use super::layout::{BAT_AT, Layout, SECTOR};
use crate::disk::{Disk, DiskError, Opening, by_unit};
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// The disk in an image.
struct ParallelsDisk {
    bytes: Store,
    layout: Layout,
}

/// Opens the disk in an image.
///
/// # Errors
///
/// The clusters have no size.
pub(super) fn open(bytes: Store, _: Opening<'_>) -> Result<Box<dyn Disk>, DiskError> {
    let layout = Layout::read(&bytes);
    if layout.tracks == 0 {
        return Err(DiskError::damaged("a cluster has 0 sectors"));
    }
    Ok(Box::new(ParallelsDisk { bytes, layout }))
}

impl Disk for ParallelsDisk {
    fn size(&self) -> u64 {
        self.layout.sectors().saturating_mul(SECTOR)
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let (size, bytes, layout) = (self.size(), &self.bytes, self.layout);
        by_unit(
            layout.cluster_size(),
            offset,
            buf,
            |cluster, within, part| {
                let at = cluster * layout.cluster_size() + within;
                let on_disk = size.saturating_sub(at).min(part.len() as u64);
                let (part, past) = part.split_at_mut(on_disk as usize);
                past.fill(0);
                if part.is_empty() {
                    return Ok(());
                }
                if cluster >= layout.bat_entries {
                    return Err(DiskError::damaged("the BAT is shorter than the disk"));
                }
                match number(bytes, BAT_AT + cluster * 4, 4, Little) {
                    0 => part.fill(0),
                    entry => bytes.read(layout.cluster_at(entry).saturating_add(within), part),
                }
                bytes.check_reads()?;
                Ok(())
            },
        )
    }
}
