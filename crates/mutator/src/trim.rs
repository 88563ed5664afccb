//! Smaller and simpler inputs, by structure, for engines that try whether they do the same.

use std::collections::BTreeMap;
use std::ops::Range;

use image_formats::{Field, Kind, ReadAt as _, Value};
use image_mutations::edit::Mutation;

use crate::cross_over::instance;
use crate::decoded::{Decoded, bytes_of};
use crate::origins::Origin;
use crate::repair::repaired;

/// The most structures that are cleared one by one, and the most texts that are shortened.
const MAX_STRUCTURES: usize = 64;
const MAX_TEXTS: usize = 32;

/// The most ends of structures that the file is cut at.
const MAX_CUTS: usize = 12;

/// Shorter runs between fields are not cleared.
const SHORTEST_RUN: u64 = 16;

/// Steps that make an input smaller or simpler, each tried on what the steps before left:
/// edits that the mutator made are undone, the end of the file is cut, guest data and whole
/// structures become zeros, names become shorter. No candidate is longer than the input, and
/// there are at most a few hundred.
///
/// ```
/// use image_mutator::{Format, Mutator, seeds};
///
/// let image = seeds(Format::Qcow2, 1, 1 << 20, "a seed").remove(0);
/// let mut trim = Mutator::new(1).trim(&image);
/// while let Some(candidate) = trim.candidate() {
///     // An engine runs the candidate, and compares what it reached.
///     let same = candidate.starts_with(b"QFI\xfb");
///     trim.outcome(same);
/// }
/// assert!(trim.best().len() <= image.len());
/// ```
#[derive(Debug)]
pub struct Trim {
    best: Vec<u8>,
    origin: Option<(Decoded, Vec<Mutation>)>,
    steps: Vec<Step>,
    next: usize,
    candidate: Vec<u8>,
}

/// One way to make an input simpler.
#[derive(Clone, Debug)]
enum Step {
    /// Without the edit of that number from the end.
    Undo(usize),
    /// Only so many bytes.
    Cut(usize),
    /// Zeros in these ranges.
    Clear(Vec<Range<usize>>),
    /// A text of at most so many bytes at this path.
    Shorten(String, usize),
}

impl Trim {
    /// The steps for an input, the edits of which can be undone where its origin is known.
    pub(crate) fn new(data: &[u8], origin: Option<Origin>) -> Self {
        let origin = origin.and_then(|origin| {
            let decoded = Decoded::of(&origin.bytes, None)?;
            Some((decoded, origin.edits))
        });
        let edits = origin.as_ref().map_or(0, |(_, edits)| edits.len());
        let mut steps: Vec<Step> = (0..edits).map(Step::Undo).collect();
        match Decoded::of(data, None) {
            Some(decoded) => steps.extend(by_structure(&decoded)),
            None => steps.extend(by_bytes(data)),
        }
        Self {
            best: data.to_vec(),
            origin,
            steps,
            next: 0,
            candidate: Vec::new(),
        }
    }

    /// How many steps there are.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// The smallest or simplest input so far that did the same.
    #[must_use]
    pub fn best(&self) -> &[u8] {
        &self.best
    }

    /// The input to try next, after [`repaired`]; `None` where no step is left that changes
    /// anything.
    pub fn candidate(&mut self) -> Option<&[u8]> {
        while let Some(step) = self.steps.get(self.next).cloned() {
            let made = self.made(&step).map(|made| repaired(&made).unwrap_or(made));
            let useful = |made: &Vec<u8>| made.len() <= self.best.len() && *made != self.best;
            if let Some(made) = made.filter(useful) {
                self.candidate = made;
                return Some(&self.candidate);
            }
            self.next += 1;
        }
        None
    }

    /// Says whether the candidate did the same as the input. Returns the number of the next
    /// step; from [`Trim::steps`] on there is none.
    pub fn outcome(&mut self, same: bool) -> usize {
        if same && !self.candidate.is_empty() {
            self.best = std::mem::take(&mut self.candidate);
            if let (Some(Step::Undo(from_end)), Some((_, edits))) =
                (self.steps.get(self.next), &mut self.origin)
            {
                edits.remove(edits.len() - 1 - from_end);
                self.renumber();
            }
        }
        self.candidate.clear();
        self.next = (self.next + 1).min(self.steps.len());
        self.next
    }

    /// What comes of a step; `None` where it cannot be made any more.
    fn made(&self, step: &Step) -> Option<Vec<u8>> {
        match step {
            Step::Undo(from_end) => {
                let (decoded, edits) = self.origin.as_ref()?;
                let mut edits = edits.clone();
                edits.remove(edits.len().checked_sub(1 + from_end)?);
                Some(decoded.with(edits, self.best.len()).0)
            }
            Step::Cut(len) => self.best.get(..*len).map(<[u8]>::to_vec),
            Step::Clear(ranges) => {
                let mut bytes = self.best.clone();
                for range in ranges {
                    let end = range.end.min(bytes.len());
                    bytes.get_mut(range.start..end)?.fill(0);
                }
                Some(bytes)
            }
            Step::Shorten(path, len) => {
                let decoded = Decoded::of(&self.best, None)?;
                let mut image = decoded.image();
                let Value::Bytes(mut text) = image.field(path).ok()?.value else {
                    return None;
                };
                text.truncate(*len);
                image.set(path, Value::Bytes(text)).ok()?;
                (image.bytes().len() == self.best.len() as u64)
                    .then(|| bytes_of(&image, self.best.len()))
            }
        }
    }

    /// After an edit was undone, those before it have other numbers from the end.
    fn renumber(&mut self) {
        for step in &mut self.steps[self.next + 1..] {
            if let Step::Undo(from_end) = step {
                *from_end -= 1;
            }
        }
    }
}

/// The steps for an input that is not recognised.
fn by_bytes(data: &[u8]) -> Vec<Step> {
    let mut steps = cuts(data.len(), &[]);
    steps.extend(halves(&pieces(0..data.len())));
    steps
}

/// The steps for an image.
fn by_structure(decoded: &Decoded) -> Vec<Step> {
    let map = decoded.map();
    let len = decoded.bytes.len();
    let mut steps = cuts(len, map.places());
    steps.extend(halves(&runs_between(map.fields(), len)));
    let mut structures: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    for field in map.fields() {
        let range = range_of(field, len);
        let whole = structures
            .entry(instance(&field.path))
            .or_insert(range.clone());
        *whole = whole.start.min(range.start)..whole.end.max(range.end);
    }
    let ranges = structures.into_values().filter(|range| !range.is_empty());
    let clear = ranges
        .take(MAX_STRUCTURES)
        .map(|range| Step::Clear(vec![range]));
    steps.extend(clear);
    let texts = map.of_kind(Kind::Text).into_iter().take(MAX_TEXTS);
    for field in texts {
        let Value::Bytes(text) = &field.value else {
            continue;
        };
        for len in [0, text.len() / 2] {
            if len < text.len() {
                steps.push(Step::Shorten(field.path.clone(), len));
            }
        }
    }
    steps
}

/// Shorter lengths of the file, the shortest first: shares of it, and where structures start.
fn cuts(len: usize, places: &[u64]) -> Vec<Step> {
    let places = places
        .iter()
        .rev()
        .filter_map(|at| usize::try_from(*at).ok());
    let places = places.take(MAX_CUTS);
    let shares = (1..6).map(|power| (len - (len >> power)).next_multiple_of(512.min(len.max(1))));
    let mut lengths: Vec<usize> = shares.chain(places).collect();
    lengths.retain(|cut| *cut > 0 && *cut < len);
    lengths.sort_unstable();
    lengths.dedup();
    lengths.into_iter().map(Step::Cut).collect()
}

/// All of the ranges at once, then each half of them, each quarter, down to sixteenths.
fn halves(ranges: &[Range<usize>]) -> Vec<Step> {
    let mut steps = Vec::new();
    for parts in [1, 2, 4, 8, 16] {
        if parts > 1 && ranges.len() < parts {
            break;
        }
        let chunks = ranges.chunks(ranges.len().div_ceil(parts).max(1));
        steps.extend(chunks.map(|chunk| Step::Clear(chunk.to_vec())));
    }
    steps
}

/// A range in up to sixteen pieces.
fn pieces(range: Range<usize>) -> Vec<Range<usize>> {
    let step = range.len().div_ceil(16).max(1);
    let end = range.end;
    range
        .step_by(step)
        .map(|start| start..end.min(start + step))
        .collect()
}

/// What is between the fields: guest data, mostly.
fn runs_between(fields: &[Field], len: usize) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = fields.iter().map(|field| range_of(field, len)).collect();
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.push(len..len);
    let mut runs = Vec::new();
    let mut at = 0;
    for range in ranges {
        if range.start.saturating_sub(at) as u64 >= SHORTEST_RUN {
            runs.push(at..range.start);
        }
        at = at.max(range.end);
    }
    // A file of one long run is cleared piece by piece too.
    match runs.as_slice() {
        [run] => pieces(run.clone()),
        _ => runs,
    }
}

/// The bytes of a field, as far as the file goes.
fn range_of(field: &Field, len: usize) -> Range<usize> {
    let start = usize::try_from(field.offset).unwrap_or(len).min(len);
    let width = usize::try_from(field.place.len_bytes()).unwrap_or(len);
    start..start.saturating_add(width).min(len)
}

#[cfg(test)]
mod tests {
    use image_formats::Format;

    use super::*;
    use crate::Mutator;
    use crate::fresh::seeds;

    /// Tries all steps; returns what is left and how many candidates there were.
    fn run(mut trim: Trim, same: impl Fn(&[u8]) -> bool) -> (Vec<u8>, usize) {
        let mut tried = 0;
        let len = trim.best.len();
        while let Some(candidate) = trim.candidate() {
            assert!(candidate.len() <= len);
            let same = same(candidate);
            trim.outcome(same);
            tried += 1;
        }
        (trim.best().to_vec(), tried)
    }

    #[test]
    fn what_is_needed_is_left_and_the_rest_goes() {
        for format in [Format::Qcow2, Format::Vmdk, Format::Vdi, Format::Luks] {
            let image = seeds(format, 1, 4 << 20, "trim").remove(0);
            let mutator = Mutator::new(1);
            let magic = image[..4].to_vec();
            let (best, tried) = run(mutator.trim(&image), |bytes| bytes.starts_with(&magic));
            assert!(best.starts_with(&magic), "{format}");
            assert!(
                best.len() <= image.len() / 2 + 512,
                "{format}: {}",
                best.len()
            );
            assert!((1..400).contains(&tried), "{format}: {tried}");
            let (best, _) = run(mutator.trim(&image), |_| false);
            assert_eq!(best, image, "{format}");
        }
    }

    #[test]
    fn edits_without_which_it_does_the_same_are_undone() {
        let image = seeds(Format::Qcow2, 1, 32 << 10, "undo").remove(0);
        let mut mutator = Mutator::new(3);
        let mut undone = 0;
        for _ in 0..16 {
            let changed = mutator.mutate(&image, image.len());
            if changed.len() < image.len() {
                continue;
            }
            mutator.kept(&changed);
            let trim = mutator.trim(&changed);
            let edits = trim.origin.as_ref().map_or(0, |(_, edits)| edits.len());
            if edits > 0 {
                // Only the input without any edit does the same.
                let (best, _) = run(trim, |bytes| bytes == image);
                undone += usize::from(edits == 1 && best == image);
            }
        }
        assert!(undone > 0);
    }

    #[test]
    fn anything_can_be_trimmed() {
        for data in [&b""[..], b"a", b"QFI\xfb\0\0\0\x02", &[7; 5000]] {
            let (best, _) = run(Mutator::new(1).trim(data), |_| true);
            assert!(best.len() <= data.len());
        }
        let (best, _) = run(Mutator::new(1).trim(&[7; 5000]), |_| true);
        assert_eq!(best, vec![0; best.len()]);
        assert!(best.len() <= 2560);
    }
}
