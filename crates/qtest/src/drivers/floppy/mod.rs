//! A floppy disk of 1.44 MB in the first drive of a PC.
//!
//! Intel 82077AA data sheet. A request takes a command for each cylinder where data go by DMA,
//! and for each track where the processor transfers them; both are used in turn for reads. All
//! writes go by DMA: QEMU 10.0 does not end a write by the processor, since it fails to step to
//! the sector behind the last one.

mod controller;

use crate::block::{Disk, Features, Request, Status, Tag};
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};
use controller::{Phase, command};

const NAME: &str = "floppy";

/// The size of a disk in bytes: of both sides of 80 cylinders of 18 sectors.
pub const SIZE: u64 = 80 * HEADS * SECTORS * SECTOR;

const HEADS: u64 = 2;
const SECTORS: u64 = 18;
/// In bytes.
const SECTOR: u64 = 512;
/// In bytes: what DMA transfers with one command.
const CYLINDER: u64 = HEADS * SECTORS * SECTOR;

/// The longest request here in bytes, so that many take several commands.
const LONGEST: u64 = 2 * CYLINDER;

/// The end of the memory that the DMA controller reaches.
const DMA_END: u64 = 16 << 20;

/// Bits of status registers, each with its number, and what they are called (section 4).
const ERRORS: &[(usize, u8, &str)] = &[
    (0, 1 << 4, "equipment check"),
    (0, 1 << 3, "not ready"),
    (1, 1 << 7, "end of cylinder"),
    (1, 1 << 5, "data error"),
    (1, 1 << 4, "overrun"),
    (1, 1 << 2, "no data"),
    (1, 1 << 1, "not writable"),
    (1, 1 << 0, "missing address mark"),
    (2, 1 << 5, "data error in data field"),
    (2, 1 << 4, "wrong cylinder"),
    (2, 1 << 1, "bad cylinder"),
    (2, 1 << 0, "missing data address mark"),
];

/// Sets the controller and the first drive up.
///
/// # Errors
///
/// Fails if there is no controller or no disk, or they do not answer.
pub fn open(guest: &mut Guest) -> Result<Box<dyn Disk>> {
    // The controller of DMA counts within 64 KiB.
    let bounce = guest.allocate(CYLINDER, (64 << 10) / 2)?;
    if bounce + CYLINDER > DMA_END {
        return Err(Error::device(NAME, "no memory below 16 MiB is free"));
    }
    controller::reset(guest)?;
    if failed(&controller::read_id(guest)?) {
        return Err(Error::device(NAME, "there is no disk in the drive"));
    }
    const WRITE_PROTECTED: u8 = 1 << 6;
    let features = Features {
        scatter: true,
        depth: 1,
        queues: 1,
        longest: LONGEST,
        read_only: controller::sense_drive(guest)? & WRITE_PROTECTED != 0,
        ..Features::default()
    };
    Ok(Box::new(Floppy {
        features,
        bounce,
        next_tag: 0,
        cylinder: 0,
        by_dma: true,
        current: None,
    }))
}

/// A request, and the command that is on its way.
#[derive(Debug)]
struct Current {
    tag: Tag,
    write: bool,
    data: Buffer,
    /// Where the first byte of the request is on the disk.
    offset: u64,
    /// What the commands that ended transferred, in bytes.
    done: u64,
    /// How much this command transfers, and how much of it the processor has transferred.
    now: u64,
    moved: u64,
}

/// A disk in a drive.
#[derive(Debug)]
struct Floppy {
    features: Features,
    /// Memory for the DMA controller.
    bounce: u64,
    next_tag: u64,
    /// Where the head is.
    cylinder: u8,
    by_dma: bool,
    current: Option<Current>,
}

/// Whether a result says that the command failed: the interrupt code of status register 0.
const fn failed(result: &[u8; 7]) -> bool {
    result[0] >> 6 != 0
}

/// What the result of a command says.
fn outcome(result: &[u8; 7]) -> Status {
    if !failed(result) {
        return Status::Done;
    }
    let said = ERRORS
        .iter()
        .filter(|(register, bit, _)| result[*register] & bit != 0);
    let words: Vec<&str> = said.map(|(_, _, word)| *word).collect();
    let why = if words.is_empty() {
        "abnormal termination".to_owned()
    } else {
        words.join(", ")
    };
    Status::Failed { why }
}

impl Floppy {
    /// Sends the command for the next part of a request.
    fn send(&mut self, guest: &mut Guest, current: &mut Current) -> Result<()> {
        let at = current.offset + current.done;
        let unit = if self.by_dma {
            CYLINDER
        } else {
            SECTORS * SECTOR
        };
        current.now = (current.data.len() - current.done).min(unit - at % unit);
        current.moved = 0;
        let sector = at / SECTOR;
        let byte = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
        let cylinder = u8::try_from(sector / (HEADS * SECTORS))
            .map_err(|_| Error::device(NAME, "there are 256 cylinders at most"))?;
        let head = byte(sector / SECTORS % HEADS);
        let first = byte(sector % SECTORS + 1);
        if cylinder != self.cylinder {
            controller::seek(guest, cylinder)?;
            self.cylinder = cylinder;
        }
        let mut code = command::MFM;
        code |= if current.write {
            command::WRITE
        } else {
            command::READ
        };
        // Where the command ends: the DMA controller says when it is enough.
        let mut last = byte(SECTORS);
        if self.by_dma {
            code |= command::MULTI_TRACK;
            let address = u32::try_from(self.bounce).unwrap_or(0);
            let length = u32::try_from(current.now).unwrap_or(0);
            if current.write {
                let part = current.data.part(current.done, current.now);
                let bytes = guest.buffer_bytes(&part)?;
                guest.label("data");
                guest.write_block(self.bounce, &bytes)?;
            }
            controller::prepare_dma(guest, current.write, address, length)?;
        } else {
            last = first + byte(current.now / SECTOR) - 1;
        }
        const SIZE_CODE: u8 = 2;
        const GAP: u8 = 0x1b;
        const NO_SIZE: u8 = 0xff;
        let drive = controller::DRIVE | head << 2;
        let place = [code, drive, cylinder, head, first, SIZE_CODE, last];
        controller::send(guest, &place)?;
        controller::send(guest, &[GAP, NO_SIZE])
    }

    /// Lets the processor read the next sector.
    fn take_sector(guest: &mut Guest, current: &mut Current) -> Result<()> {
        if current.write || current.moved == current.now {
            return Err(Error::device(
                NAME,
                "the controller transfers more than was asked for",
            ));
        }
        let part = current.data.part(current.done + current.moved, SECTOR);
        let bytes = controller::take_data(guest, SECTOR)?;
        guest.label("data");
        guest.fill_buffer(&part, &bytes)?;
        current.moved += SECTOR;
        Ok(())
    }

    /// Goes on with a request: its end, if it has ended.
    fn progress(&mut self, guest: &mut Guest, current: &mut Current) -> Result<Option<Status>> {
        match controller::phase(guest)? {
            Phase::Busy => return Ok(None),
            Phase::Data => {
                Self::take_sector(guest, current)?;
                return Ok(None);
            }
            Phase::Result => {}
        }
        let status = outcome(&controller::result(guest)?);
        if status != Status::Done {
            return Ok(Some(status));
        }
        if self.by_dma && !current.write {
            let bytes = guest.read_block(self.bounce, current.now)?;
            guest.label("data");
            let part = current.data.part(current.done, current.now);
            guest.fill_buffer(&part, &bytes)?;
        }
        current.done += current.now;
        if current.done == current.data.len() {
            return Ok(Some(Status::Done));
        }
        self.send(guest, current)?;
        Ok(None)
    }
}

impl Disk for Floppy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn block_size(&self) -> u32 {
        512
    }

    fn size(&self) -> u64 {
        SIZE
    }

    fn features(&self) -> &Features {
        &self.features
    }

    fn submit(&mut self, guest: &mut Guest, _queue: usize, request: &Request) -> Result<Tag> {
        if self.current.is_some() {
            return Err(Error::device(NAME, "one request at a time"));
        }
        let (write, offset, data) = match request {
            Request::Read { offset, buffer } => (false, *offset, buffer.clone()),
            Request::Write {
                offset,
                buffer,
                fua: false,
            } => (true, *offset, buffer.clone()),
            _ => return Err(Error::device(NAME, "disks are only read and written")),
        };
        let length = data.len();
        if !offset.is_multiple_of(SECTOR) || !length.is_multiple_of(SECTOR) || length == 0 {
            return Err(Error::device(NAME, "a command is for whole sectors"));
        }
        let by_dma = write || self.next_tag % 4 < 2;
        if by_dma != self.by_dma {
            controller::specify(guest, by_dma)?;
            self.by_dma = by_dma;
        }
        let tag = Tag(self.next_tag);
        let mut current = Current {
            tag,
            write,
            data,
            offset,
            done: 0,
            now: 0,
            moved: 0,
        };
        self.send(guest, &mut current)?;
        self.next_tag += 1;
        self.current = Some(current);
        Ok(tag)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Status)>> {
        let Some(mut current) = self.current.take() else {
            return Ok(Vec::new());
        };
        if let Some(status) = self.progress(guest, &mut current)? {
            return Ok(vec![(current.tag, status)]);
        }
        self.current = Some(current);
        Ok(Vec::new())
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        self.current = None;
        controller::reset(guest)?;
        (self.cylinder, self.by_dma) = (0, true);
        Ok(())
    }

    /// The drive does not say: disks of 1.44 MB have one size. It fails if there is none.
    fn refresh_size(&mut self, guest: &mut Guest) -> Result<u64> {
        if self.current.is_some() {
            return Err(Error::device(NAME, "one request at a time"));
        }
        if failed(&controller::read_id(guest)?) {
            return Err(Error::device(NAME, "there is no disk in the drive"));
        }
        Ok(SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_has_words() {
        assert_eq!(outcome(&[0x20, 0, 0, 0, 0, 1, 2]), Status::Done);
        let why = "no data, bad cylinder".to_owned();
        assert_eq!(outcome(&[0x40, 4, 2, 0, 0, 1, 2]), Status::Failed { why });
        assert!(matches!(
            outcome(&[0x40, 0, 0, 0, 0, 1, 2]),
            Status::Failed { .. }
        ));
    }
}
