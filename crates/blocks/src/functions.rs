//! Where functions start and end, as the unwind information says.

use std::collections::HashMap;
use std::ops::Range;

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection as _};

use crate::error::Error;

/// A range of addresses that unwind information describes, and whether it is a trampoline
/// that signal handlers return to.
pub(crate) struct Described {
    pub(crate) range: Range<u64>,
    pub(crate) is_trampoline: bool,
}

/// All that `.eh_frame` at this address describes, in its order.
pub(crate) fn described(address: u64, eh_frame: &[u8]) -> Result<Vec<Described>, Error> {
    const INVALID: Error = Error::Malformed(".eh_frame");
    let bases = BaseAddresses::default().set_eh_frame(address);
    let section = EhFrame::new(eh_frame, LittleEndian);
    let mut entries = section.entries(&bases);
    let mut found = Vec::new();
    // What functions share precedes them. It is read where it stands: at places that a hostile
    // file names, it could be read again and again.
    let mut shared = HashMap::new();
    while let Some(entry) = entries.next().map_err(|_| INVALID)? {
        let partial = match entry {
            CieOrFde::Cie(cie) => {
                shared.insert(cie.offset(), cie);
                continue;
            }
            CieOrFde::Fde(partial) => partial,
        };
        let entry = partial.parse(|_, _, offset| {
            let known = shared.get(&offset.0).cloned();
            known.ok_or(gimli::Error::NotCiePointer(offset.0 as u64))
        });
        let entry = entry.map_err(|_| INVALID)?;
        let start = entry.initial_address();
        let end = start.checked_add(entry.len()).ok_or(INVALID)?;
        found.push(Described {
            range: start..end,
            is_trampoline: entry.is_signal_trampoline(),
        });
    }
    Ok(found)
}

/// For each of the ranges, which are sorted by their start and not empty: whether it overlaps
/// another.
pub(crate) fn overlaps(ranges: &[Range<u64>]) -> Vec<bool> {
    let mut overlap = vec![false; ranges.len()];
    // The range that reaches farthest. One that overlaps any earlier range overlaps it, and
    // an earlier range that is not the farthest was found to overlap one when its turn came.
    let mut farthest = 0;
    for (index, range) in ranges.iter().enumerate().skip(1) {
        if range.start < ranges[farthest].end {
            overlap[index] = true;
            overlap[farthest] = true;
        }
        if range.end > ranges[farthest].end {
            farthest = index;
        }
    }
    overlap
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_overlap_is_found(mut ranges in prop::collection::vec((0..60_u64, 1..12_u64), 0..20)) {
            ranges.sort_unstable();
            let ranges: Vec<_> = ranges.iter().map(|(start, size)| *start..start + size).collect();
            let expected: Vec<bool> = (0..ranges.len())
                .map(|this| {
                    let mut others = (0..ranges.len()).filter(|other| *other != this);
                    others.any(|other| {
                        ranges[this].start < ranges[other].end && ranges[other].start < ranges[this].end
                    })
                })
                .collect();
            prop_assert_eq!(overlaps(&ranges), expected);
        }
    }
}
