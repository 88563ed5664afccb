//! The guest's view.

use super::layout::{
    BatEntry, Header, Item, KNOWN, Known, Layout, MAGIC, MAX_ENTRIES, NOT_PRESENT, PARTIAL,
    PRESENT, REGION_TABLES, Region, TABLE_BYTES, UNDEFINED, UNMAPPED, UNMAPPED_DRAFT, ZERO,
    is_intact,
};
use super::locator::{Locator, VHDX_LOCATOR};
use super::log::Replay;
use crate::disk::{Disk, DiskError, Opening, by_unit, read_parent};
use crate::guid;
use crate::io::ReadAt as _;
use crate::store::Store;

/// The disk in an image.
struct VhdxDisk {
    /// The file after the log was replayed.
    bytes: Store,
    layout: Layout,
    /// Where the BAT is, and its length in bytes.
    bat: (u64, u64),
    parent: Option<Box<dyn Disk>>,
}

/// Opens the disk in an image; a log is replayed in memory.
///
/// # Errors
///
/// A structure that is needed is damaged, or the parent cannot be opened or is another one.
pub(super) fn open(source: Store, opening: Opening<'_>) -> Result<Box<dyn Disk>, DiskError> {
    let damaged = |text: &str| DiskError::damaged(text);
    if source.read_vec(0, MAGIC.len()) != MAGIC {
        return Err(damaged("the signature is missing"));
    }
    let header = Header::current(&source).ok_or_else(|| damaged("no header is current"))?;
    if header.version != 1 {
        let text = format!("version {}", header.version);
        return Err(DiskError::Unsupported(text));
    }
    let replay = Replay::of(&source);
    if let Replay::Failed(problem) = replay {
        return Err(problem.into());
    }
    let bytes = replay.bytes(&source);
    let layout = Layout::read(&bytes);
    let bat = check(&bytes, &layout)?;
    let parent = match layout.has_parent() {
        true => Some(open_parent(&bytes, &layout, opening)?),
        false => None,
    };
    Ok(Box::new(VhdxDisk {
        bytes,
        layout,
        bat,
        parent,
    }))
}

/// Where the BAT is, and its length, in an image that has all that is needed to read it.
fn check(bytes: &Store, layout: &Layout) -> Result<(u64, u64), DiskError> {
    let damaged = |text: &str| DiskError::damaged(text);
    let table = REGION_TABLES[layout.table];
    if !is_intact(bytes, (table, TABLE_BYTES), b"regi") {
        return Err(damaged("no region table is valid"));
    }
    let missing = |name: &str| damaged(&format!("there is no {name} region"));
    let bat = layout.bat.ok_or_else(|| missing("BAT"))?;
    let metadata = layout.metadata.ok_or_else(|| missing("metadata"))?;
    for region in Region::all(bytes, table, MAX_ENTRIES) {
        let known = region.guid == bat.guid || region.guid == metadata.guid;
        if !known && region.required & 1 != 0 {
            let text = format!("the region {}", guid::text(&region.guid));
            return Err(DiskError::Unsupported(text));
        }
    }
    if bytes.read_vec(metadata.offset, 8) != b"metadata" {
        return Err(damaged("the metadata table has no signature"));
    }
    for item in Item::all(bytes, metadata.offset, MAX_ENTRIES) {
        if item.known().is_none() && item.flags & 4 != 0 {
            let text = format!("the metadata item {}", guid::text(&item.guid));
            return Err(DiskError::Unsupported(text));
        }
    }
    for known in &KNOWN {
        let needed = known.item != Known::ParentLocator || layout.has_parent();
        if needed && layout.item(known.item).is_none() {
            let text = format!("there is no metadata item '{}'", known.name);
            return Err(DiskError::Damaged(text));
        }
    }
    if !layout.has_geometry() {
        return Err(damaged("block size or logical sector size is out of range"));
    }
    if layout.bat_bytes() > bat.length {
        return Err(damaged("the BAT is too small for the disk"));
    }
    Ok((bat.offset, bat.length))
}

/// Opens the first parent that is there, which must be the one that was the parent.
fn open_parent(
    bytes: &Store,
    layout: &Layout,
    opening: Opening<'_>,
) -> Result<Box<dyn Disk>, DiskError> {
    let locator = Locator::read(bytes, layout);
    let locator = locator.ok_or_else(|| DiskError::damaged("there is no parent locator"))?;
    if locator.kind != VHDX_LOCATOR {
        let text = format!("the parent locator {}", guid::text(&locator.kind));
        return Err(DiskError::Unsupported(text));
    }
    let mut missing = DiskError::damaged("the parent locator has no path");
    for path in locator.paths() {
        let file = match opening.file(&path) {
            Ok(file) => Store::over(file),
            Err(error) => {
                missing = error;
                continue;
            }
        };
        let header = Header::current(&file);
        let known = locator.linkages();
        if !header.is_some_and(|header| known.contains(&header.data_write)) {
            let name = String::from_utf8_lossy(&path);
            let text = format!("'{name}' is not the parent it was made for, or was changed");
            return Err(DiskError::Damaged(text));
        }
        return opening.parent(&path, Some("vhdx"));
    }
    Err(missing)
}

impl Disk for VhdxDisk {
    fn size(&self) -> u64 {
        self.layout.virtual_size
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let left = self.layout.virtual_size.saturating_sub(offset);
        let there = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let (buf, behind) = buf.split_at_mut(there);
        behind.fill(0);
        let block_size = self.layout.block_size;
        by_unit(block_size, offset, buf, |block, within, part| {
            self.read_block(block, within, part)
        })
    }
}

impl VhdxDisk {
    /// Reads a part of a payload block.
    fn read_block(&mut self, block: u64, within: u64, part: &mut [u8]) -> Result<(), DiskError> {
        let entry = self.entry(self.layout.payload_entry(self.bat.0, block))?;
        let at = block * self.layout.block_size + within;
        match entry.state {
            NOT_PRESENT => read_parent(&mut self.parent, at, part)?,
            UNDEFINED | ZERO | UNMAPPED | UNMAPPED_DRAFT => part.fill(0),
            PRESENT => self.read_file(entry.offset, within, part)?,
            PARTIAL if self.layout.has_parent() => {
                self.read_partial(block, entry.offset, within, part)?;
            }
            state => {
                let text = format!("block {block} has the state {state}");
                return Err(DiskError::Damaged(text));
            }
        }
        self.bytes.check_reads()?;
        Ok(())
    }

    /// The entry of the BAT at byte `at`.
    fn entry(&self, at: u64) -> Result<BatEntry, DiskError> {
        match at - self.bat.0 < self.bat.1 {
            true => Ok(BatEntry::read(&self.bytes, at)),
            false => Err(DiskError::damaged("the BAT is too small for the disk")),
        }
    }

    fn read_file(&self, block: u64, within: u64, part: &mut [u8]) -> Result<(), DiskError> {
        let at = block.saturating_add(within);
        let end = at.saturating_add(part.len() as u64);
        if block == 0 || end > self.bytes.len() {
            let text = format!("the block at {block:#x} is not within the file");
            return Err(DiskError::Damaged(text));
        }
        self.bytes.read(at, part);
        Ok(())
    }

    /// Reads a part of a block whose sectors are in this file or in the parent.
    fn read_partial(
        &mut self,
        block: u64,
        host: u64,
        within: u64,
        part: &mut [u8],
    ) -> Result<(), DiskError> {
        let layout = &self.layout;
        let chunk = block / layout.chunk_ratio();
        let bitmap = self.entry(layout.bitmap_entry(self.bat.0, chunk))?;
        if bitmap.state != PRESENT {
            let text = format!("block {block} needs a sector bitmap, which is not there");
            return Err(DiskError::Damaged(text));
        }
        let sector_size = layout.logical_sector_size;
        let first = within / sector_size;
        let end = (within + part.len() as u64).div_ceil(sector_size);
        // The bytes of the bitmap for the sectors that are read.
        let from = layout.bitmap_bytes(block).0 + first / 8;
        let count = (end.div_ceil(8) - first / 8) as usize;
        let mut bits = vec![0; count];
        self.read_file(bitmap.offset, from, &mut bits)?;
        let start = block * layout.block_size;
        by_unit(sector_size, within, part, |sector, inside, part| {
            let bit = sector - first / 8 * 8;
            let here = bits[(bit / 8) as usize] >> (bit % 8) & 1 != 0;
            let at = sector * sector_size + inside;
            match here {
                true => self.read_file(host, at, part),
                false => read_parent(&mut self.parent, start + at, part),
            }
        })
    }
}
