//! What all disks have in common, whatever they are plugged into.

use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};

/// What a disk is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Reads into the buffer. Offset and length are multiples of the block size, unless the
    /// device is to refuse them.
    Read {
        /// In bytes.
        offset: u64,
        /// Where to.
        buffer: Buffer,
    },
    /// Writes from the buffer.
    Write {
        /// In bytes.
        offset: u64,
        /// Where from.
        buffer: Buffer,
        /// Whether it ends when the data are on the medium (Force Unit Access).
        fua: bool,
    },
    /// Ends when all that was written is on the medium.
    Flush,
    /// What is there is not needed any more.
    Discard {
        /// In bytes.
        offset: u64,
        /// In bytes.
        length: u64,
    },
    /// Writes zeroes.
    WriteZeroes {
        /// In bytes.
        offset: u64,
        /// In bytes.
        length: u64,
        /// Whether the place may be given up.
        unmap: bool,
    },
}

/// What a disk can do, as its device reports it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a feature of its own"
)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// [`Request::Flush`].
    pub flush: bool,
    /// [`Request::Write`] with `fua`.
    pub fua: bool,
    /// [`Request::Discard`].
    pub discard: bool,
    /// [`Request::WriteZeroes`].
    pub write_zeroes: bool,
    /// Whether a request may have a buffer of several pieces.
    pub scatter: bool,
    /// How many requests can be on their way at once, at least 1.
    pub depth: usize,
    /// How many queues there are, at least 1.
    pub queues: usize,
    /// The longest transfer in bytes.
    pub longest: u64,
    /// Whether nothing can be written.
    pub read_only: bool,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is done.
    Done,
    /// The device says that it failed: a medium error, a refusal, an invalid request.
    Failed {
        /// What the device said, in the words of its specification.
        why: String,
    },
}

/// Which request; unique within a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

/// A disk that a driver has set up.
pub trait Disk {
    /// The driver's name.
    fn name(&self) -> &'static str;

    /// The size of a block in bytes: the unit of all requests.
    fn block_size(&self) -> u32;

    /// The size of the disk in bytes, as it was last read from the device.
    fn size(&self) -> u64;

    /// What it can do.
    fn features(&self) -> &Features;

    /// Starts a request, on a queue from 0 to below [`Features::queues`].
    ///
    /// # Errors
    ///
    /// Fails if the driver cannot express the request ([`Error::Device`]), or the emulator is
    /// gone. A request that the device refuses is a [`Status`].
    fn submit(&mut self, guest: &mut Guest, queue: usize, request: &Request) -> Result<Tag>;

    /// What ended since the last call, without waiting. Drivers of devices that need the
    /// processor for each piece of a transfer go on with it here.
    ///
    /// # Errors
    ///
    /// Fails if the device is not as it has to be, or the emulator is gone.
    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Status)>>;

    /// Resets the device and sets it up again. Requests on their way are given up.
    ///
    /// # Errors
    ///
    /// Fails if it does not come back.
    fn reset(&mut self, guest: &mut Guest) -> Result<()>;

    /// Carries out a SCSI command that has up to `length` bytes of data for the guest; what the
    /// device says if it refuses.
    ///
    /// # Errors
    ///
    /// Fails if the disk takes no SCSI commands, and as [`Self::submit`].
    fn scsi(
        &mut self,
        guest: &mut Guest,
        cdb: Vec<u8>,
        length: u32,
    ) -> Result<Result<Vec<u8>, String>> {
        let _ = (guest, cdb, length);
        Err(Error::device(
            self.name(),
            "the disk takes no SCSI commands",
        ))
    }

    /// Asks the device anew how large it is.
    ///
    /// # Errors
    ///
    /// Fails if it does not say.
    fn refresh_size(&mut self, guest: &mut Guest) -> Result<u64>;
}

/// Waits for a request; what else ended on the way goes into `others`.
///
/// # Errors
///
/// Fails if it does not end in time, and as [`Disk::poll`].
pub fn wait(
    disk: &mut dyn Disk,
    guest: &mut Guest,
    tag: Tag,
    others: &mut Vec<(Tag, Status)>,
) -> Result<Status> {
    let name = disk.name();
    guest.wait(name, "the end of a request", |guest| {
        let mut found = None;
        for (ended, status) in disk.poll(guest)? {
            if ended == tag {
                found = Some(status);
            } else {
                others.push((ended, status));
            }
        }
        Ok(found)
    })
}

/// Carries a request out.
///
/// # Errors
///
/// As [`Disk::submit`] and [`wait`].
pub fn execute(disk: &mut dyn Disk, guest: &mut Guest, request: &Request) -> Result<Status> {
    let tag = disk.submit(guest, 0, request)?;
    wait(disk, guest, tag, &mut Vec::new())
}

/// Reads `length` bytes, in requests that the device takes.
///
/// # Errors
///
/// Fails if the device does, and as [`execute`].
pub fn read(disk: &mut dyn Disk, guest: &mut Guest, offset: u64, length: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let step = step(disk);
    while (bytes.len() as u64) < length {
        let at = bytes.len() as u64;
        let n = step.min(length - at);
        let buffer = guest.buffer(&[u32::try_from(n).unwrap_or(u32::MAX)], 4096)?;
        let (offset, whole) = (offset + at, buffer.clone());
        let request = Request::Read { offset, buffer };
        done(disk.name(), &execute(disk, guest, &request)?)?;
        bytes.extend(guest.buffer_bytes(&whole)?);
        guest.free_buffer(&whole);
    }
    Ok(bytes)
}

/// Writes bytes, in requests that the device takes.
///
/// # Errors
///
/// Fails if the device does, and as [`execute`].
pub fn write(disk: &mut dyn Disk, guest: &mut Guest, offset: u64, bytes: &[u8]) -> Result<()> {
    let step = usize::try_from(step(disk)).unwrap_or(usize::MAX);
    for (index, piece) in bytes.chunks(step).enumerate() {
        let buffer = guest.buffer(&[u32::try_from(piece.len()).unwrap_or(u32::MAX)], 4096)?;
        guest.fill_buffer(&buffer, piece)?;
        let request = Request::Write {
            offset: offset + (index * step) as u64,
            buffer: buffer.clone(),
            fua: false,
        };
        done(disk.name(), &execute(disk, guest, &request)?)?;
        guest.free_buffer(&buffer);
    }
    Ok(())
}

/// The most that one request transfers here.
fn step(disk: &dyn Disk) -> u64 {
    const MIB: u64 = 1 << 20;
    disk.features().longest.min(MIB)
}

/// A status other than [`Status::Done`] as an error.
///
/// # Errors
///
/// With what the device said.
pub fn done(device: &'static str, status: &Status) -> Result<()> {
    match status {
        Status::Done => Ok(()),
        Status::Failed { why } => Err(Error::device(device, why.clone())),
    }
}
