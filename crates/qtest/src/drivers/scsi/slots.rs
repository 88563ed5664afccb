//! Memory for the commands that a host adapter has, a part for each.

use std::collections::BTreeMap;

use crate::block::Tag;
use crate::error::Result;
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

    /// Takes one that no command has.
    pub fn take(&mut self) -> Option<u16> {
        self.unused.pop()
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

    /// Its command ended: which one it was, if there was any.
    pub fn ended(&mut self, slot: u16) -> Option<Tag> {
        let tag = self.running.remove(&slot)?;
        self.unused.push(slot);
        Some(tag)
    }

    /// Those whose commands are on their way.
    pub fn running(&self) -> impl Iterator<Item = u16> + '_ {
        self.running.keys().copied()
    }
}
