//! The guest's view.

use flate2::{Decompress, FlushDecompress, Status};

use super::layout::{LARGEST_BLOCK, Layout};
use crate::disk::{Disk, DiskError, Opening, by_unit};
use crate::store::Store;

/// The longest compressed block that is read.
pub(super) const LONGEST_BLOCK: u64 = 2 * LARGEST_BLOCK;

/// The disk in an image.
struct CloopDisk {
    bytes: Store,
    layout: Layout,
    /// The block that was read last: its number, and what it holds.
    last: Option<(u64, Vec<u8>)>,
}

/// Opens the disk in an image.
///
/// # Errors
///
/// The size of blocks is out of range.
pub(super) fn open(bytes: Store, _: Opening<'_>) -> Result<Box<dyn Disk>, DiskError> {
    let layout = Layout::read(&bytes);
    if !layout.has_geometry() {
        return Err(DiskError::damaged("the block size is out of range"));
    }
    Ok(Box::new(CloopDisk {
        bytes,
        layout,
        last: None,
    }))
}

impl Disk for CloopDisk {
    fn size(&self) -> u64 {
        self.layout.blocks * self.layout.block_size
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let (bytes, layout, last) = (&self.bytes, self.layout, &mut self.last);
        by_unit(layout.block_size, offset, buf, |block, within, part| {
            if block >= layout.blocks {
                part.fill(0);
                return Ok(());
            }
            let data = match last.take() {
                Some((number, data)) if number == block => data,
                _ => read_block(bytes, layout, block)?,
            };
            part.copy_from_slice(&data[within as usize..][..part.len()]);
            *last = Some((block, data));
            Ok(())
        })
    }
}

/// What block `index` of the disk holds: as many bytes as a block has.
///
/// # Errors
///
/// Its place or its data are damaged.
pub(super) fn read_block(bytes: &Store, layout: Layout, index: u64) -> Result<Vec<u8>, DiskError> {
    let (begin, end) = layout.block(bytes, index);
    let damaged = |text: &str| DiskError::Damaged(format!("block {index} {text}"));
    let len = end.checked_sub(begin);
    let len = len.ok_or_else(|| damaged("ends before it begins"))?;
    let inside = len <= LONGEST_BLOCK && end <= crate::io::ReadAt::len(bytes);
    if !inside {
        return Err(damaged("is too long, or ends behind the end of the file"));
    }
    let packed = bytes.read_vec(begin, len as usize);
    bytes.check_reads()?;
    // Grows as data comes, since a few bytes can claim to be a large block.
    let size = layout.block_size as usize;
    let mut data = Vec::new();
    let mut stream = Decompress::new(true);
    loop {
        data.reserve((size + 1 - data.len()).min(1 << 16));
        let before = (stream.total_in(), stream.total_out());
        let input = &packed[stream.total_in() as usize..];
        let status = stream.decompress_vec(input, &mut data, FlushDecompress::None);
        let status = status.map_err(|_| damaged("is not the data of zlib"))?;
        if status == Status::StreamEnd && data.len() == size {
            return Ok(data);
        }
        let stuck = (stream.total_in(), stream.total_out()) == before;
        if status == Status::StreamEnd || stuck || data.len() > size {
            return Err(damaged("does not expand to the size of a block"));
        }
    }
}
