//! How requests get to the controller and back: a list with a doorbell for each (UFSHCI 4.0,
//! section 6.1), or queues in memory (section 6.5).

use super::controller::{Controller, register};
use super::{DESCRIPTOR, NAME};
use crate::drivers::scsi::Slots;
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;

/// The overall command status of a request on its way.
pub(super) const NOT_ENDED: u32 = 0x0f;

/// What it says of a request that ended (section 6.1.1), none if it is success.
const STATUSES: &[(u32, &str)] = &[
    (0x1, "invalid command table attributes"),
    (0x2, "invalid PRDT attributes"),
    (0x3, "mismatch data buffer size"),
    (0x4, "mismatch response UPIU size"),
    (0x5, "peer communication failure"),
    (0x6, "aborted"),
    (0x7, "host controller fatal error"),
    (0x8, "device fatal error"),
    (NOT_ENDED, "invalid OCS value"),
];

/// How many entries a queue has, and how long those of completions are in bytes.
const LENGTH: u64 = 32;
const COMPLETION: u64 = 32;

/// Registers with the places of a queue (section 5.8.1), for each queue.
mod place {
    pub(super) const LENGTH: u64 = 0x40;
    pub(super) const SUBMISSION: u64 = 0x00;
    pub(super) const COMPLETION: u64 = 0x20;
    pub(super) const ATTRIBUTES: u64 = 0x00;
    pub(super) const BASE: u64 = 0x04;
    pub(super) const BASE_HIGH: u64 = 0x08;
    pub(super) const DOORBELLS: u64 = 0x0c;
}

/// Doorbells of a queue: where its head and its tail are, in bytes.
const HEAD: u64 = 0;
const TAIL: u64 = 4;

/// Attributes: enabled; the length is in words of four bytes, less one.
const ENABLED: u64 = 1 << 31;

/// A submission and a completion queue.
#[derive(Clone, Copy, Debug)]
struct Pair {
    /// Where the registers with its places are.
    places: u64,
    submission: u64,
    completion: u64,
    /// Where the doorbells of both are.
    submission_doorbells: u64,
    completion_doorbells: u64,
    /// In entries.
    tail: u64,
    head: u64,
}

/// What the controller has.
#[derive(Debug)]
pub(super) struct Queues {
    /// The list of requests, where there are no queues.
    list: u64,
    slots: u16,
    /// A bit for each request of the list on its way.
    running: u32,
    pairs: Vec<Pair>,
    /// The status of each request that ended in a queue.
    statuses: Vec<u32>,
}

impl Queues {
    /// Takes memory for what a controller has.
    ///
    /// # Errors
    ///
    /// As [`Guest::allocate`].
    pub(super) fn new(guest: &mut Guest, controller: &Controller) -> Result<Self> {
        let list = guest.allocate(DESCRIPTOR * u64::from(controller.slots), 1024)?;
        let mut pairs = Vec::new();
        let (count, places) = controller.queues.unwrap_or_default();
        for number in 0..u64::from(count) {
            pairs.push(Pair {
                places: places + place::LENGTH * number,
                submission: guest.allocate(DESCRIPTOR * LENGTH, 1024)?,
                completion: guest.allocate(COMPLETION * LENGTH, 1024)?,
                submission_doorbells: 0,
                completion_doorbells: 0,
                tail: 0,
                head: 0,
            });
        }
        Ok(Self {
            list,
            // One entry of a queue stays empty, since a full one looks like an empty one.
            slots: controller.slots.min(LENGTH as u16 - u16::from(count > 0)),
            running: 0,
            pairs,
            statuses: vec![0; LENGTH as usize],
        })
    }

    /// How many requests can be on their way.
    pub(super) const fn depth(&self) -> u16 {
        self.slots
    }

    /// How many queues there are.
    pub(super) fn count(&self) -> usize {
        self.pairs.len().max(1)
    }

    /// Tells the controller where the list or the queues are.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn start(&mut self, guest: &mut Guest, controller: &Controller) -> Result<()> {
        self.running = 0;
        if self.pairs.is_empty() {
            let label = "ufs request list base";
            let (low, high) = (self.list & 0xffff_ffff, self.list >> 32);
            controller.write(guest, label, register::LIST, low)?;
            controller.write(guest, label, register::LIST_HIGH, high)?;
            return controller.write(guest, "ufs request list run", register::RUN, 1);
        }
        let at = register::CONFIGURATION;
        controller.write(guest, "ufs configuration", at, 1)?;
        for (number, pair) in (0u64..).zip(&mut self.pairs) {
            let completion = pair.places + place::COMPLETION;
            let submission = pair.places + place::SUBMISSION;
            pair.completion_doorbells = controller.read(guest, completion + place::DOORBELLS)?;
            pair.submission_doorbells = controller.read(guest, submission + place::DOORBELLS)?;
            // A queue goes on where its doorbells are: those of one that is not there are left
            // alone, since QEMU 10.0 crashes when they are written.
            let tail = controller.read(guest, pair.submission_doorbells + TAIL)?;
            let head = controller.read(guest, pair.completion_doorbells + HEAD)?;
            pair.tail = tail / DESCRIPTOR % LENGTH;
            pair.head = head / COMPLETION % LENGTH;
            let queues = [
                (completion, pair.completion, COMPLETION, 0),
                (submission, pair.submission, DESCRIPTOR, number << 16),
            ];
            for (places, base, entry, to) in queues {
                let label = "ufs queue base";
                controller.write(guest, label, places + place::BASE, base & 0xffff_ffff)?;
                controller.write(guest, label, places + place::BASE_HIGH, base >> 32)?;
                let attributes = ENABLED | to | (entry * LENGTH / 4 - 1);
                let at = places + place::ATTRIBUTES;
                controller.write(guest, "ufs queue attributes", at, attributes)?;
            }
        }
        Ok(())
    }

    /// Takes the queues away from the controller, before it is reset.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn stop(&self, guest: &mut Guest, controller: &Controller) -> Result<()> {
        for pair in &self.pairs {
            for queue in [place::SUBMISSION, place::COMPLETION] {
                let at = pair.places + queue + place::ATTRIBUTES;
                controller.write(guest, "ufs queue attributes", at, 0)?;
            }
        }
        Ok(())
    }

    /// Sends the descriptor of a request on a queue.
    ///
    /// # Errors
    ///
    /// Fails if there is no such queue.
    pub(super) fn send(
        &mut self,
        guest: &mut Guest,
        controller: &Controller,
        queue: usize,
        slot: u16,
        descriptor: &[u8],
    ) -> Result<()> {
        guest.label("ufs request descriptor");
        if self.pairs.is_empty() {
            guest.write_block(self.list + DESCRIPTOR * u64::from(slot), descriptor)?;
            self.running |= 1 << slot;
            let at = register::DOORBELL;
            return controller.write(guest, "ufs request doorbell", at, 1 << slot);
        }
        let none = || Error::device(NAME, format!("there is no queue {queue}"));
        let pair = self.pairs.get_mut(queue).ok_or_else(none)?;
        guest.write_block(pair.submission + DESCRIPTOR * pair.tail, descriptor)?;
        pair.tail = (pair.tail + 1) % LENGTH;
        let at = pair.submission_doorbells + TAIL;
        controller.write(guest, "ufs queue doorbell", at, pair.tail * DESCRIPTOR)
    }

    /// The requests that ended since the last call.
    ///
    /// # Errors
    ///
    /// Fails if one ended that was not sent.
    pub(super) fn ended(
        &mut self,
        guest: &mut Guest,
        controller: &Controller,
        slots: &Slots,
    ) -> Result<Vec<u16>> {
        if self.pairs.is_empty() {
            return self.ended_in_list(guest, controller);
        }
        let mut all = Vec::new();
        for pair in &mut self.pairs {
            let tail = controller.read(guest, pair.completion_doorbells + TAIL)? / COMPLETION;
            if tail >= LENGTH {
                return Err(Error::device(NAME, "a completion queue goes too far"));
            }
            if tail == pair.head {
                continue;
            }
            while pair.head != tail {
                let at = pair.completion + COMPLETION * pair.head;
                let bytes = guest.read_block(at, COMPLETION)?;
                let mut address = [0; 8];
                address.copy_from_slice(&bytes[..8]);
                // The lowest bits are the number of the queue.
                let address = u64::from_le_bytes(address) & !0x7f;
                let slot = slots.running().find(|s| slots.address(*s) == address);
                let unknown = || Error::device(NAME, "a request ended that was not sent");
                let slot = slot.ok_or_else(unknown)?;
                self.statuses[usize::from(slot)] = u32::from(bytes[16] & 15);
                all.push(slot);
                pair.head = (pair.head + 1) % LENGTH;
            }
            let at = pair.completion_doorbells + HEAD;
            controller.write(guest, "ufs queue doorbell", at, pair.head * COMPLETION)?;
        }
        Ok(all)
    }

    fn ended_in_list(&mut self, guest: &mut Guest, controller: &Controller) -> Result<Vec<u16>> {
        if self.running == 0 {
            return Ok(Vec::new());
        }
        let busy = controller.read(guest, register::DOORBELL)?;
        let ended: Vec<u16> = (0..32)
            .filter(|slot| self.running & 1 << slot != 0 && busy & 1 << slot == 0)
            .collect();
        if ended.is_empty() {
            return Ok(ended);
        }
        let mut bits = 0;
        for &slot in &ended {
            bits |= 1 << slot;
            let at = self.list + DESCRIPTOR * u64::from(slot) + 8;
            let status = guest.read(Width::L, at)? & 0xff;
            self.statuses[usize::from(slot)] = u32::try_from(status).unwrap_or(NOT_ENDED);
        }
        self.running &= !bits;
        let at = register::COMPLETED;
        controller.write(guest, "ufs request completion", at, bits.into())?;
        let at = register::INTERRUPT_STATUS;
        controller.write(guest, "ufs interrupt status", at, 1)?;
        Ok(ended)
    }

    /// What the controller says of a request that ended; nothing if that is success.
    pub(super) fn problem(&self, slot: u16) -> Option<String> {
        let status = *self.statuses.get(usize::from(slot))?;
        if status == 0 {
            return None;
        }
        let known = STATUSES.iter().find(|(code, _)| *code == status);
        Some(known.map_or_else(
            || format!("overall command status {status:#x}"),
            |(_, text)| (*text).to_owned(),
        ))
    }
}
