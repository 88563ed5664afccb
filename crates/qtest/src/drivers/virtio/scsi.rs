//! The host adapter of virtio: virtio 1.2, section 5.6.

use std::collections::BTreeMap;

use super::queue::Segment;
use super::{Device, Mmio, PciLegacy, PciModern, Transport, feature, id};
use crate::block::Tag;
use crate::drivers::scsi::{Command, Outcome, ScsiDisk, ScsiTransport};
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};
use crate::op::Width;

const NAME: &str = "virtio-scsi";

/// Bits of the features: section 5.6.3.
mod bit {
    pub(super) const HOTPLUG: u64 = 1 << 1;
    pub(super) const CHANGE: u64 = 1 << 2;
}

/// Places in the configuration: section 5.6.4.
mod config {
    pub(super) const NUM_QUEUES: u16 = 0;
    pub(super) const SEG_MAX: u16 = 4;
    pub(super) const SENSE_SIZE: u16 = 20;
    pub(super) const CDB_SIZE: u16 = 24;
}

/// The first queues; those for commands come behind.
const CONTROL: u16 = 0;
const EVENTS: u16 = 1;
const REQUESTS: u16 = 2;

/// Features of queues that a driver asks for.
const RING: u64 = feature::INDIRECT | feature::EVENT_INDEX | feature::PACKED;

/// In bytes, before the command descriptor block: address, number, attribute, priority.
const HEADER: u32 = 19;

/// In bytes, before the sense data: their length, what is left, qualifier, status, response.
const RESPONSE: u32 = 12;

/// Where the response is in the memory of a command.
const RESPONSE_AT: u64 = 256;
const SLOT: u64 = 512;

/// Queues and commands are no more, whatever the device allows.
const MOST_QUEUES: u16 = 8;
const MOST_COMMANDS: u16 = 64;

/// How many events the device can report before the driver takes them, and how long each is.
const EVENT_COUNT: u64 = 8;
const EVENT_LENGTH: u32 = 16;

/// What a function of task management does: section 5.6.6.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskManagement {
    /// Ends one command.
    AbortTask(Tag),
    /// Ends all commands of the initiator.
    AbortTaskSet,
    /// Ends all commands.
    ClearTaskSet,
    /// Resets all units of the target.
    NexusReset,
    /// Resets the unit.
    LogicalUnitReset,
    /// Whether a command is on its way.
    QueryTask(Tag),
    /// Whether any is.
    QueryTaskSet,
}

/// An event that a device reports: section 5.6.6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// 1: a unit came or went, 3: a parameter such as the size changed. The highest bit says
    /// that others were lost.
    pub event: u32,
    /// The address of the unit.
    pub lun: [u8; 8],
    /// More about it, depending on the event.
    pub reason: u32,
}

/// A host adapter of virtio, as the way to the unit 0 of its target 0.
#[derive(Debug)]
pub struct Scsi {
    /// The device, with its queues and its interrupts.
    pub device: Device,
    wanted: u64,
    queues: u16,
    depth: u16,
    sense_size: u32,
    cdb_size: u32,
    seg_max: u64,
    /// Memory for commands and responses.
    slots: u64,
    unused: Vec<u64>,
    /// By queue and the number there.
    running: BTreeMap<(u16, u16), (Tag, u64)>,
    /// The buffers that the device has for events, by the number in its queue.
    events: BTreeMap<u16, u64>,
    event_buffers: u64,
    next: u64,
}

impl Scsi {
    /// Sets up the device behind a transport, with these features of queues, as far as it has
    /// them: [`feature`].
    ///
    /// # Errors
    ///
    /// Fails if the device does not let itself be set up.
    pub fn open(guest: &mut Guest, transport: Box<dyn Transport>, ring: u64) -> Result<Self> {
        let mut scsi = Self {
            device: Device::new(NAME, transport),
            wanted: ring,
            queues: 0,
            depth: 0,
            sense_size: 0,
            cdb_size: 0,
            seg_max: 0,
            slots: 0,
            unused: Vec::new(),
            running: BTreeMap::new(),
            events: BTreeMap::new(),
            event_buffers: 0,
            next: 0,
        };
        scsi.set_up(guest)?;
        Ok(scsi)
    }

    /// The disk of the first one on the PCI bus, as a device of virtio 1.0 or later.
    ///
    /// # Errors
    ///
    /// As [`Self::open`] and [`ScsiDisk::open`].
    pub fn modern(guest: &mut Guest) -> Result<ScsiDisk<Self>> {
        let transport = PciModern::find(guest, NAME, id::SCSI)?;
        let scsi = Self::open(guest, Box::new(transport), RING)?;
        ScsiDisk::open(guest, scsi)
    }

    /// The disk of the first one on the PCI bus, as a legacy device with descriptors in the
    /// queue alone.
    ///
    /// # Errors
    ///
    /// As [`Self::open`] and [`ScsiDisk::open`].
    pub fn legacy(guest: &mut Guest) -> Result<ScsiDisk<Self>> {
        let transport = PciLegacy::find(guest, NAME, id::SCSI)?;
        let scsi = Self::open(guest, Box::new(transport), 0)?;
        ScsiDisk::open(guest, scsi)
    }

    /// The disk of the first one with registers in memory.
    ///
    /// # Errors
    ///
    /// As [`Self::open`] and [`ScsiDisk::open`].
    pub fn mmio(guest: &mut Guest) -> Result<ScsiDisk<Self>> {
        let transport = Mmio::find(guest, NAME, id::SCSI)?;
        let scsi = Self::open(guest, Box::new(transport), RING)?;
        ScsiDisk::open(guest, scsi)
    }

    fn set_up(&mut self, guest: &mut Guest) -> Result<()> {
        let wanted = bit::HOTPLUG | bit::CHANGE | self.wanted;
        self.device.negotiate(guest, wanted)?;
        let mut number = |offset| self.device.config(guest, Width::L, offset);
        let queues = number(config::NUM_QUEUES)?;
        let sizes = (number(config::SENSE_SIZE)?, number(config::CDB_SIZE)?);
        self.seg_max = number(config::SEG_MAX)?.max(1);
        let most = (
            SLOT - RESPONSE_AT - u64::from(RESPONSE),
            RESPONSE_AT - u64::from(HEADER),
        );
        if sizes.0 > most.0 || sizes.1 > most.1 {
            let what = format!(
                "commands of {} and sense data of {} bytes",
                sizes.1, sizes.0
            );
            return Err(Error::device(NAME, what));
        }
        #[expect(clippy::cast_possible_truncation, reason = "below the size of a slot")]
        {
            (self.sense_size, self.cdb_size) = (sizes.0 as u32, sizes.1 as u32);
        }
        self.queues = u16::try_from(queues).unwrap_or(1).clamp(1, MOST_QUEUES);
        self.device.start(guest, REQUESTS + self.queues)?;
        let sizes = self.device.queues.iter().map(|queue| queue.areas().size);
        let mut depth = sizes.min().unwrap_or(1).min(MOST_COMMANDS);
        if !self.device.has(feature::INDIRECT) {
            // Command, data and response.
            depth /= 3;
        }
        self.depth = depth.max(1);
        for memory in [self.slots, self.event_buffers] {
            if memory != 0 {
                guest.free(memory);
            }
        }
        let slots = u64::from(self.depth) * u64::from(self.queues);
        self.slots = guest.allocate(slots * SLOT, SLOT)?;
        self.unused = (0..slots).rev().map(|n| self.slots + n * SLOT).collect();
        self.running.clear();
        self.events.clear();
        self.event_buffers = guest.allocate(EVENT_COUNT * u64::from(EVENT_LENGTH), 16)?;
        for n in 0..EVENT_COUNT {
            self.offer_event(guest, self.event_buffers + n * u64::from(EVENT_LENGTH))?;
        }
        Ok(())
    }

    fn offer_event(&mut self, guest: &mut Guest, at: u64) -> Result<()> {
        let segment = Segment::writable(at, EVENT_LENGTH);
        let id = self.device.submit(guest, EVENTS, &[segment])?;
        self.events.insert(id, at);
        Ok(())
    }

    /// The events that the device reported since the last call.
    ///
    /// # Errors
    ///
    /// As [`Device::take_used`].
    pub fn events(&mut self, guest: &mut Guest) -> Result<Vec<Event>> {
        let mut all = Vec::new();
        for used in self.device.take_used(guest, EVENTS)? {
            let Some(at) = self.events.remove(&used.id) else {
                continue;
            };
            let bytes = guest.read_block(at, EVENT_LENGTH.into())?;
            let mut lun = [0; 8];
            lun.copy_from_slice(&bytes[4..12]);
            all.push(Event {
                event: le32(&bytes, 0),
                lun,
                reason: le32(&bytes, 12),
            });
            self.offer_event(guest, at)?;
        }
        Ok(all)
    }

    /// Asks for a function of task management; the response: 0 and 10 say that it was done.
    ///
    /// # Errors
    ///
    /// Fails if the device does not answer.
    pub fn manage(&mut self, guest: &mut Guest, what: TaskManagement) -> Result<u8> {
        const NO_RESPONSE: u8 = 0xff;
        let (subtype, tag): (u32, u64) = match what {
            TaskManagement::AbortTask(tag) => (0, tag.0),
            TaskManagement::AbortTaskSet => (1, 0),
            TaskManagement::ClearTaskSet => (3, 0),
            TaskManagement::NexusReset => (4, 0),
            TaskManagement::LogicalUnitReset => (5, 0),
            TaskManagement::QueryTask(tag) => (6, tag.0),
            TaskManagement::QueryTaskSet => (7, 0),
        };
        let at = guest.allocate(32, 32)?;
        let mut bytes = vec![0; 4];
        bytes.extend(subtype.to_le_bytes());
        bytes.extend(LUN);
        bytes.extend(tag.to_le_bytes());
        bytes.push(NO_RESPONSE);
        guest.label("virtio-scsi task management");
        guest.write_block(at, &bytes)?;
        let segments = [Segment::readable(at, 24), Segment::writable(at + 24, 1)];
        self.device.submit(guest, CONTROL, &segments)?;
        let device = &mut self.device;
        guest.wait(NAME, "the end of a task management function", |guest| {
            Ok((!device.take_used(guest, CONTROL)?.is_empty()).then_some(()))
        })?;
        #[expect(clippy::cast_possible_truncation, reason = "one byte")]
        let response = guest.read(Width::B, at + 24)? as u8;
        guest.free(at);
        Ok(response)
    }

    fn outcome(&self, guest: &mut Guest, slot: u64) -> Result<Outcome> {
        let length = RESPONSE + self.sense_size;
        let bytes = guest.read_block(slot + RESPONSE_AT, length.into())?;
        let (status, response) = (bytes[10], bytes[11]);
        if response != 0 {
            let why = response_words(response);
            return Ok(Outcome::Lost { why });
        }
        let sense_length = le32(&bytes, 0).min(self.sense_size) as usize;
        let sense = bytes[RESPONSE as usize..][..sense_length].to_vec();
        Ok(Outcome::Ended { status, sense })
    }
}

/// Unit 0 of target 0: section 5.6.6.1.
const LUN: [u8; 8] = [1, 0, 0x40, 0, 0, 0, 0, 0];

fn le32(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 4).unwrap_or_default().iter().rev();
    field.fold(0, |value, &b| value << 8 | u32::from(b))
}

/// What a response is called: section 5.6.6.1.1.
fn response_words(response: u8) -> String {
    const NAMES: [&str; 13] = [
        "OK",
        "OVERRUN",
        "ABORTED",
        "BAD_TARGET",
        "RESET",
        "BUSY",
        "TRANSPORT_FAILURE",
        "TARGET_FAILURE",
        "NEXUS_FAILURE",
        "FAILURE",
        "FUNCTION_SUCCEEDED",
        "FUNCTION_REJECTED",
        "INCORRECT_LUN",
    ];
    match NAMES.get(usize::from(response)) {
        Some(name) => format!("VIRTIO_SCSI_S_{name}"),
        None => format!("response {response}"),
    }
}

impl ScsiTransport for Scsi {
    fn name(&self) -> &'static str {
        NAME
    }

    fn depth(&self) -> usize {
        self.depth.into()
    }

    fn queues(&self) -> usize {
        self.queues.into()
    }

    fn longest(&self) -> u64 {
        32 << 20
    }

    fn scatter(&self) -> bool {
        self.seg_max > 1
    }

    fn long_commands(&self) -> bool {
        true
    }

    fn start(&mut self, guest: &mut Guest, queue: usize, command: &Command) -> Result<Tag> {
        let full = || Error::device(NAME, "too many commands are on their way");
        if command.cdb.len() > self.cdb_size as usize {
            let what = format!("a command of {} bytes", command.cdb.len());
            return Err(Error::device(NAME, what));
        }
        let queue = u16::try_from(queue).map_or(u16::MAX, |queue| queue.saturating_add(REQUESTS));
        let slot = self.unused.pop().ok_or_else(full)?;
        let tag = Tag(self.next);
        let mut header = LUN.to_vec();
        header.extend(tag.0.to_le_bytes());
        header.extend([0; 3]);
        header.extend(&command.cdb);
        header.resize((HEADER + self.cdb_size) as usize, 0);
        guest.label("virtio-scsi command");
        guest.write_block(slot, &header)?;
        let response = (slot + RESPONSE_AT, RESPONSE + self.sense_size);
        let none = Buffer::default();
        let data = command.data.buffer().unwrap_or(&none);
        let (data_in, data_out) = if command.data.is_in() {
            (data, &none)
        } else {
            (&none, data)
        };
        let mut segments = vec![Segment::readable(slot, HEADER + self.cdb_size)];
        segments.extend(Segment::of(data_out, false));
        segments.push(Segment::writable(response.0, response.1));
        segments.extend(Segment::of(data_in, true));
        match self.device.submit(guest, queue, &segments) {
            Ok(id) => {
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

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Outcome)>> {
        let mut all = Vec::new();
        for queue in (REQUESTS..).take(self.queues.into()) {
            for used in self.device.take_used(guest, queue)? {
                let unknown = || Error::device(NAME, "a command ended that was not on its way");
                let place = self.running.remove(&(queue, used.id));
                let (tag, slot) = place.ok_or_else(unknown)?;
                let outcome = self.outcome(guest, slot)?;
                self.unused.push(slot);
                all.push((tag, outcome));
            }
        }
        Ok(all)
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        self.set_up(guest)
    }
}
