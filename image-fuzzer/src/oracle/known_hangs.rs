//! Places where programs are known to hang: a run at one of these need not be waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::signature::Signature;

/// The hangs whose stack is known. Clones share what they know.
#[derive(Clone, Debug, Default)]
pub struct KnownHangs(Arc<Mutex<BTreeMap<Signature, Known>>>);

/// What is known of the place of a hang.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// How often a run was seen there.
    seen: u32,
    /// Whether one of them exited: some are only slow there.
    doubtful: bool,
}

impl KnownHangs {
    /// These hangs; those without a stack are left out.
    pub fn new(hangs: impl IntoIterator<Item = Signature>) -> Self {
        let known = Self::default();
        hangs.into_iter().for_each(|hang| known.insert(hang));
        known
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<Signature, Known>) -> T) -> T {
        // A thread that panicked with the lock left the map consistent.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether none is known.
    pub(super) fn is_empty(&self) -> bool {
        self.with(|hangs| hangs.is_empty())
    }

    /// Does something with what is known of a hang, if it is one of these.
    fn at<T>(&self, hang: &Signature, act: impl FnOnce(&mut Known) -> T) -> Option<T> {
        hang.frames()?;
        self.with(|hangs| {
            let mut hangs = hangs.iter_mut();
            let known = hangs.find(|(known, _)| known.may_be_hang(hang));
            known.map(|(_, known)| act(known))
        })
    }

    /// Whether a run that was seen at the place of one of these need
    /// not be waited for. The first, the fourth, the sixteenth, ... is waited for, to find out
    /// whether some are only slow there.
    pub(super) fn is_sure(&self, hang: &Signature) -> bool {
        let sure = |known: &mut Known| {
            known.seen = known.seen.saturating_add(1);
            let waited_for =
                known.seen.is_power_of_two() && known.seen.trailing_zeros().is_multiple_of(2);
            !known.doubtful && !waited_for
        };
        self.at(hang, sure).unwrap_or(false)
    }

    /// Notes that a run was seen there and exited.
    pub(super) fn doubt(&self, hang: &Signature) {
        self.at(hang, |known| known.doubtful = true);
    }

    /// Adds a hang, if its stack is known.
    pub(super) fn insert(&self, hang: Signature) {
        if hang.frames().is_some() {
            self.with(|hangs| {
                hangs.entry(hang).or_default();
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that was slow where another one had hung was once taken for a hang every time.
    #[test]
    fn a_known_hang_is_waited_for_now_and_then() {
        let hang = Signature::hang("hung in a < b");
        let hangs = KnownHangs::new([hang.clone()]);
        let sure = |_| hangs.is_sure(&hang);
        let seen: Vec<bool> = (0..5).map(sure).collect();
        assert_eq!(seen, [false, true, true, false, true]);
        for other in ["hung in c", "tool"] {
            assert!(!hangs.is_sure(&Signature::hang(other)), "{other}");
        }
        hangs.doubt(&hang);
        assert_eq!((0..20).filter(|_| hangs.is_sure(&hang)).count(), 0);
    }
}
