//! The guest's view.

use super::layout::{GROWING, Layout, SECTOR, UNALLOCATED};
use crate::disk::{Disk, DiskError, Opening, by_unit};
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// The disk in an image.
struct BochsDisk {
    bytes: Store,
    layout: Layout,
}

/// Opens the disk in an image.
///
/// # Errors
///
/// The size of extents or bitmaps is out of range, or the image is an overlay of another one, whose
/// name it does not have.
pub(super) fn open(bytes: Store, _: Opening<'_>) -> Result<Box<dyn Disk>, DiskError> {
    let layout = Layout::read(&bytes);
    if !layout.has_geometry() {
        return Err(DiskError::damaged("extent or bitmap size is out of range"));
    }
    if bytes.read_vec(48, GROWING.len()) != GROWING {
        let text = "a redolog without its base image";
        return Err(DiskError::Unsupported(text.to_owned()));
    }
    Ok(Box::new(BochsDisk { bytes, layout }))
}

impl Disk for BochsDisk {
    fn size(&self) -> u64 {
        self.layout.disk - self.layout.disk % SECTOR
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let (size, bytes, layout) = (self.size(), &self.bytes, self.layout);
        by_unit(SECTOR, offset, buf, |sector, within, part| {
            if sector >= size / SECTOR {
                part.fill(0);
                return Ok(());
            }
            match find(bytes, layout, sector)? {
                None => part.fill(0),
                Some(at) => bytes.read(at.saturating_add(within), part),
            }
            bytes.check_reads()?;
            Ok(())
        })
    }
}

/// Byte offset of a sector of the disk, where it is allocated.
fn find(bytes: &Store, layout: Layout, sector: u64) -> Result<Option<u64>, DiskError> {
    let (extent, sector) = (sector / layout.sectors(), sector % layout.sectors());
    if extent >= layout.catalog {
        return Err(DiskError::damaged("the catalog is shorter than the disk"));
    }
    let entry = number(bytes, layout.catalog_at + extent * 4, 4, Little);
    if entry == UNALLOCATED {
        return Ok(None);
    }
    if sector / 8 >= layout.bitmap {
        return Err(DiskError::damaged("a bitmap is shorter than its extent"));
    }
    let bitmap = layout.bitmap_at(entry);
    let bits = number(bytes, bitmap.saturating_add(sector / 8), 1, Little);
    let data = bitmap.saturating_add(layout.bitmap_room() + sector * SECTOR);
    Ok((bits >> (sector % 8) & 1 == 1).then_some(data))
}
