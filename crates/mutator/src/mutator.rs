//! One mutation of any input.

use std::collections::BTreeMap;

use image_formats::Format;
use image_mutations::edit::Mutation;
use image_mutations::mutate::{self, FAMILIES, FieldWeights, Intensity, class_of};
use image_mutations::rng::Rng;

use crate::decoded::{Cache, Decoded};
use crate::options::Options;
use crate::origins::Origins;
use crate::repair::hash;
use crate::trim::Trim;
use crate::{cross_over, fresh, havoc, summary};

/// How many edits an image gets.
const INTENSITY: Intensity = Intensity::Mutations(1, 3);

/// The weight of a class of fields that found nothing yet, what each find adds, and the most.
const CLASS_WEIGHT: u64 = 4;
const CLASS_FIND: u64 = 16;
const MAX_CLASS_WEIGHT: u64 = 160;

/// The most classes of fields whose finds are kept.
const MAX_CLASSES: usize = 4096;

/// Mutates inputs of any kind; those that are images of a known format by their structure.
///
/// What it draws depends on its seed, the calls and the inputs, and on nothing else. Its memory
/// is bounded, whatever the inputs: a few images of at most 16 MiB.
///
/// ```
/// use image_mutator::{Format, Mutator, seeds};
///
/// let image = seeds(Format::Qcow2, 1, 1 << 20, "a seed").remove(0);
/// let mut mutator = Mutator::new(1);
/// let changed = mutator.mutate(&image, 1 << 20);
/// assert_ne!(changed, image);
/// assert!(changed.len() <= 1 << 20);
/// assert_eq!(Mutator::new(1).mutate(&image, 1 << 20), changed);
/// ```
#[derive(Debug)]
pub struct Mutator {
    rng: Rng,
    options: Options,
    cache: Cache,
    /// How often each family is drawn: more often where it found something.
    weights: Vec<u64>,
    /// The weights of classes of fields that found something.
    classes: BTreeMap<String, u64>,
    last: Option<Last>,
    /// The format of the last image among the inputs.
    seen: Option<Format>,
    origins: Origins,
}

/// What was done last.
#[derive(Debug)]
enum Last {
    /// Edits of an image.
    Edits(Box<Decoded>, Vec<Mutation>),
    /// Something else, in a word.
    Other(&'static str),
}

impl Mutator {
    /// A mutator with the default options.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_options(seed, &Options::default())
    }

    /// A mutator.
    #[must_use]
    pub fn with_options(seed: u64, options: &Options) -> Self {
        Self {
            rng: Rng::from_text(&format!("mutator {seed}")),
            options: options.clone(),
            cache: Cache::default(),
            weights: options.weights.clone(),
            classes: BTreeMap::new(),
            last: None,
            seen: None,
            origins: Origins::default(),
        }
    }

    /// The input with mutations, at most `max_len` bytes of it.
    #[must_use]
    pub fn mutate(&mut self, data: &[u8], max_len: usize) -> Vec<u8> {
        self.mutate_with(data, None, max_len)
    }

    /// The input with mutations, or with parts of `other`; at most `max_len` bytes.
    #[must_use]
    pub fn mutate_with(&mut self, data: &[u8], other: Option<&[u8]>, max_len: usize) -> Vec<u8> {
        let data = &data[..data.len().min(max_len)];
        let decoded = self.decoded(data);
        let new_image = match (&decoded, data.len()) {
            (Some(_), _) => 1,
            // As is the first input of an empty corpus.
            (None, ..16) => 25,
            (None, _) => 1,
        };
        if self.rng.chance(new_image)
            && let Some(image) = self.new_image(max_len)
        {
            return image;
        }
        if let Some(other) = other.filter(|other| !other.is_empty())
            && self.rng.chance(15)
        {
            return self.cross(decoded, data, other, max_len);
        }
        match decoded {
            Some(decoded) if !self.rng.chance(10) => self.edited(decoded, max_len),
            _ => self.bytes(data, max_len),
        }
    }

    /// The first input with parts of the second, at most `max_len` bytes.
    #[must_use]
    pub fn cross_over(&mut self, data: &[u8], other: &[u8], max_len: usize) -> Vec<u8> {
        let data = &data[..data.len().min(max_len)];
        let decoded = self.decoded(data);
        self.cross(decoded, data, other, max_len)
    }

    /// What was done last, in a few words without spaces or slashes.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.last {
            None => "op:none".to_owned(),
            Some(Last::Other(word)) => format!("op:{word}"),
            Some(Last::Edits(_, edits)) => summary::of_edits(edits),
        }
    }

    /// How often an input is worth mutating before the next one: more often where there is more
    /// in it.
    #[must_use]
    pub fn attempts(&mut self, data: &[u8]) -> u32 {
        let fields = self
            .decoded(data)
            .map_or(0, |image| image.map().classes().count());
        (fields as u32 * 4).clamp(32, 512)
    }

    /// Takes notice that the engine keeps what came of the last mutation, with these bytes: they
    /// may have been [`repaired`](crate::repaired) since. What was changed in it is drawn more
    /// often, and [`Mutator::trim`] can undo it.
    pub fn kept(&mut self, input: &[u8]) {
        self.found(hash(input));
    }

    /// As [`Mutator::kept`], of an input with that hash.
    pub(crate) fn found(&mut self, hash: u64) {
        let Some(Last::Edits(decoded, edits)) = self.last.take() else {
            return;
        };
        for edit in &edits {
            let family = FAMILIES
                .iter()
                .position(|family| family.name == edit.family);
            if let Some(index) = family {
                let (first, weight) = (self.options.weights[index], &mut self.weights[index]);
                *weight = (*weight + first / 8).min(first * 4);
            }
            let class = class_of(edit, decoded.map());
            if self.classes.len() < MAX_CLASSES || self.classes.contains_key(&class) {
                let weight = self.classes.entry(class).or_insert(CLASS_WEIGHT);
                *weight = (*weight + CLASS_FIND).min(MAX_CLASS_WEIGHT);
            }
        }
        self.origins.insert(hash, decoded.bytes.clone(), edits);
    }

    /// Makes an input smaller and simpler; see [`Trim`].
    #[must_use]
    pub fn trim(&self, data: &[u8]) -> Trim {
        Trim::new(data, self.origins.get(data))
    }

    fn decoded(&mut self, data: &[u8]) -> Option<Decoded> {
        // What lost its signature is decoded as the only format that is asked for.
        let otherwise = match self.options.formats.as_slice() {
            [format] if data.len() >= 64 => Some(*format),
            _ => None,
        };
        let decoded = self.cache.decoded(data, otherwise);
        let format = decoded.as_ref().map(|decoded| decoded.map().format);
        self.seen = format.or(self.seen);
        decoded
    }

    /// A new image, by default of the format that the inputs have.
    fn new_image(&mut self, max_len: usize) -> Option<Vec<u8>> {
        let format = self.options.fresh(self.seen, &mut self.rng);
        let image = fresh::draw(format, max_len, &mut self.rng)?;
        self.last = Some(Last::Other("new-image"));
        Some(image)
    }

    fn cross(
        &mut self,
        decoded: Option<Decoded>,
        data: &[u8],
        other: &[u8],
        max_len: usize,
    ) -> Vec<u8> {
        if let Some(one) = decoded
            && let Some(other) = self.decoded(other)
            && other.map().format == one.map().format
        {
            let edits = cross_over::draw(&one, &other, &mut self.rng);
            if !edits.is_empty() {
                return self.made(one, edits, max_len);
            }
        }
        self.last = Some(Last::Other("splice"));
        havoc::splice(data, other, max_len, &mut self.rng)
    }

    /// An image with edits of families.
    fn edited(&mut self, decoded: Decoded, max_len: usize) -> Vec<u8> {
        let map = decoded.map();
        let mut edits = Vec::new();
        if !self.classes.is_empty() && self.rng.chance(25) {
            let weights = FieldWeights::new(self.classes.clone(), CLASS_WEIGHT);
            edits.extend(mutate::field(map, &weights, &mut self.rng));
        }
        if edits.is_empty() || self.rng.chance(30) {
            let drawn = mutate::draw(map, None, INTENSITY, &self.weights, &mut self.rng);
            edits.extend(drawn);
        }
        self.made(decoded, edits, max_len)
    }

    /// An image with these edits and what follows from them; other bytes where they change
    /// nothing.
    fn made(&mut self, decoded: Decoded, mut edits: Vec<Mutation>, max_len: usize) -> Vec<u8> {
        if decoded.map().format != Format::Qcow2 {
            mutate::recompute(&mut edits, &mut self.rng);
        }
        let (bytes, made) = decoded.with(edits, max_len);
        if bytes == *decoded.bytes {
            return self.bytes(&bytes, max_len);
        }
        self.last = Some(Last::Edits(Box::new(decoded), made));
        bytes
    }

    fn bytes(&mut self, data: &[u8], max_len: usize) -> Vec<u8> {
        self.last = Some(Last::Other("bytes"));
        havoc::mutate(data.to_vec(), max_len, &mut self.rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_corpus_becomes_images() {
        let mut mutator = Mutator::new(1);
        let formats = (0..400).filter_map(|_| {
            let made = mutator.mutate(b"\n", 64 << 10);
            Format::probe(&made[..]).ok().flatten()
        });
        assert!(formats.count() > 30);
    }

    #[test]
    fn what_an_engine_keeps_is_drawn_more_often() {
        let image = fresh::draw(Format::Qcow2, 64 << 10, &mut Rng::from_text("kept")).unwrap();
        let mut mutator = Mutator::new(1);
        for _ in 0..300 {
            let made = mutator.mutate(&image, 64 << 10);
            if mutator.describe().contains("pointer") {
                mutator.kept(&made);
            }
        }
        let at = FAMILIES.iter().position(|family| family.name == "pointer");
        let at = at.expect("a family");
        assert!(mutator.weights[at] > mutator.options.weights[at]);
        assert!(!mutator.classes.is_empty());
        assert!(
            mutator
                .classes
                .values()
                .all(|weight| *weight <= MAX_CLASS_WEIGHT)
        );
    }

    #[test]
    fn new_images_are_of_the_format_of_the_inputs() {
        let image = fresh::draw(Format::Qed, 64 << 10, &mut Rng::from_text("seen")).unwrap();
        let mut mutator = Mutator::new(2);
        let _ = mutator.mutate(&image, 64 << 10);
        for _ in 0..400 {
            let made = mutator.mutate(b"no image", 64 << 10);
            let format = Format::probe(&made[..]).ok().flatten();
            assert!(
                format.is_none_or(|format| format == Format::Qed),
                "{format:?}"
            );
        }
    }
}
