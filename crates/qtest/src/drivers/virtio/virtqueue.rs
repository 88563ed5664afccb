//! A queue of either layout.

use super::Areas;
use super::packed::PackedQueue;
use super::queue::{Options, Segment, Used};
use super::split::SplitQueue;
use crate::error::Result;
use crate::guest::Guest;

/// A queue in the guest's memory.
#[derive(Debug)]
pub enum Virtqueue {
    /// With a table and two rings.
    Split(SplitQueue),
    /// With one ring.
    Packed(PackedQueue),
}

impl Virtqueue {
    /// An empty one with `size` descriptors.
    ///
    /// # Errors
    ///
    /// As [`Guest::allocate`].
    pub fn new(guest: &mut Guest, size: u16, options: Options) -> Result<Self> {
        Ok(if options.packed {
            Self::Packed(PackedQueue::new(guest, size, options)?)
        } else {
            Self::Split(SplitQueue::new(guest, size, options)?)
        })
    }

    /// Where its parts are.
    #[must_use]
    pub const fn areas(&self) -> &Areas {
        match self {
            Self::Split(queue) => &queue.areas,
            Self::Packed(queue) => &queue.areas,
        }
    }

    /// Puts a request into the queue: what the device reads first, then what it writes. The
    /// number is unique among those that the device is not done with.
    ///
    /// # Errors
    ///
    /// Fails if there is no room, or as [`Guest::run`].
    pub fn add(&mut self, guest: &mut Guest, segments: &[Segment]) -> Result<u16> {
        match self {
            Self::Split(queue) => queue.add(guest, segments),
            Self::Packed(queue) => queue.add(guest, segments),
        }
    }

    /// Whether the device wants a notification of what was added since the last call.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub fn wants_notification(&mut self, guest: &mut Guest) -> Result<bool> {
        match self {
            Self::Split(queue) => queue.wants_notification(guest),
            Self::Packed(queue) => queue.wants_notification(guest),
        }
    }

    /// Takes what the device is done with, without waiting.
    ///
    /// # Errors
    ///
    /// Fails if the device gives back what it did not get, or as [`Guest::run`].
    pub fn take_used(&mut self, guest: &mut Guest) -> Result<Vec<Used>> {
        match self {
            Self::Split(queue) => queue.take_used(guest),
            Self::Packed(queue) => queue.take_used(guest),
        }
    }

    /// How many requests the device is not done with.
    #[must_use]
    pub fn waiting(&self) -> usize {
        match self {
            Self::Split(queue) => queue.waiting(),
            Self::Packed(queue) => queue.waiting(),
        }
    }

    /// Gives its memory back.
    pub fn free(self, guest: &mut Guest) {
        match self {
            Self::Split(queue) => queue.free(guest),
            Self::Packed(queue) => queue.free(guest),
        }
    }
}
