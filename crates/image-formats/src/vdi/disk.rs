//! The guest's view.

use super::layout::{DISCARDED, Layout, UNALLOCATED};
use crate::disk::{Disk, DiskError, Opening, by_unit, read_parent};
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// The disk in an image.
struct VdiDisk {
    bytes: Store,
    layout: Layout,
    parent: Option<Box<dyn Disk>>,
}

/// Opens the disk in an image.
///
/// # Errors
///
/// The size of sectors or blocks is out of range, the parent cannot be opened, or it is another
/// one, or was changed since.
pub(super) fn open(bytes: Store, opening: Opening<'_>) -> Result<Box<dyn Disk>, DiskError> {
    let layout = Layout::read(&bytes);
    if layout.version >> 16 > 1 {
        return Err(DiskError::damaged("the version is unknown"));
    }
    if !layout.has_geometry() || layout.sector_size != 512 {
        return Err(DiskError::damaged("block or sector size is out of range"));
    }
    let parent = match layout.parent_name() {
        Some(name) => {
            same_parent(layout, &Store::over(opening.file(&name)?))?;
            Some(opening.parent(&name, Some("vdi"))?)
        }
        None => None,
    };
    Ok(Box::new(VdiDisk {
        parent,
        bytes,
        layout,
    }))
}

/// The parent must be the one that the image names, as it was then.
fn same_parent(child: Layout, parent: &Store) -> Result<(), DiskError> {
    let found = Layout::read(parent);
    parent.check_reads()?;
    if found.uuid != child.link {
        return Err(DiskError::damaged("the parent has another UUID"));
    }
    if child.parent.is_some_and(|uuid| uuid != found.modified) {
        let text = "the parent was changed after the image was made";
        return Err(DiskError::damaged(text));
    }
    Ok(())
}

impl Disk for VdiDisk {
    fn size(&self) -> u64 {
        // As QEMU does; VirtualBox has made images with a part of a sector.
        let size = self.layout.disk_size;
        size.checked_next_multiple_of(512).unwrap_or(size)
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let size = self.size();
        let (bytes, layout, parent) = (&self.bytes, self.layout, &mut self.parent);
        by_unit(layout.block_size, offset, buf, |block, within, part| {
            let at = block * layout.block_size + within;
            let on_disk = size.saturating_sub(at).min(part.len() as u64);
            let (part, past) = part.split_at_mut(on_disk as usize);
            past.fill(0);
            if part.is_empty() {
                return Ok(());
            }
            if block >= layout.blocks {
                return Err(DiskError::damaged("the block map is shorter than the disk"));
            }
            match number(bytes, layout.map + block * 4, 4, Little) {
                UNALLOCATED => read_parent(parent, at, part)?,
                DISCARDED => part.fill(0),
                entry => bytes.read(layout.block_at(entry).saturating_add(within), part),
            }
            bytes.check_reads()?;
            Ok(())
        })
    }
}
