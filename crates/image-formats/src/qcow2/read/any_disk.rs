//! The active disk of an image as a disk of any format: the files that the image names are
//! found by their names.

use std::sync::Arc;

use crate::disk::{self, DiskError, Opening, read_parent};
use crate::io::ReadAt;
use crate::luks::{self, SectorCipher};
use crate::qcow2::header::Incompatible;
use crate::qcow2::read::guest::{Guest, GuestError, Source};
use crate::qcow2::read::layout::{Disk, Layout};
use crate::qcow2::records::{EXT_BACKING_FORMAT, EXT_DATA_FILE};
use crate::qcow2::types::GuestOffset;
use crate::store::Store;

/// The encryption method of LUKS.
const LUKS: u32 = 2;
/// The longest name that is read, in bytes.
const LONGEST_NAME: u64 = 4096;

/// The active disk, with the files that it is stored in.
struct ActiveDisk {
    bytes: Store,
    size: u64,
    cipher: Option<SectorCipher>,
    data_file: Option<Arc<dyn ReadAt>>,
    parent: Option<Box<dyn disk::Disk>>,
}

/// An image as it is now, whatever it was when it was opened.
struct Image<'a> {
    bytes: &'a Store,
    layout: Layout,
}

impl<'a> Image<'a> {
    fn of(bytes: &'a Store) -> Self {
        Self {
            bytes,
            layout: Layout::read(bytes),
        }
    }
}

/// Opens the active disk of the image in `bytes`.
///
/// # Errors
///
/// A file that it names is missing, or the image is encrypted and cannot be unlocked.
pub(crate) fn open_disk(
    bytes: &Store,
    opening: Opening<'_>,
) -> Result<Box<dyn disk::Disk>, DiskError> {
    let image = &Image::of(bytes);
    let header = &image.layout.header;
    let cipher = cipher(image, opening)?;
    let external = header.incompatible.contains(Incompatible::DATA_FILE);
    let data_file = match extension(image, EXT_DATA_FILE).filter(|_| external) {
        Some(name) => Some(opening.file(&name)?),
        None => None,
    };
    let parent = match backing_name(image) {
        Some(name) => {
            let format = extension(image, EXT_BACKING_FORMAT);
            let format = format.map(|name| String::from_utf8_lossy(&name).into_owned());
            Some(opening.parent(&name, format.as_deref())?)
        }
        None => None,
    };
    Ok(Box::new(ActiveDisk {
        bytes: image.bytes.clone(),
        size: header.size,
        cipher,
        data_file,
        parent,
    }))
}

/// What decrypts the data of an encrypted image.
fn cipher(image: &Image<'_>, opening: Opening<'_>) -> Result<Option<SectorCipher>, DiskError> {
    let layout = &image.layout;
    let passphrase = match layout.header.crypt_method {
        0 => return Ok(None),
        LUKS => opening.passphrase().ok_or(DiskError::Locked)?,
        method => {
            let text = format!("encryption method {method}");
            return Err(DiskError::Unsupported(text));
        }
    };
    let header = layout.luks_header();
    let header = header.ok_or_else(|| DiskError::damaged("there is no LUKS header"))?;
    luks::unlock(image.bytes, header.offset, passphrase).map(Some)
}

/// The names of the files that the image in `bytes` refers to, the backing file's last.
pub(crate) fn references(bytes: &Store) -> Vec<Vec<u8>> {
    let image = &Image::of(bytes);
    let external = image.layout.header.incompatible;
    let external = external.contains(Incompatible::DATA_FILE);
    let data_file = extension(image, EXT_DATA_FILE).filter(|_| external);
    data_file.into_iter().chain(backing_name(image)).collect()
}

fn backing_name(image: &Image<'_>) -> Option<Vec<u8>> {
    let header = &image.layout.header;
    let (at, len) = (header.backing_file_offset, header.backing_file_size);
    (at != 0 && len != 0).then(|| name(image, at, len.into()))
}

/// The data of the last header extension of a type, where it has any.
fn extension(image: &Image<'_>, kind: u32) -> Option<Vec<u8>> {
    let mut all = image.layout.extensions.iter().rev();
    let found = all.find(|extension| extension.kind == kind)?;
    let data = name(image, found.offset.saturating_add(8), found.present);
    (!data.is_empty()).then_some(data)
}

fn name(image: &Image<'_>, at: u64, len: u64) -> Vec<u8> {
    let len = usize::try_from(len.min(LONGEST_NAME)).unwrap_or(0);
    image.bytes.read_vec(at, len)
}

impl disk::Disk for ActiveDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let data_file = self.data_file.as_deref();
        let mut guest = Guest::new(&self.bytes, Disk::Active, data_file, None)?;
        if let Some(cipher) = &self.cipher {
            guest.unlock(cipher.clone());
        }
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = offset.checked_add(done as u64) else {
                buf[done..].fill(0);
                break;
            };
            let extent = guest.extent(GuestOffset(at))?;
            let count = usize::try_from(extent.len).unwrap_or(usize::MAX);
            let part = &mut buf[done..];
            let count = count.clamp(1, part.len());
            let part = &mut part[..count];
            match extent.source {
                Source::Unallocated => read_parent(&mut self.parent, at, part)?,
                _ => guest.read(GuestOffset(at), part)?,
            }
            done += count;
        }
        if let Some(past) = (offset.saturating_add(buf.len() as u64)).checked_sub(self.size) {
            let kept = buf.len() - usize::try_from(past).unwrap_or(0).min(buf.len());
            buf[kept..].fill(0);
        }
        Ok(())
    }
}

impl From<GuestError> for DiskError {
    fn from(error: GuestError) -> Self {
        match error {
            GuestError::Read(error) => Self::Read(error),
            other => Self::Damaged(other.to_string()),
        }
    }
}
