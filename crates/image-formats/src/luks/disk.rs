//! The guest's view.

use std::sync::Arc;

use super::cipher::SECTOR;
use super::v2::Part;
use super::{PAYLOAD_NAME, v1, v2};
use crate::disk::{Disk, DiskError, Opening, by_unit};
use crate::io::{ReadAt, read_padded};
use crate::store::Store;

/// The disk in a volume.
struct Volume {
    payload: Arc<dyn ReadAt>,
    parts: Vec<Part>,
}

/// Opens the disk in a volume.
///
/// # Errors
///
/// The passphrase is missing or wrong, the header is damaged, or what it names is not known
/// here.
pub(super) fn open(bytes: Store, opening: Opening<'_>) -> Result<Box<dyn Disk>, DiskError> {
    let passphrase = opening.passphrase().ok_or(DiskError::Locked)?;
    let parts = if v2::is_version_2(&bytes) {
        v2::open(&bytes, passphrase)?
    } else {
        let cipher = v1::unlock(&bytes, 0, passphrase)?;
        vec![Part {
            offset: v1::Header::read(&bytes, 0).payload * SECTOR,
            size: None,
            first_sector: 0,
            sector_size: SECTOR,
            cipher: Some(cipher),
        }]
    };
    let payload: Arc<dyn ReadAt> = if is_detached(&bytes) {
        opening.file(PAYLOAD_NAME.as_bytes())?
    } else {
        Arc::new(bytes)
    };
    Ok(Box::new(Volume { payload, parts }))
}

/// Whether the payload is in a file of its own: it would start with the header.
pub(super) fn is_detached(bytes: &Store) -> bool {
    if v2::is_version_2(bytes) {
        v2::is_detached(bytes)
    } else {
        v1::Header::read(bytes, 0).payload == 0
    }
}

impl Volume {
    /// Bytes in a part: whole sectors, that are in the file where it says nothing else.
    fn size_of(&self, part: &Part) -> u64 {
        let left = self.payload.len().saturating_sub(part.offset);
        let size = part.size.unwrap_or(left);
        size - size % part.sector_size
    }

    fn read_part(&self, part: &Part, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let Some(cipher) = &part.cipher else {
            let at = part.offset.saturating_add(offset);
            return Ok(read_padded(&*self.payload, at, buf)?);
        };
        let mut sector = vec![0; part.sector_size as usize];
        by_unit(part.sector_size, offset, buf, |index, within, piece| {
            let start = index * part.sector_size;
            let at = part.offset.saturating_add(start);
            read_padded(&*self.payload, at, &mut sector)?;
            let tweak = part.first_sector.saturating_mul(SECTOR);
            cipher.decrypt(start.saturating_add(tweak), &mut sector);
            piece.copy_from_slice(&sector[within as usize..][..piece.len()]);
            Ok(())
        })
    }
}

impl Disk for Volume {
    fn size(&self) -> u64 {
        let sizes = self.parts.iter().map(|part| self.size_of(part));
        sizes.fold(0, u64::saturating_add)
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let (mut start, mut at, mut rest) = (0_u64, offset, buf);
        for part in &self.parts {
            let end = start.saturating_add(self.size_of(part));
            if at < end && !rest.is_empty() {
                let count = usize::try_from(end - at).unwrap_or(usize::MAX);
                let (now, later) = rest.split_at_mut(count.min(rest.len()));
                self.read_part(part, at - start, now)?;
                at = at.saturating_add(now.len() as u64);
                rest = later;
            }
            start = end;
        }
        rest.fill(0);
        Ok(())
    }
}
