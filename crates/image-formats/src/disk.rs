//! The guest's view of an image of any format: what a read of the disk returns.

use std::sync::Arc;

use crate::io::{ReadAt, ReadError};

/// The files that an image refers to: extents, parents, data files.
pub trait Files {
    /// The file that the image has this name for; `None` where there is none.
    fn file(&self, name: &[u8]) -> Option<Arc<dyn ReadAt>>;
}

/// No files.
impl Files for () {
    fn file(&self, _: &[u8]) -> Option<Arc<dyn ReadAt>> {
        None
    }
}

/// Files by their names.
impl Files for Vec<(String, Arc<dyn ReadAt>)> {
    fn file(&self, name: &[u8]) -> Option<Arc<dyn ReadAt>> {
        let found = self.iter().find(|(known, _)| known.as_bytes() == name)?;
        Some(Arc::clone(&found.1))
    }
}

/// What is needed to read a disk besides the image.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    /// The files that it refers to.
    pub files: &'a dyn Files,
    /// What unlocks it, where it is encrypted.
    pub passphrase: Option<&'a [u8]>,
}

impl<'a> Access<'a> {
    /// With these files, and no passphrase.
    #[must_use]
    pub fn to(files: &'a dyn Files) -> Self {
        Self {
            files,
            passphrase: None,
        }
    }

    /// With this passphrase.
    #[must_use]
    pub fn unlocked_by(self, passphrase: &'a [u8]) -> Self {
        Self {
            passphrase: Some(passphrase),
            ..self
        }
    }
}

/// How an image of any format is opened as a disk: its bytes, and the name of its format,
/// without which it is recognised by its signature, or else raw.
pub(crate) type OpenAny =
    fn(Arc<dyn ReadAt>, Option<&str>, Opening<'_>) -> Result<Box<dyn Disk>, DiskError>;

/// A disk that is being opened.
#[derive(Clone, Copy)]
pub(crate) struct Opening<'a> {
    access: Access<'a>,
    open: OpenAny,
    /// How many more parents are followed.
    depth: u32,
}

impl<'a> Opening<'a> {
    /// The most parents that are followed, one after the other.
    const MOST_PARENTS: u32 = 16;

    /// The disk of an image that is no parent of another.
    pub(crate) fn new(access: Access<'a>, open: OpenAny) -> Self {
        let depth = Self::MOST_PARENTS;
        Self {
            access,
            open,
            depth,
        }
    }

    /// What unlocks it.
    pub(crate) fn passphrase(&self) -> Option<&'a [u8]> {
        self.access.passphrase
    }

    /// The file of that name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) fn file(&self, name: &[u8]) -> Result<Arc<dyn ReadAt>, DiskError> {
        let missing = || DiskError::NoFile(String::from_utf8_lossy(name).into_owned());
        self.access.files.file(name).ok_or_else(missing)
    }

    /// The disk in the file of that name, of the format of that name. Without one it is
    /// recognised by its signature, or raw.
    ///
    /// # Errors
    ///
    /// There is no such file, it is damaged, or too many parents were followed.
    pub(crate) fn parent(
        mut self,
        name: &[u8],
        format: Option<&str>,
    ) -> Result<Box<dyn Disk>, DiskError> {
        self.depth = self.depth.checked_sub(1).ok_or(DiskError::TooManyParents)?;
        (self.open)(self.file(name)?, format, self)
    }
}

/// A disk as the guest sees it.
pub trait Disk: Send {
    /// Bytes on the disk.
    fn size(&self) -> u64;

    /// Reads from byte `offset` of the disk on; what is past its end reads as zeros.
    ///
    /// # Errors
    ///
    /// The tables or the data are damaged there, or a file cannot be read.
    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError>;
}

/// Why a disk, or a part of it, cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The image refers to a file that is not there.
    #[error("the image refers to '{0}', which is not there")]
    NoFile(String),
    /// The image has more parents than are followed, or is its own parent.
    #[error("more than {} parents", Opening::MOST_PARENTS)]
    TooManyParents,
    /// The disk is encrypted, and the passphrase is missing or wrong.
    #[error("the passphrase is missing or wrong")]
    Locked,
    /// A feature of the format that is not read here.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The structure of the image is damaged, or is no image of the format.
    #[error("the image is damaged: {0}")]
    Damaged(String),
}

impl DiskError {
    /// The structure is damaged as `text` says.
    pub(crate) fn damaged(text: impl Into<String>) -> Self {
        Self::Damaged(text.into())
    }
}

/// Raw bytes as a disk: a raw parent, or a flat extent.
pub(crate) struct RawDisk {
    /// The bytes.
    pub(crate) bytes: Arc<dyn ReadAt>,
}

impl Disk for RawDisk {
    fn size(&self) -> u64 {
        self.bytes.len()
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        Ok(crate::io::read_padded(&*self.bytes, offset, buf)?)
    }
}

/// Reads from `parent`, or zeros where there is none or it has ended.
///
/// # Errors
///
/// Those of the parent.
pub(crate) fn read_parent(
    parent: &mut Option<Box<dyn Disk>>,
    offset: u64,
    buf: &mut [u8],
) -> Result<(), DiskError> {
    match parent {
        Some(parent) => parent.read(offset, buf),
        None => {
            buf.fill(0);
            Ok(())
        }
    }
}

/// Calls `part` for each part of a read of `buf` at byte `offset` that is within one unit of
/// `unit` bytes: with the number of the unit, the byte within it, and that part of `buf`.
///
/// # Errors
///
/// Those of `part`; a `unit` of 0 is damage.
pub(crate) fn by_unit(
    unit: u64,
    offset: u64,
    buf: &mut [u8],
    mut part: impl FnMut(u64, u64, &mut [u8]) -> Result<(), DiskError>,
) -> Result<(), DiskError> {
    let mut at = offset;
    let mut rest = buf;
    while !rest.is_empty() {
        let within = at
            .checked_rem(unit)
            .ok_or_else(|| DiskError::damaged("the unit of allocation is 0 bytes"))?;
        let count = usize::try_from(unit - within).unwrap_or(usize::MAX);
        let (now, later) = rest.split_at_mut(count.min(rest.len()));
        let len = now.len() as u64;
        part(at / unit, within, now)?;
        rest = later;
        let Some(next) = at.checked_add(len) else {
            rest.fill(0);
            break;
        };
        at = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_cut_at_units() {
        let mut parts = Vec::new();
        let mut buf = [0; 700];
        by_unit(512, 500, &mut buf, |unit, within, part| {
            parts.push((unit, within, part.len()));
            Ok(())
        })
        .unwrap();
        assert_eq!(parts, [(0, 500, 12), (1, 0, 512), (2, 0, 176)]);
        assert!(by_unit(0, 0, &mut buf, |_, _, _| Ok(())).is_err());
        // The last byte that an offset can name, and what would be behind it.
        buf.fill(7);
        by_unit(512, u64::MAX, &mut buf, |_, _, part| {
            part.fill(1);
            Ok(())
        })
        .unwrap();
        assert_eq!((buf[0], buf[1]), (1, 0));
    }

    #[test]
    fn an_endless_chain_of_parents_ends() {
        struct Same;
        impl Files for Same {
            fn file(&self, _: &[u8]) -> Option<Arc<dyn ReadAt>> {
                Some(Arc::new(vec![0; 512]))
            }
        }
        fn open(
            _: Arc<dyn ReadAt>,
            format: Option<&str>,
            opening: Opening<'_>,
        ) -> Result<Box<dyn Disk>, DiskError> {
            opening.parent(b"itself", format)
        }
        let opening = Opening::new(Access::to(&Same), open);
        let error = opening.parent(b"itself", None).err();
        assert_eq!(error, Some(DiskError::TooManyParents));
        let opening = Opening::new(Access::to(&()), open);
        let missing = opening.parent(b"parent", None).err().unwrap();
        assert!(missing.to_string().contains("'parent'"), "{missing}");
    }
}
