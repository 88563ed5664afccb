//! The guest's view.

use super::layout::{AES, Cluster, Layout};
use crate::disk::{Disk, DiskError, Opening, by_unit, read_parent};
use crate::luks::SectorCipher;
use crate::qcow2::{Compression, expand};
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Big;

/// Bytes in a sector, the unit that is encrypted.
const SECTOR: u64 = 512;

/// The disk in an image.
struct QcowDisk {
    bytes: Store,
    layout: Layout,
    parent: Option<Box<dyn Disk>>,
    cipher: Option<SectorCipher>,
}

/// Opens the disk in an image.
///
/// # Errors
///
/// The size of clusters or tables is out of range, the backing file cannot be opened, or the
/// passphrase of an encrypted image is missing.
pub(super) fn open(bytes: Store, opening: Opening<'_>) -> Result<Box<dyn Disk>, DiskError> {
    let layout = Layout::read(&bytes);
    if !layout.has_geometry() {
        return Err(DiskError::damaged("cluster or table size is out of range"));
    }
    let cipher = match layout.crypt_method {
        0 => None,
        AES => Some(cipher(opening.passphrase().ok_or(DiskError::Locked)?)),
        other => {
            let text = format!("encryption method {other}");
            return Err(DiskError::Unsupported(text));
        }
    };
    let parent = layout.backing_name(&bytes);
    let parent = parent.map(|name| opening.parent(&name, None));
    Ok(Box::new(QcowDisk {
        parent: parent.transpose()?,
        bytes,
        layout,
        cipher,
    }))
}

/// The cipher of a passphrase, whose first bytes are the key. No passphrase is wrong.
pub(super) fn cipher(passphrase: &[u8]) -> SectorCipher {
    let mut key = [0; 16];
    for (byte, given) in key.iter_mut().zip(passphrase) {
        *byte = *given;
    }
    SectorCipher::aes_128_cbc(key)
}

impl Disk for QcowDisk {
    fn size(&self) -> u64 {
        self.layout.size - self.layout.size % SECTOR
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let size = self.size();
        let unit = self.layout.cluster_size().unwrap_or(0);
        by_unit(unit, offset, buf, |cluster, within, part| {
            let at = cluster * unit + within;
            let on_disk = size.saturating_sub(at).min(part.len() as u64);
            let (part, past) = part.split_at_mut(on_disk as usize);
            past.fill(0);
            if part.is_empty() {
                return Ok(());
            }
            match self.find(cluster)? {
                Cluster::Unallocated => read_parent(&mut self.parent, at, part)?,
                Cluster::Plain(host) => self.plain(host.saturating_add(within), at, part),
                Cluster::Compressed(host, len) => {
                    // At most 64 KiB.
                    let data = self.bytes.read_vec(host, len as usize);
                    let data = expand(&data, unit as usize, Compression::Deflate);
                    let data = data.map_err(|error| DiskError::damaged(error.to_string()))?;
                    part.copy_from_slice(&data[within as usize..][..part.len()]);
                }
            }
            self.bytes.check_reads()?;
            Ok(())
        })
    }
}

impl QcowDisk {
    /// Where a cluster of the disk is.
    fn find(&self, cluster: u64) -> Result<Cluster, DiskError> {
        let entries = self.layout.l2_entries();
        let entry = |table: u64, index: u64| {
            let at = table.checked_add(index * 8);
            let damaged = || DiskError::damaged(format!("a table at {table:#x}"));
            at.map(|at| number(&self.bytes, at, 8, Big))
                .ok_or_else(damaged)
        };
        let table = entry(self.layout.l1, cluster / entries)?;
        if table == 0 {
            return Ok(Cluster::Unallocated);
        }
        let entry = entry(table, cluster % entries)?;
        Ok(self.layout.cluster(entry))
    }

    /// Reads what is stored at byte `host` for byte `at` of the disk.
    fn plain(&self, host: u64, at: u64, part: &mut [u8]) {
        let Some(cipher) = &self.cipher else {
            return self.bytes.read(host, part);
        };
        // Whole sectors only can be decrypted; a cluster consists of them.
        let before = at % SECTOR;
        let len = (before + part.len() as u64).next_multiple_of(SECTOR);
        let host = host.saturating_sub(before);
        let mut sectors = self.bytes.read_vec(host, len as usize);
        cipher.decrypt(at - before, &mut sectors);
        part.copy_from_slice(&sectors[before as usize..][..part.len()]);
    }
}
