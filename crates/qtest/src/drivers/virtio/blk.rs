//! The disk of virtio: virtio 1.2, section 5.2.

use std::collections::BTreeMap;

use super::queue::{Segment, Used};
use super::{Device, Mmio, PciLegacy, PciModern, Transport, feature, id};
use crate::block::{Disk, Features, Request, Status, Tag};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;

const NAME: &str = "virtio-blk";

/// Bits of the features: section 5.2.3.
mod bit {
    pub(super) const SEG_MAX: u64 = 1 << 2;
    pub(super) const RO: u64 = 1 << 5;
    pub(super) const BLK_SIZE: u64 = 1 << 6;
    pub(super) const FLUSH: u64 = 1 << 9;
    pub(super) const CONFIG_WCE: u64 = 1 << 11;
    pub(super) const MQ: u64 = 1 << 12;
    pub(super) const DISCARD: u64 = 1 << 13;
    pub(super) const WRITE_ZEROES: u64 = 1 << 14;
    /// Everything that this driver knows.
    pub(super) const ALL: u64 =
        SEG_MAX | RO | BLK_SIZE | FLUSH | CONFIG_WCE | MQ | DISCARD | WRITE_ZEROES;
}

/// Places in the configuration: section 5.2.4.
mod config {
    pub(super) const CAPACITY: u16 = 0;
    pub(super) const SEG_MAX: u16 = 12;
    pub(super) const BLK_SIZE: u16 = 20;
    pub(super) const WRITEBACK: u16 = 32;
    pub(super) const NUM_QUEUES: u16 = 34;
}

/// Types of requests: section 5.2.6.
mod kind {
    pub(super) const IN: u32 = 0;
    pub(super) const OUT: u32 = 1;
    pub(super) const FLUSH: u32 = 4;
    pub(super) const GET_ID: u32 = 8;
    pub(super) const DISCARD: u32 = 11;
    pub(super) const WRITE_ZEROES: u32 = 13;
}

/// The unit of sectors in requests and in the configuration, whatever the size of blocks.
const SECTOR: u64 = 512;

/// Where the parts of a request are in its slot: 16 bytes of header, the status, and 16 bytes
/// for the range of a discard.
const SLOT: u64 = 64;
const STATUS: u64 = 16;
const RANGE: u64 = 32;

/// What is where the device writes the status, until it does.
const NO_STATUS: u8 = 0xff;

/// Queues and requests are no more, whatever the device allows.
const MOST_QUEUES: u16 = 16;
const MOST_REQUESTS: u16 = 128;

/// Features of queues that a driver asks for.
const RING: u64 = feature::INDIRECT | feature::EVENT_INDEX | feature::PACKED;

/// A disk of virtio.
#[derive(Debug)]
pub struct Blk {
    /// The device, with its queues and its interrupts.
    pub device: Device,
    /// The features of queues that are asked for: [`feature`].
    wanted: u64,
    features: Features,
    block_size: u32,
    size: u64,
    /// Memory for all that requests have besides their data.
    slots: u64,
    unused: Vec<u64>,
    /// The slot of each request on its way, by queue and the number there.
    running: BTreeMap<(u16, u16), (Tag, u64)>,
    next: u64,
}

impl Blk {
    /// Sets up the device behind a transport, with these features of queues, as far as it has
    /// them: [`feature::INDIRECT`], [`feature::EVENT_INDEX`], [`feature::PACKED`].
    ///
    /// # Errors
    ///
    /// Fails if the device does not let itself be set up.
    pub fn open(guest: &mut Guest, transport: Box<dyn Transport>, ring: u64) -> Result<Self> {
        let mut disk = Self {
            device: Device::new(NAME, transport),
            wanted: ring & RING,
            features: Features::default(),
            block_size: 512,
            size: 0,
            slots: 0,
            unused: Vec::new(),
            running: BTreeMap::new(),
            next: 0,
        };
        disk.set_up(guest)?;
        Ok(disk)
    }

    /// The first one on the PCI bus, as a device of virtio 1.0 or later.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn modern(guest: &mut Guest) -> Result<Self> {
        let transport = PciModern::find(guest, NAME, id::BLK)?;
        Self::open(guest, Box::new(transport), RING)
    }

    /// The first one on the PCI bus, as a legacy device.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn legacy(guest: &mut Guest) -> Result<Self> {
        let transport = PciLegacy::find(guest, NAME, id::BLK)?;
        Self::open(guest, Box::new(transport), RING)
    }

    /// The first one on the PCI bus, with descriptors in the queue alone, and without
    /// notifications at an index.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn direct(guest: &mut Guest) -> Result<Self> {
        let transport = PciModern::find(guest, NAME, id::BLK)?;
        Self::open(guest, Box::new(transport), feature::PACKED)
    }

    /// The first one with registers in memory.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn mmio(guest: &mut Guest) -> Result<Self> {
        let transport = Mmio::find(guest, NAME, id::BLK)?;
        Self::open(guest, Box::new(transport), RING)
    }

    fn set_up(&mut self, guest: &mut Guest) -> Result<()> {
        self.device.negotiate(guest, bit::ALL | self.wanted)?;
        let config = |device: &mut Device, guest: &mut Guest, feature, width, offset, without| {
            if device.has(feature) {
                device.config(guest, width, offset)
            } else {
                Ok(without)
            }
        };
        let device = &mut self.device;
        let queues = config(device, guest, bit::MQ, Width::W, config::NUM_QUEUES, 1)?;
        let queues = u16::try_from(queues).unwrap_or(1).clamp(1, MOST_QUEUES);
        let seg_max = config(device, guest, bit::SEG_MAX, Width::L, config::SEG_MAX, 1)?;
        let block = config(
            device,
            guest,
            bit::BLK_SIZE,
            Width::L,
            config::BLK_SIZE,
            512,
        )?;
        self.block_size = u32::try_from(block).unwrap_or(512);
        device.start(guest, queues)?;
        let sizes = device.queues.iter().map(|queue| queue.areas().size);
        let mut depth = sizes.min().unwrap_or(1).min(MOST_REQUESTS);
        if !device.has(feature::INDIRECT) {
            // Header, data and status.
            depth /= 3;
        }
        let slots = u64::from(depth.max(1)) * u64::from(queues);
        if self.slots != 0 {
            guest.free(self.slots);
        }
        self.slots = guest.allocate(slots * SLOT, SLOT)?;
        self.unused = (0..slots).rev().map(|n| self.slots + n * SLOT).collect();
        self.running.clear();
        let device = &self.device;
        self.features = Features {
            flush: device.has(bit::FLUSH),
            fua: false,
            discard: device.has(bit::DISCARD),
            write_zeroes: device.has(bit::WRITE_ZEROES),
            scatter: seg_max > 1,
            depth: depth.max(1).into(),
            queues: queues.into(),
            longest: 32 << 20,
            read_only: device.has(bit::RO),
        };
        self.refresh_size(guest).map(drop)
    }

    /// The device's own name for itself, up to 20 bytes.
    ///
    /// # Errors
    ///
    /// Fails if the device does not say.
    pub fn id(&mut self, guest: &mut Guest) -> Result<Vec<u8>> {
        const LENGTH: u32 = 20;
        let buffer = guest.buffer(&[LENGTH], 4)?;
        let tag = self.request(guest, 0, kind::GET_ID, 0, Segment::of(&buffer, true))?;
        let status = crate::block::wait(self, guest, tag, &mut Vec::new())?;
        let mut bytes = guest.buffer_bytes(&buffer)?;
        guest.free_buffer(&buffer);
        crate::block::done(NAME, &status)?;
        let end = bytes.iter().position(|&b| b == 0);
        bytes.truncate(end.unwrap_or(bytes.len()));
        Ok(bytes)
    }

    /// Sets whether writes may stay in a cache until the next flush; whether the device can.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub fn set_writeback(&mut self, guest: &mut Guest, writeback: bool) -> Result<bool> {
        let can = self.device.has(bit::CONFIG_WCE);
        if can {
            let transport = &mut self.device.transport;
            transport.set_config(guest, Width::B, config::WRITEBACK, writeback.into())?;
        }
        Ok(can)
    }

    /// Starts a request of any type.
    ///
    /// # Errors
    ///
    /// Fails if there is no such queue or too many are on their way.
    pub fn request(
        &mut self,
        guest: &mut Guest,
        queue: u16,
        kind: u32,
        sector: u64,
        data: impl IntoIterator<Item = Segment>,
    ) -> Result<Tag> {
        let full = || Error::device(NAME, "too many requests are on their way");
        let slot = self.unused.pop().ok_or_else(full)?;
        self.start(guest, queue, slot, (kind, sector), data)
    }

    fn start(
        &mut self,
        guest: &mut Guest,
        queue: u16,
        slot: u64,
        (kind, sector): (u32, u64),
        data: impl IntoIterator<Item = Segment>,
    ) -> Result<Tag> {
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        header.push(NO_STATUS);
        guest.label("virtio-blk request");
        guest.write_block(slot, &header)?;
        let mut segments = vec![Segment::readable(slot, 16)];
        segments.extend(data);
        segments.push(Segment::writable(slot + STATUS, 1));
        match self.device.submit(guest, queue, &segments) {
            Ok(id) => {
                let tag = Tag(self.next);
                self.next += 1;
                self.running.insert((queue, id), (tag, slot));
                Ok(tag)
            }
            Err(error) => {
                self.unused.push(slot);
                Err(error)
            }
        }
    }

    /// A discard, or zeroes: section 5.2.6.1.
    fn range(
        &mut self,
        guest: &mut Guest,
        queue: u16,
        kind: u32,
        (offset, length): (u64, u64),
        flags: u32,
    ) -> Result<Tag> {
        let full = || Error::device(NAME, "too many requests are on their way");
        let count = u32::try_from(sectors(length)?);
        let count = count.map_err(|_| Error::device(NAME, format!("{length} bytes at once")))?;
        let mut range = sectors(offset)?.to_le_bytes().to_vec();
        range.extend(count.to_le_bytes());
        range.extend(flags.to_le_bytes());
        let slot = self.unused.pop().ok_or_else(full)?;
        guest.label("virtio-blk range");
        guest.write_block(slot + RANGE, &range)?;
        let segment = Segment::readable(slot + RANGE, 16);
        self.start(guest, queue, slot, (kind, 0), [segment])
    }

    fn ended(&mut self, guest: &mut Guest, queue: u16, used: Used) -> Result<(Tag, Status)> {
        let place = self.running.remove(&(queue, used.id));
        let unknown = || Error::device(NAME, "a request ended that was not on its way");
        let (tag, slot) = place.ok_or_else(unknown)?;
        let code = guest.read(Width::B, slot + STATUS)?;
        self.unused.push(slot);
        let why = match u8::try_from(code).unwrap_or(NO_STATUS) {
            0 => return Ok((tag, Status::Done)),
            1 => "VIRTIO_BLK_S_IOERR".to_owned(),
            2 => "VIRTIO_BLK_S_UNSUPP".to_owned(),
            NO_STATUS => "the device wrote no status".to_owned(),
            code => format!("status {code}"),
        };
        Ok((tag, Status::Failed { why }))
    }
}

fn sectors(bytes: u64) -> Result<u64> {
    if bytes.is_multiple_of(SECTOR) {
        return Ok(bytes / SECTOR);
    }
    let what = format!("{bytes} bytes are no whole sectors");
    Err(Error::device(NAME, what))
}

impl Disk for Blk {
    fn name(&self) -> &'static str {
        NAME
    }

    fn block_size(&self) -> u32 {
        self.block_size
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn features(&self) -> &Features {
        &self.features
    }

    fn submit(&mut self, guest: &mut Guest, queue: usize, request: &Request) -> Result<Tag> {
        const UNMAP: u32 = 1;
        let queue = u16::try_from(queue).unwrap_or(u16::MAX);
        match request {
            Request::Read { offset, buffer } => {
                let data = Segment::of(buffer, true);
                self.request(guest, queue, kind::IN, sectors(*offset)?, data)
            }
            Request::Write { fua: true, .. } => {
                Err(Error::device(NAME, "there are no writes with FUA"))
            }
            Request::Write { offset, buffer, .. } => {
                let data = Segment::of(buffer, false);
                self.request(guest, queue, kind::OUT, sectors(*offset)?, data)
            }
            Request::Flush => self.request(guest, queue, kind::FLUSH, 0, []),
            Request::Discard { offset, length } => {
                self.range(guest, queue, kind::DISCARD, (*offset, *length), 0)
            }
            Request::WriteZeroes {
                offset,
                length,
                unmap,
            } => {
                let flags = if *unmap { UNMAP } else { 0 };
                let range = (*offset, *length);
                self.range(guest, queue, kind::WRITE_ZEROES, range, flags)
            }
        }
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Status)>> {
        let mut all = Vec::new();
        for queue in (0..).take(self.device.queues.len()) {
            for used in self.device.take_used(guest, queue)? {
                all.push(self.ended(guest, queue, used)?);
            }
        }
        Ok(all)
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        self.set_up(guest)
    }

    fn refresh_size(&mut self, guest: &mut Guest) -> Result<u64> {
        let sectors = self.device.config(guest, Width::Q, config::CAPACITY)?;
        let size = sectors.checked_mul(SECTOR);
        let what = || Error::device(NAME, format!("a capacity of {sectors} sectors"));
        self.size = size.ok_or_else(what)?;
        Ok(self.size)
    }
}
