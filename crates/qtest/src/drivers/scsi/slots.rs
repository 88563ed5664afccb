//! Memory for the commands that a host adapter has, a part for each.

use std::collections::BTreeMap;

use crate::block::Tag;
use crate::error::{Error, Result};
use crate::guest::Guest;

/// Parts of the guest's memory of one length, each for a command on its way.
#[derive(Debug, Default)]
pub struct Slots {
    memory: u64,
    length: u64,
    unused: Vec<u16>,
    running: BTreeMap<u16, Tag>,
    next: u64,
}

impl Slots {
    /// Gives what was there back, and makes `count` of them of `length` bytes, a power of two
    /// to which they are aligned. Numbers of commands go on.
    ///
    /// # Errors
    ///
    /// As [`Guest::allocate`].
    pub fn renew(&mut self, guest: &mut Guest, count: u16, length: u64) -> Result<()> {
        if self.length != 0 {
            guest.free(self.memory);
        }
        self.memory = guest.allocate(u64::from(count) * length, length)?;
        self.length = length;
        self.unused = (0..count).rev().collect();
        self.running.clear();
        Ok(())
    }

    /// The address of one.
    #[must_use]
    pub fn address(&self, slot: u16) -> u64 {
        self.memory + u64::from(slot) * self.length
    }

    /// Takes one that no command of the adapter `device` has.
    ///
    /// # Errors
    ///
    /// Fails if all have one.
    pub fn take(&mut self, device: &'static str) -> Result<u16> {
        let full = || Error::device(device, "too many commands are on their way");
        self.unused.pop().ok_or_else(full)
    }

    /// Gives back one whose command was not started.
    pub fn give_back(&mut self, slot: u16) {
        self.unused.push(slot);
    }

    /// Its command is on its way from now on.
    pub fn started(&mut self, slot: u16) -> Tag {
        let tag = Tag(self.next);
        self.next += 1;
        self.running.insert(slot, tag);
        tag
    }

    /// Its command was sent and is on its way, or could not be, and the slot is free again.
    ///
    /// # Errors
    ///
    /// That of `sent`.
    pub fn sent(&mut self, slot: u16, sent: Result<()>) -> Result<Tag> {
        match sent {
            Ok(()) => Ok(self.started(slot)),
            Err(error) => {
                self.give_back(slot);
                Err(error)
            }
        }
    }

    /// The adapter `device` says that the command of a slot ended: the slot, and which command it
    /// was.
    ///
    /// # Errors
    ///
    /// Fails if there was none.
    pub fn ended(&mut self, device: &'static str, slot: u64) -> Result<(u16, Tag)> {
        let ended = u16::try_from(slot)
            .ok()
            .and_then(|slot| Some((slot, self.running.remove(&slot)?)));
        let unknown = || Error::device(device, "a command ended that was not on its way");
        let (slot, tag) = ended.ok_or_else(unknown)?;
        self.unused.push(slot);
        Ok((slot, tag))
    }

    /// Those whose commands are on their way.
    pub fn running(&self) -> impl Iterator<Item = u16> + '_ {
        self.running.keys().copied()
    }
}
