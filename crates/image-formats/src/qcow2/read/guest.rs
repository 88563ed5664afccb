//! The guest's view: the data that a read of the disk returns.

use crate::io::{ReadAt, ReadError, read_padded};
use crate::luks::{SECTOR, SectorCipher};
use crate::qcow2::compression::Compression;
use crate::qcow2::compression::{InflateError, expand};
use crate::qcow2::entries::{CompressedDescriptor, L2Entry, OFFSET_MASK, Subclusters};
use crate::qcow2::header::{Header, Incompatible};
use crate::qcow2::read::layout::{Disk, Layout};
use crate::qcow2::types::{Geometry, GuestOffset, HostOffset};
use crate::store::Store;

/// Where a run of guest data is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Not in this image: the backing file has it, or it reads as zeros.
    Unallocated,
    /// Reads as zeros, whatever the backing file has.
    Zero {
        /// The cluster of the image that is reserved for it, if there is one.
        reserved: Option<HostOffset>,
    },
    /// Stored in the image file at this offset.
    Host(HostOffset),
    /// Stored in the external data file at this offset.
    External(HostOffset),
    /// Compressed; the run starts `within` bytes into the expanded cluster.
    Compressed {
        /// Where the compressed data is stored.
        descriptor: CompressedDescriptor,
        /// Byte offset within the cluster.
        within: u64,
    },
}

/// A run of guest data with one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it starts on the guest's disk.
    pub start: GuestOffset,
    /// Length in bytes; extents end with subclusters or earlier.
    pub len: u64,
    /// Where it is stored.
    pub source: Source,
}

/// Why guest data cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// The image, its data file or its backing file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The cluster size in the header is out of range.
    #[error("the cluster size is out of range")]
    NoGeometry,
    /// The compression type is unknown.
    #[error("compression type {0} is unknown")]
    UnknownCompression(u8),
    /// A compressed cluster does not expand.
    #[error("the cluster at {at} does not expand: {problem}")]
    Compressed {
        /// The cluster that was read.
        at: GuestOffset,
        /// What is wrong with its data.
        problem: InflateError,
    },
    /// An L2 table is unaligned or outside the file.
    #[error("the L2 table for {at} is at {table:#x}, not cluster aligned or outside the file")]
    BadTable {
        /// What was read.
        at: GuestOffset,
        /// Byte offset of its table.
        table: u64,
    },
    /// A cluster is stored at an unaligned offset.
    #[error("the cluster at {at} is stored at {host}, which is not cluster aligned")]
    Unaligned {
        /// What was read.
        at: GuestOffset,
        /// Its offset.
        host: HostOffset,
    },
    /// A subcluster is both allocated and zero.
    #[error("the subcluster at {0} is both allocated and zero")]
    AllocatedAndZero(GuestOffset),
    /// A subcluster is allocated in a cluster without host offset.
    #[error("the subcluster at {0} is allocated, but the cluster has no host offset")]
    NoHostCluster(GuestOffset),
}

/// Reads guest data of one disk in an image. Changes to the image are
/// seen; the data of an encrypted image is decrypted after [`Guest::unlock`].
pub struct Guest<'a> {
    source: &'a Store,
    data_file: Option<&'a dyn ReadAt>,
    backing: Option<&'a dyn ReadAt>,
    layout: Layout,
    disk: Disk,
    geometry: Geometry,
    cipher: Option<SectorCipher>,
    /// The compressed cluster that was expanded last.
    expanded: Option<(CompressedDescriptor, Vec<u8>)>,
}

impl<'a> Guest<'a> {
    /// The view of `disk` in the image `source`, see [`crate::qcow2::Image::guest`].
    pub(crate) fn new(
        source: &'a Store,
        disk: Disk,
        data_file: Option<&'a dyn ReadAt>,
        backing: Option<&'a dyn ReadAt>,
    ) -> Result<Self, GuestError> {
        let layout = Layout::read(source);
        source.check_reads()?;
        let geometry = layout.geometry.ok_or(GuestError::NoGeometry)?;
        Ok(Self {
            source,
            data_file,
            backing,
            layout,
            disk,
            geometry,
            cipher: None,
            expanded: None,
        })
    }

    /// Decrypts from now on what is stored in clusters of the image or its data file.
    pub fn unlock(&mut self, cipher: SectorCipher) {
        self.cipher = Some(cipher);
    }

    /// Bytes on the disk. A snapshot's own size is in its extra data; without, it is
    /// that of the image.
    #[must_use]
    pub fn size(&self) -> u64 {
        let Disk::Snapshot(index) = self.disk else {
            return self.layout.header.size;
        };
        match self.layout.snapshots.get(index) {
            Some(snapshot) if snapshot.extra >= 16 => {
                self.source.read_u64(snapshot.offset.saturating_add(48))
            }
            _ => self.layout.header.size,
        }
    }

    /// Reads from byte `offset` of the disk on.
    ///
    /// # Errors
    ///
    /// The tables or the compressed data are damaged there, or a file cannot be read.
    pub fn read(&mut self, offset: GuestOffset, buf: &mut [u8]) -> Result<(), GuestError> {
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = offset.0.checked_add(done as u64).map(GuestOffset) else {
                buf[done..].fill(0);
                return Ok(());
            };
            let extent = self.extent(at)?;
            let count = extent.len.min((buf.len() - done) as u64) as usize;
            let part = &mut buf[done..done + count.max(1)];
            match extent.source {
                Source::Unallocated => match self.backing {
                    Some(backing) => read_padded(backing, at.0, part)?,
                    None => part.fill(0),
                },
                Source::Zero { .. } => part.fill(0),
                Source::Host(host) => self.read_stored(self.source, host, part)?,
                Source::External(host) => match self.data_file {
                    Some(file) => self.read_stored(file, host, part)?,
                    None => part.fill(0),
                },
                Source::Compressed { descriptor, within } => {
                    self.read_compressed(at, descriptor, within, part)?;
                }
            }
            done += part.len();
        }
        Ok(())
    }

    /// Where the data at byte `offset` of the disk is stored, and the length of that run.
    ///
    /// # Errors
    ///
    /// The tables are damaged there, or cannot be read.
    pub fn extent(&self, offset: GuestOffset) -> Result<Extent, GuestError> {
        let extent = self.find(offset);
        self.source.check_reads()?;
        extent
    }

    fn find(&self, offset: GuestOffset) -> Result<Extent, GuestError> {
        let geometry = self.geometry;
        let within = offset.0 % geometry.cluster_size();
        let whole = |source| Extent {
            start: offset,
            len: geometry.cluster_size() - within,
            source,
        };
        let Some(entry_at) = self.entry_of(offset)? else {
            return Ok(whole(Source::Unallocated));
        };
        let external = self
            .layout
            .header
            .incompatible
            .contains(Incompatible::DATA_FILE);
        let word = self.source.read_u64(entry_at);
        match L2Entry::from_word(word, geometry) {
            L2Entry::Compressed(descriptor) => Ok(whole(Source::Compressed { descriptor, within })),
            L2Entry::Standard { host, zero, copied } => {
                let stored = host.0 != 0 || (external && copied);
                if stored && !geometry.is_aligned(host.0) {
                    return Err(GuestError::Unaligned { at: offset, host });
                }
                let data = HostOffset(host.0.saturating_add(within));
                let data = if external {
                    Source::External(data)
                } else {
                    Source::Host(data)
                };
                if geometry.extended_l2() {
                    let bits =
                        Subclusters::from_word(self.source.read_u64(entry_at.saturating_add(8)));
                    return self.subcluster(offset, bits, stored.then_some((host, data)));
                }
                let reserved = stored.then_some(host);
                Ok(whole(match (zero, stored) {
                    (true, _) => Source::Zero { reserved },
                    (false, true) => data,
                    (false, false) => Source::Unallocated,
                }))
            }
        }
    }

    fn subcluster(
        &self,
        offset: GuestOffset,
        bits: Subclusters,
        stored: Option<(HostOffset, Source)>,
    ) -> Result<Extent, GuestError> {
        let size = self.geometry.subcluster_size();
        let index = offset.0 % self.geometry.cluster_size() / size;
        let allocated = bits.allocated >> index & 1 == 1;
        let zero = bits.zero >> index & 1 == 1;
        let source = match (allocated, zero, stored) {
            (true, true, _) => return Err(GuestError::AllocatedAndZero(offset)),
            (true, false, None) => return Err(GuestError::NoHostCluster(offset)),
            (true, false, Some((_, data))) => data,
            (false, true, stored) => Source::Zero {
                reserved: stored.map(|(host, _)| host),
            },
            (false, false, _) => Source::Unallocated,
        };
        Ok(Extent {
            start: offset,
            len: size - offset.0 % size,
            source,
        })
    }

    /// The offset of the L2 entry for byte `offset` of the disk; none without a table.
    fn entry_of(&self, offset: GuestOffset) -> Result<Option<u64>, GuestError> {
        let (l1, l2) = self
            .geometry
            .indices(self.geometry.guest_cluster_of(offset));
        let Some(table) = self.layout.l1_of(self.disk) else {
            return Ok(None);
        };
        let Some(l1_at) = table.entry(l1.0) else {
            return Ok(None);
        };
        let table = self.source.read_u64(l1_at) & OFFSET_MASK;
        if table == 0 {
            return Ok(None);
        }
        match self.layout.cluster_at(table) {
            Some(base) => Ok(base.0.checked_add(l2.0 * self.geometry.l2_entry_size())),
            None => Err(GuestError::BadTable { at: offset, table }),
        }
    }

    /// Reads a run of a cluster from the file it is stored in.
    fn read_stored(
        &self,
        file: &dyn ReadAt,
        host: HostOffset,
        buf: &mut [u8],
    ) -> Result<(), ReadError> {
        let Some(cipher) = &self.cipher else {
            return read_padded(file, host.0, buf);
        };
        let skip = (host.0 % SECTOR) as usize;
        let start = host.0 - skip as u64;
        let mut whole = vec![0; (skip + buf.len()).next_multiple_of(SECTOR as usize)];
        read_padded(file, start, &mut whole)?;
        cipher.decrypt(start, &mut whole);
        buf.copy_from_slice(&whole[skip..skip + buf.len()]);
        Ok(())
    }

    fn read_compressed(
        &mut self,
        at: GuestOffset,
        descriptor: CompressedDescriptor,
        within: u64,
        buf: &mut [u8],
    ) -> Result<(), GuestError> {
        let known = self
            .expanded
            .as_ref()
            .is_some_and(|(last, _)| *last == descriptor);
        if !known {
            let number = Header::read(self.source).compression_type;
            let compression =
                Compression::from_number(number).ok_or(GuestError::UnknownCompression(number))?;
            let size = self.geometry.cluster_size();
            // The descriptor can hold twice the cluster size; no stream needs more.
            let len = descriptor.len().min(size * 2) as usize;
            let packed = self.source.read_vec(descriptor.host.0, len);
            let data = expand(&packed, size as usize, compression);
            self.source.check_reads()?;
            let data = data.map_err(|problem| GuestError::Compressed { at, problem })?;
            self.expanded = Some((descriptor, data));
        }
        if let Some((_, data)) = &self.expanded {
            read_padded(data, within, buf)?;
        }
        Ok(())
    }
}
