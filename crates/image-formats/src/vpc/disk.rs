//! The guest's view.

use super::layout::{
    DIFFERENCING, DYNAMIC, DYNAMIC_COOKIE, Dynamic, FIXED, Footer, Layout, SECTOR, UNUSED,
};
use super::locator;
use crate::disk::{Disk, DiskError, Opening, by_unit, read_parent};
use crate::io::ReadAt as _;
use crate::store::Store;

/// The disk in an image.
struct VpcDisk {
    bytes: Store,
    size: u64,
    /// Where blocks are; a fixed image has none.
    dynamic: Option<Dynamic>,
    parent: Option<Box<dyn Disk>>,
}

/// Opens the disk in an image.
///
/// # Errors
///
/// Footer or dynamic header are damaged, or the parent cannot be opened or is another one.
pub(super) fn open(bytes: Store, opening: Opening<'_>) -> Result<Box<dyn Disk>, DiskError> {
    let damaged = |text: &str| DiskError::damaged(text);
    let layout = Layout::read(&bytes);
    let footer = layout.footer.filter(|footer| footer.is_valid(&bytes));
    let footer = footer.ok_or_else(|| damaged("there is no footer with the right checksum"))?;
    if footer.version >> 16 != 1 {
        let text = format!("version {}", footer.version >> 16);
        return Err(DiskError::Unsupported(text));
    }
    let size = footer.disk_size();
    let dynamic = match footer.kind {
        FIXED => None,
        DYNAMIC | DIFFERENCING => Some(sparse(&bytes, &layout, size)?),
        kind => return Err(DiskError::Damaged(format!("the type is {kind}"))),
    };
    if dynamic.is_none() && size > bytes.len().saturating_sub(SECTOR) {
        return Err(damaged("the disk is larger than the file"));
    }
    let parent = match (footer.kind, dynamic) {
        (DIFFERENCING, Some(dynamic)) => Some(open_parent(&bytes, &layout, &dynamic, opening)?),
        _ => None,
    };
    Ok(Box::new(VpcDisk {
        bytes,
        size,
        dynamic,
        parent,
    }))
}

/// The dynamic header of an image that has all that is needed to read it.
fn sparse(bytes: &Store, layout: &Layout, size: u64) -> Result<Dynamic, DiskError> {
    let damaged = |text: &str| DiskError::damaged(text);
    let missing = || damaged("there is no dynamic header");
    let dynamic = layout.dynamic.ok_or_else(missing)?;
    if bytes.read_vec(dynamic.at, 8) != DYNAMIC_COOKIE {
        return Err(missing());
    }
    if !dynamic.has_geometry() {
        return Err(damaged("the block size is out of range"));
    }
    if size > dynamic.entries.saturating_mul(dynamic.block_size) {
        return Err(damaged(
            "the block allocation table is too small for the disk",
        ));
    }
    Ok(dynamic)
}

/// Opens the first parent that is there, which must be the one that was the parent.
fn open_parent(
    bytes: &Store,
    layout: &Layout,
    dynamic: &Dynamic,
    opening: Opening<'_>,
) -> Result<Box<dyn Disk>, DiskError> {
    let mut missing = DiskError::damaged("the image does not name its parent");
    for name in locator::names(bytes, layout) {
        let file = match opening.file(&name) {
            Ok(file) => Store::over(file),
            Err(error) => {
                missing = error;
                continue;
            }
        };
        let footer: Option<Footer> = Layout::read(&file).footer;
        if footer.is_none_or(|footer| footer.uuid != dynamic.parent_uuid) {
            let name = String::from_utf8_lossy(&name);
            let text = format!("'{name}' is not the parent it was made for");
            return Err(DiskError::Damaged(text));
        }
        return opening.parent(&name, Some("vpc"));
    }
    Err(missing)
}

impl Disk for VpcDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let left = self.size.saturating_sub(offset);
        let there = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let (buf, behind) = buf.split_at_mut(there);
        behind.fill(0);
        match self.dynamic {
            None => self.bytes.read(offset, buf),
            Some(dynamic) => by_unit(dynamic.block_size, offset, buf, |block, within, part| {
                self.read_block(&dynamic, (block, within), part)
            })?,
        }
        self.bytes.check_reads()?;
        Ok(())
    }
}

impl VpcDisk {
    /// Reads a part of a block. What its bitmap does not name is in the parent, or was never
    /// written.
    fn read_block(
        &mut self,
        dynamic: &Dynamic,
        (block, within): (u64, u64),
        part: &mut [u8],
    ) -> Result<(), DiskError> {
        let start = block * dynamic.block_size;
        let entry = dynamic.entry(&self.bytes, block);
        if entry == UNUSED {
            return read_parent(&mut self.parent, start + within, part);
        }
        let bitmap = entry * SECTOR;
        let data = bitmap + dynamic.bitmap_bytes();
        if data + within + part.len() as u64 > self.bytes.len() {
            let text = format!("block {block} is not within the file");
            return Err(DiskError::Damaged(text));
        }
        let first = within / SECTOR / 8;
        let end = (within + part.len() as u64).div_ceil(SECTOR * 8);
        let bits = self.bytes.read_vec(bitmap + first, (end - first) as usize);
        by_unit(SECTOR, within, part, |sector, inside, part| {
            let bit = sector - first * 8;
            let here = bits[(bit / 8) as usize] >> (7 - bit % 8) & 1 != 0;
            let at = sector * SECTOR + inside;
            match here {
                true => {
                    self.bytes.read(data + at, part);
                    Ok(())
                }
                false => read_parent(&mut self.parent, start + at, part),
            }
        })
    }
}
