//! The guest's view.

use std::io::Read as _;
use std::sync::Arc;

use super::descriptor::{Descriptor, Extent};
use super::fields::{self, descriptor};
use super::layout::{GRAIN_MARKER_LEN, SECTOR, Shape};
use super::map::{MOST_CAPACITY, Map, Target};
use crate::disk::{Disk, DiskError, Opening, by_unit, read_parent};
use crate::io::{ReadAt, read_padded};
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// The most bytes in a grain that is decompressed.
const MOST_COMPRESSED: u64 = 64 << 20;

/// The disk in an image.
struct VmdkDisk {
    extents: Vec<Part>,
    parent: Option<Box<dyn Disk>>,
}

/// A part of the disk.
struct Part {
    /// The byte of the disk behind it.
    end: u64,
    data: Data,
}

/// Where the data of a part is.
enum Data {
    /// Zeros.
    Zeros,
    /// From this byte of a file on.
    Flat(Arc<dyn ReadAt>, u64),
    /// In grains.
    Sparse(Sparse),
    /// It cannot be read.
    NoAccess,
}

/// A sparse extent.
struct Sparse {
    bytes: Store,
    map: Map,
    /// The compressed grain that was read last, by its number.
    last: Option<(u64, Vec<u8>)>,
}

/// Opens the disk in an image.
///
/// # Errors
///
/// The descriptor or a header has no meaning, or an extent or the parent cannot be opened.
pub(super) fn open(bytes: Store, opening: Opening<'_>) -> Result<Box<dyn Disk>, DiskError> {
    let descriptor = descriptor(&bytes);
    let named = descriptor.as_ref().filter(|it| it.parent().is_some());
    let parent = named.map(|descriptor| parent(descriptor, opening));
    let map = Map::read(&bytes);
    let extents = match (&descriptor, Shape::of(&bytes)) {
        (Some(descriptor), Shape::Descriptor) => parts(descriptor, opening)?,
        // Such a file is there for its descriptor alone.
        (Some(descriptor), Shape::Hosted) if map.is_some_and(|map| map.capacity == 0) => {
            parts(descriptor, opening)?
        }
        _ => {
            let sparse = Sparse::open(bytes)?;
            let end = sparse.map.capacity * SECTOR;
            let data = Data::Sparse(sparse);
            vec![Part { end, data }]
        }
    };
    Ok(Box::new(VmdkDisk {
        extents,
        parent: parent.transpose()?,
    }))
}

/// Opens the parent, which must not have changed since the image was made of it.
fn parent(descriptor: &Descriptor, opening: Opening<'_>) -> Result<Box<dyn Disk>, DiskError> {
    let name = descriptor.parent().unwrap_or_default();
    let bytes = Store::over(opening.file(name)?);
    let id = fields::descriptor(&bytes).and_then(|parent| parent.content_id("CID"));
    bytes.check_reads()?;
    if id.is_none() || id != descriptor.content_id("parentCID") {
        let text = "the content identifier of the parent is not parentCID";
        return Err(DiskError::damaged(text));
    }
    opening.parent(name, Some("vmdk"))
}

/// The parts of the disk that a descriptor names.
fn parts(descriptor: &Descriptor, opening: Opening<'_>) -> Result<Vec<Part>, DiskError> {
    let mut parts = Vec::new();
    let mut end = 0_u64;
    for extent in &descriptor.extents {
        let (sectors, data) = part(descriptor, extent, opening)?;
        end = end.saturating_add(sectors.saturating_mul(SECTOR));
        if end > MOST_CAPACITY * SECTOR {
            return Err(DiskError::damaged("the extents are too large"));
        }
        parts.push(Part { end, data });
    }
    if parts.is_empty() {
        return Err(DiskError::damaged("the descriptor has no extents"));
    }
    Ok(parts)
}

/// An extent: its sectors, and its data.
fn part(
    descriptor: &Descriptor,
    extent: &Extent,
    opening: Opening<'_>,
) -> Result<(u64, Data), DiskError> {
    let line = || String::from_utf8_lossy(descriptor.bytes(extent.line)).into_owned();
    let damaged = |what: &str| DiskError::Damaged(format!("{what} in '{}'", line()));
    let sectors = descriptor.number(extent.size);
    let sectors = sectors.ok_or_else(|| damaged("no size"))?;
    if descriptor
        .bytes(extent.access)
        .eq_ignore_ascii_case(b"NOACCESS")
    {
        return Ok((sectors, Data::NoAccess));
    }
    let kind = extent.kind.map_or(&[][..], |kind| descriptor.bytes(kind));
    let kind = kind.to_ascii_uppercase();
    if kind == b"ZERO" {
        return Ok((sectors, Data::Zeros));
    }
    let file = || {
        let name = extent.name.ok_or_else(|| damaged("no file name"))?;
        opening.file(descriptor.bytes(name))
    };
    match kind.as_slice() {
        b"FLAT" | b"VMFS" => {
            let offset = match extent.offset {
                None => 0,
                offset => descriptor
                    .number(offset)
                    .and_then(|sectors| sectors.checked_mul(SECTOR))
                    .ok_or_else(|| damaged("an invalid offset"))?,
            };
            Ok((sectors, Data::Flat(file()?, offset)))
        }
        b"SPARSE" | b"VMFSSPARSE" | b"SESPARSE" => {
            let sparse = Sparse::open(Store::over(file()?))?;
            Ok((sparse.map.capacity, Data::Sparse(sparse)))
        }
        kind => Err(DiskError::Unsupported(format!(
            "an extent of type {}",
            kind.escape_ascii()
        ))),
    }
}

impl Sparse {
    fn open(bytes: Store) -> Result<Self, DiskError> {
        let map = Map::read(&bytes);
        bytes.check_reads()?;
        let map = map.ok_or_else(|| DiskError::damaged("the header of a sparse extent"))?;
        let last = None;
        Ok(Self { bytes, map, last })
    }

    /// Reads from a grain of the extent; whether it is allocated.
    fn read(&mut self, grain: u64, within: u64, buf: &mut [u8]) -> Result<bool, DiskError> {
        let found = self.map.find(&self.bytes, grain);
        match found {
            Target::Unallocated => return Ok(false),
            Target::Zeros => buf.fill(0),
            Target::At(at) if self.map.compressed => {
                if self.last.as_ref().is_none_or(|(last, _)| *last != grain) {
                    let data = decompress(&self.bytes, self.map, at)?;
                    self.last = Some((grain, data));
                }
                let data = self.last.as_ref().map_or(&[][..], |(_, data)| data);
                let from = usize::try_from(within).unwrap_or(usize::MAX);
                let part = data.get(from..).and_then(|rest| rest.get(..buf.len()));
                let short = || DiskError::Damaged(format!("grain {grain} is too short"));
                buf.copy_from_slice(part.ok_or_else(short)?);
            }
            Target::At(at) => self.bytes.read(at.saturating_add(within), buf),
            Target::Invalid => {
                let text = format!("an entry for grain {grain} has no meaning");
                return Err(DiskError::Damaged(text));
            }
        }
        self.bytes.check_reads()?;
        Ok(true)
    }
}

/// The data of the compressed grain at byte `at`.
///
/// # Errors
///
/// It is no valid stream, or holds more than a grain; grains of more than 64 MiB are not
/// decompressed.
pub(super) fn decompress(source: &Store, map: Map, at: u64) -> Result<Vec<u8>, DiskError> {
    let most = map.grain_bytes();
    if most > MOST_COMPRESSED {
        return Err(DiskError::Unsupported(
            "a compressed grain of this size".into(),
        ));
    }
    let (from, len) = match map.markers {
        true => {
            let len = number(source, at.saturating_add(8), 4, Little);
            (at.saturating_add(GRAIN_MARKER_LEN), len)
        }
        false => (at, most),
    };
    let damaged = |what: &str| DiskError::Damaged(format!("the grain at {at:#x} {what}"));
    // What does not compress takes more than a grain, and readers have room for two.
    if len == 0 || len > most.saturating_mul(2) {
        return Err(damaged("has a marker of an impossible size"));
    }
    let len = len.min(source.len().saturating_sub(from));
    let stream = source.read_vec(from, usize::try_from(len).unwrap_or(0));
    let mut data = Vec::new();
    let mut decoder = flate2::read::ZlibDecoder::new(&stream[..]).take(most + 1);
    let read = decoder.read_to_end(&mut data);
    read.map_err(|_| damaged("is no valid deflate stream"))?;
    if data.len() as u64 > most {
        return Err(damaged("holds more than a grain"));
    }
    Ok(data)
}

impl Disk for VmdkDisk {
    fn size(&self) -> u64 {
        self.extents.last().map_or(0, |last| last.end)
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let (mut at, mut rest) = (offset, buf);
        let first = self.extents.partition_point(|part| part.end <= offset);
        let mut begin = match first.checked_sub(1) {
            Some(before) => self.extents[before].end,
            None => 0,
        };
        for part in &mut self.extents[first..] {
            let len = usize::try_from(part.end - at).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(len.min(rest.len()));
            part.data.read(at - begin, at, now, &mut self.parent)?;
            rest = later;
            if rest.is_empty() {
                return Ok(());
            }
            (at, begin) = (part.end, part.end);
        }
        rest.fill(0);
        Ok(())
    }
}

impl Data {
    /// Reads from byte `within` of the part, which is byte `offset` of the disk.
    fn read(
        &mut self,
        within: u64,
        offset: u64,
        buf: &mut [u8],
        parent: &mut Option<Box<dyn Disk>>,
    ) -> Result<(), DiskError> {
        match self {
            Self::Zeros => buf.fill(0),
            Self::Flat(file, from) => {
                read_padded(&**file, from.saturating_add(within), buf)?;
            }
            Self::NoAccess => {
                return Err(DiskError::Unsupported("an extent without access".into()));
            }
            Self::Sparse(sparse) => {
                let unit = sparse.map.grain_bytes();
                let begin = offset - within;
                by_unit(unit, within, buf, |grain, within, part| {
                    if !sparse.read(grain, within, part)? {
                        let at = begin.saturating_add(grain * unit).saturating_add(within);
                        read_parent(parent, at, part)?;
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}
