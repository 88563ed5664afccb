//! Which parts of the guest's memory are in use.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Gives out parts of the guest's memory.
#[derive(Clone, Debug)]
pub struct Allocator {
    end: u64,
    start: u64,
    /// Start and length of what is in use.
    used: BTreeMap<u64, u64>,
}

impl Allocator {
    /// For the addresses from `start` up to `end`.
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Self {
        Self {
            end,
            start,
            used: BTreeMap::new(),
        }
    }

    /// The address of `length` free bytes, a multiple of `align`.
    ///
    /// # Errors
    ///
    /// Fails if there is no such place.
    ///
    /// # Panics
    ///
    /// Panics if `align` is not a power of two.
    pub fn take(&mut self, length: u64, align: u64) -> Result<u64> {
        assert!(align.is_power_of_two(), "alignment {align}");
        let length = length.max(1);
        let mut at = self.start.next_multiple_of(align);
        for (&start, &taken) in &self.used {
            if at.saturating_add(length) <= start {
                break;
            }
            at = at.max((start + taken).next_multiple_of(align));
        }
        if at.saturating_add(length) > self.end {
            return Err(Error::Memory { length });
        }
        self.used.insert(at, length);
        Ok(at)
    }

    /// Gives back what [`Self::take`] gave; others are left alone.
    pub fn give_back(&mut self, address: u64) {
        self.used.remove(&address);
    }

    /// Gives everything back.
    pub fn clear(&mut self) {
        self.used.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_are_aligned_and_apart(
            steps in prop::collection::vec((1u64..5000, 0u32..13, any::<bool>()), 1..60)
        ) {
            let mut memory = Allocator::new(0x1000, 0x20000);
            let mut parts: Vec<(u64, u64)> = Vec::new();
            for (length, align, free) in steps {
                if free && let Some((at, _)) = parts.pop() {
                    memory.give_back(at);
                }
                if let Ok(at) = memory.take(length, 1 << align) {
                    prop_assert_eq!(at % (1 << align), 0);
                    prop_assert!(at >= 0x1000 && at + length <= 0x20000);
                    for &(other, taken) in &parts {
                        prop_assert!(at + length <= other || other + taken <= at);
                    }
                    parts.push((at, length));
                }
            }
        }
    }

    #[test]
    fn what_is_given_back_is_free_again() {
        let mut memory = Allocator::new(0, 64);
        let first = memory.take(64, 1).unwrap();
        assert_eq!(
            memory.take(1, 1).unwrap_err().to_string(),
            "no 1 bytes of the guest's memory are free"
        );
        memory.give_back(first);
        assert_eq!(memory.take(64, 1).unwrap(), first);
    }
}
