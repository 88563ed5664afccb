//! A device that is set up: virtio 1.2, section 3.1.

use super::queue::{Options, Segment, Used};
use super::virtqueue::Virtqueue;
use super::{Transport, feature, status};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;
use crate::pci::Msix;

/// Queues are no larger, whatever the device allows: they take the guest's memory.
const LARGEST_QUEUE: u16 = 256;

/// A device, the features that were agreed on, and its queues.
#[derive(Debug)]
pub struct Device {
    name: &'static str,
    /// How it is reached.
    pub transport: Box<dyn Transport>,
    /// What the driver and the device agreed on.
    pub features: u64,
    /// In the order of their numbers.
    pub queues: Vec<Virtqueue>,
    msix: Option<Msix>,
    messages: bool,
}

impl Device {
    /// One that is not set up yet: [`Self::negotiate`].
    #[must_use]
    pub fn new(name: &'static str, transport: Box<dyn Transport>) -> Self {
        Self {
            name,
            transport,
            features: 0,
            queues: Vec::new(),
            msix: None,
            messages: false,
        }
    }

    /// Resets the device and agrees with it on those of the features `wanted` that it has.
    ///
    /// # Errors
    ///
    /// Fails if the device does not reset, or refuses the features.
    pub fn negotiate(&mut self, guest: &mut Guest, wanted: u64) -> Result<()> {
        self.transport.set_status(guest, 0)?;
        let transport = &mut self.transport;
        guest.wait(self.name, "the reset of the device", |guest| {
            Ok((transport.status(guest)? == 0).then_some(()))
        })?;
        if let Some(msix) = self.msix.take() {
            msix.free(guest);
        }
        for queue in self.queues.drain(..) {
            queue.free(guest);
        }
        self.transport.set_status(guest, status::ACKNOWLEDGE)?;
        self.add_status(guest, status::DRIVER)?;
        let offered = self.transport.features(guest)?;
        self.features = offered & wanted;
        if !self.transport.is_legacy() {
            self.features |= feature::VERSION_1;
        }
        self.transport.set_features(guest, self.features)?;
        if !self.transport.is_legacy() {
            self.add_status(guest, status::FEATURES_OK)?;
            if self.transport.status(guest)? & status::FEATURES_OK == 0 {
                let what = format!("refuses the features {:#x}", self.features);
                return Err(Error::device(self.name, what));
            }
        }
        Ok(())
    }

    fn add_status(&mut self, guest: &mut Guest, bit: u8) -> Result<()> {
        let now = self.transport.status(guest)?;
        self.transport.set_status(guest, now | bit)
    }

    /// Whether a feature was agreed on.
    #[must_use]
    pub const fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Sets up so many queues, and sets DRIVER_OK.
    ///
    /// # Errors
    ///
    /// Fails if the device does not have as many.
    pub fn start(&mut self, guest: &mut Guest, queues: u16) -> Result<()> {
        let options = Options {
            packed: self.has(feature::PACKED),
            indirect: self.has(feature::INDIRECT),
            event_index: self.has(feature::EVENT_INDEX),
        };
        for number in 0..queues {
            let size = self.transport.queue_size(guest, number)?;
            if size == 0 {
                let what = format!("there is no queue {number}");
                return Err(Error::device(self.name, what));
            }
            // A legacy device over PCI says how large a queue is.
            let size = if self.transport.is_legacy() {
                size
            } else {
                size.min(LARGEST_QUEUE)
            };
            let queue = Virtqueue::new(guest, size, options)?;
            self.transport.enable_queue(guest, number, queue.areas())?;
            self.queues.push(queue);
        }
        if self.messages {
            self.msix = self.transport.use_messages(guest, queues)?;
        }
        self.add_status(guest, status::DRIVER_OK)
    }

    /// Lets interrupts be messages from now on, after resets too; whether the device can. Before
    /// that they are the bits of a register.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub fn use_messages(&mut self, guest: &mut Guest) -> Result<bool> {
        self.messages = true;
        if self.msix.is_none() {
            let queues = u16::try_from(self.queues.len()).unwrap_or(u16::MAX);
            self.msix = self.transport.use_messages(guest, queues)?;
        }
        Ok(self.msix.is_some())
    }

    /// Whether the device interrupted since the last call: for a queue, or for its
    /// configuration where there is none.
    ///
    /// Without messages one register is for all queues, and reading clears it.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub fn interrupted(&mut self, guest: &mut Guest, queue: Option<u16>) -> Result<bool> {
        if let Some(msix) = &self.msix {
            let vector = queue.map_or(0, |queue| super::vector(msix, queue));
            return msix.take(guest, vector);
        }
        let bit = if queue.is_some() { 1 } else { 2 };
        Ok(self.transport.interrupt_status(guest)? & bit != 0)
    }

    /// Puts a request into a queue, and notifies the device if it wants notifications.
    ///
    /// # Errors
    ///
    /// Fails if there is no such queue or no room in it.
    pub fn submit(&mut self, guest: &mut Guest, queue: u16, segments: &[Segment]) -> Result<u16> {
        let name = self.name;
        let ring = self.queues.get_mut(usize::from(queue));
        let ring = ring.ok_or_else(|| Error::device(name, format!("there is no queue {queue}")))?;
        let id = ring.add(guest, segments)?;
        if ring.wants_notification(guest)? {
            self.transport.notify(guest, queue)?;
        }
        Ok(id)
    }

    /// Takes what the device is done with from a queue, without waiting.
    ///
    /// # Errors
    ///
    /// Fails if the device says that it needs a reset, or as [`Virtqueue::take_used`].
    pub fn take_used(&mut self, guest: &mut Guest, queue: u16) -> Result<Vec<Used>> {
        let Some(ring) = self.queues.get_mut(usize::from(queue)) else {
            return Ok(Vec::new());
        };
        if ring.waiting() == 0 {
            return Ok(Vec::new());
        }
        let used = ring.take_used(guest)?;
        if used.is_empty() && self.transport.status(guest)? & status::NEEDS_RESET != 0 {
            return Err(Error::device(self.name, "the device needs a reset"));
        }
        Ok(used)
    }

    /// Reads from the configuration of the device, at once as far as a change on the way would
    /// be noticed.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub fn config(&mut self, guest: &mut Guest, width: Width, offset: u16) -> Result<u64> {
        let transport = &mut self.transport;
        guest.wait(
            self.name,
            "the end of changes to the configuration",
            |guest| {
                let before = transport.generation(guest)?;
                let value = transport.config(guest, width, offset)?;
                Ok((transport.generation(guest)? == before).then_some(value))
            },
        )
    }
}
