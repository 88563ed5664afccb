//! The guest's view.

use super::codec::ChunkType;
use super::layout::{self, Chunk, SECTOR, TRAILER, Trailer};
use crate::disk::{Disk, DiskError, Opening};
use crate::io::ReadAt as _;
use crate::store::Store;

/// The longest chunk that is expanded, and the longest data of one, in bytes.
pub(super) const LONGEST_CHUNK: u64 = 64 << 20;

/// A chunk on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    /// Its type.
    pub(super) kind: ChunkType,
    /// First sector on the disk.
    pub(super) sector: u64,
    pub(super) sectors: u64,
    /// Byte offset of its data in the file.
    pub(super) at: u64,
    /// Bytes of data in the file.
    pub(super) len: u64,
}

impl Placed {
    /// A chunk of a table whose first sector and first byte of data are given; `None` where it
    /// is no part of the disk.
    pub(super) fn new(chunk: Chunk, (sector, data): (u64, u64)) -> Option<Self> {
        let kind = chunk.kind().filter(|kind| kind.is_data())?;
        Some(Self {
            kind,
            sector: sector.saturating_add(chunk.sector),
            sectors: chunk.sectors,
            at: data.saturating_add(chunk.offset),
            len: chunk.len,
        })
    }

    /// The sectors of a chunk.
    ///
    /// # Errors
    ///
    /// Its data is too long, outside the file, or does not expand to them.
    pub(super) fn expand(&self, bytes: &Store) -> Result<Vec<u8>, DiskError> {
        let damaged = |text: String| {
            let at = self.sector;
            DiskError::Damaged(format!("the chunk of sector {at}: {text}"))
        };
        let size = self.sectors.saturating_mul(SECTOR);
        if size > LONGEST_CHUNK || self.len > LONGEST_CHUNK {
            let text = format!("a chunk of more than {LONGEST_CHUNK} bytes");
            return Err(DiskError::Unsupported(text));
        }
        if self.kind == ChunkType::Lzma {
            return Err(DiskError::Unsupported("LZMA".to_owned()));
        }
        let there = bytes.len().saturating_sub(TRAILER);
        let end = self.at.checked_add(self.len);
        if self.kind.is_stored() && end.is_none_or(|end| end > there) {
            return Err(damaged("its data is not in the file".to_owned()));
        }
        let data = match self.kind.is_stored() {
            true => bytes.read_vec(self.at, self.len as usize),
            false => Vec::new(),
        };
        bytes.check_reads()?;
        self.kind.expand(&data, size as usize).map_err(damaged)
    }
}

/// The first sector and the first byte of data of a table.
pub(super) fn bases(trailer: Trailer, table: &layout::BlockTable) -> (u64, u64) {
    let data = trailer.data.0.saturating_add(table.number(24, 8));
    (table.number(8, 8), data)
}

/// The disk in an image.
struct DmgDisk {
    bytes: Store,
    sectors: u64,
    /// In order of their sectors.
    chunks: Vec<Placed>,
    /// The chunk that was expanded last.
    expanded: Option<(usize, Vec<u8>)>,
}

/// Opens the disk in an image.
///
/// # Errors
///
/// There is no trailer, or no block table.
pub(super) fn open(bytes: Store, _: Opening<'_>) -> Result<Box<dyn Disk>, DiskError> {
    let trailer = Trailer::read(&bytes);
    if bytes.read_vec(trailer.at, 4) != layout::MAGIC {
        return Err(DiskError::damaged("there is no trailer"));
    }
    let directory = layout::directory(&bytes);
    let sectors = directory.sectors(trailer);
    if sectors > u64::MAX / SECTOR {
        return Err(DiskError::damaged("more sectors than can be counted"));
    }
    let mut chunks: Vec<Placed> = Vec::new();
    for table in directory.used() {
        let base = bases(trailer, table);
        let placed = table.chunks().filter_map(|chunk| Placed::new(chunk, base));
        chunks.extend(placed.filter(|chunk| chunk.sectors > 0));
    }
    if chunks.is_empty() && sectors > 0 {
        return Err(DiskError::damaged("there are no chunks"));
    }
    chunks.sort_by_key(|chunk| chunk.sector);
    Ok(Box::new(DmgDisk {
        bytes,
        sectors,
        chunks,
        expanded: None,
    }))
}

impl DmgDisk {
    /// The number of the chunk that has a sector.
    fn find(&self, sector: u64) -> Result<usize, DiskError> {
        let after = self.chunks.partition_point(|chunk| chunk.sector <= sector);
        let found = after.checked_sub(1).filter(|&index| {
            let chunk = &self.chunks[index];
            sector - chunk.sector < chunk.sectors
        });
        let missing = || DiskError::Damaged(format!("no chunk has sector {sector}"));
        found.ok_or_else(missing)
    }
}

impl Disk for DmgDisk {
    fn size(&self) -> u64 {
        self.sectors * SECTOR
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() && at < self.size() {
            let index = self.find(at / SECTOR)?;
            let chunk = self.chunks[index];
            // Both are bounded by the sectors of the disk.
            let within = at - chunk.sector * SECTOR;
            let left = chunk.sectors.saturating_mul(SECTOR) - within;
            let left = left.min(self.size() - at);
            let count = usize::try_from(left).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(count.min(rest.len()));
            if chunk.kind.is_stored() {
                if self
                    .expanded
                    .as_ref()
                    .is_none_or(|(last, _)| *last != index)
                {
                    self.expanded = Some((index, chunk.expand(&self.bytes)?));
                }
                let data = self.expanded.as_ref().map_or(&[][..], |(_, data)| data);
                now.copy_from_slice(&data[within as usize..][..now.len()]);
            } else {
                now.fill(0);
            }
            at += now.len() as u64;
            rest = later;
        }
        rest.fill(0);
        Ok(())
    }
}
