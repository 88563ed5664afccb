//! Images that show what a reader knows of a format.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use image_formats::{AnyImage, Format, Requirement};
use serde::Serialize;

use super::Outcome;
use crate::input::recipe::{FUZZER, Recipe};
use image_mutations::base::{Base, Formats, features_of};
use image_mutations::case::{Maker, disk_of};
use image_mutations::edit::Mutation;
use image_mutations::mutate::{self, Intensity};
use image_mutations::named_file::NamedFile;
use image_mutations::rng::Rng;

/// What an image is to show.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Whether the reader knows a feature of the format.
    Feature {
        /// Its name.
        name: String,
        /// What it is, in a few words.
        what: String,
    },
    /// Whether the reader notices that a rule is broken.
    Rule {
        /// Its name.
        name: String,
    },
}

impl Subject {
    /// The name of the feature or rule.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Feature { name, .. } | Self::Rule { name } => name,
        }
    }
}

/// An image, and what a reader must make of it.
pub struct Sample {
    /// What it is to show.
    pub subject: Subject,
    /// The seed that it was drawn from.
    pub seed: String,
    /// Its features.
    pub features: Vec<&'static str>,
    /// The recipe of it, without commands.
    pub recipe: Recipe,
    /// Its files, the image first.
    pub files: Vec<NamedFile>,
    /// What a guest reads; `None` where the image is broken.
    pub data: Option<Vec<u8>>,
}

impl Sample {
    /// Whether `outcome` is what a good reader makes of it.
    #[must_use]
    pub fn is_met_by(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Right => self.data.is_some(),
            Outcome::Refused { .. } => self.data.is_none(),
            _ => false,
        }
    }
}

/// The largest disk that is compared, in bytes.
const MOST_DATA: u64 = 64 << 20;

/// How many base images are drawn.
const DRAWN: u32 = 1500;

/// What a feature is called that every image has: being an image of the format.
const MINIMAL: &str = "minimal";

/// The feature of images that hold data, as most formats call it.
const DATA: &str = "data";

/// A recipe of these edits without commands.
fn recipe(seed: &str, base: Base, edits: Vec<Mutation>) -> Recipe {
    Recipe {
        fuzzer: FUZZER.into(),
        seed: seed.into(),
        base,
        edits,
        commands: Vec::new(),
        fresh_copies: true,
        guard: None,
    }
}

/// Up to `count` valid images for each feature of `format`, those with the fewest and the most
/// common other features first, drawn from `seed`.
///
/// # Errors
///
/// A base image cannot be made, which would be a bug of the fuzzer.
pub fn valid(format: Format, count: usize, seed: &str, maker: &mut Maker) -> Result<Vec<Sample>> {
    let candidates = candidates(format, seed);
    let fewest = candidates.first().map_or(0, Candidate::weight);
    let mut subjects = vec![(MINIMAL, "an image with nothing special")];
    subjects.extend(features_of(format).iter().map(|it| (it.name, it.what)));
    let mut samples = Vec::new();
    for (name, what) in subjects {
        let subject = Subject::Feature {
            name: name.to_owned(),
            what: what.to_owned(),
        };
        let shows = |it: &&Candidate| {
            it.features.contains(&name) || name == MINIMAL && it.weight() == fewest
        };
        let found: Vec<_> = candidates.iter().filter(shows).collect();
        for candidate in rising(&found, count) {
            samples.extend(sample(&subject, candidate, maker)?);
        }
    }
    Ok(samples)
}

/// A valid image that may become a sample.
struct Candidate {
    seed: String,
    base: Base,
    features: Vec<&'static str>,
}

impl Candidate {
    /// How many features it has besides data.
    fn weight(&self) -> usize {
        self.features.iter().filter(|name| **name != DATA).count()
    }
}

/// Images of `format`, the simplest first: those with the fewest features besides data, of these
/// the ones with data, which a reader must do more for than to write zeros, and of these the
/// ones whose features are common. What a reader lacks is mostly something rare, so that an
/// image of one feature with a common one beside it shows more of that feature.
fn candidates(format: Format, seed: &str) -> Vec<Candidate> {
    let formats = Formats::of(format);
    let candidate = |seed: String, base: Base| Candidate {
        features: base.features(),
        seed,
        base,
    };
    let mut all = vec![candidate(format!("{seed}/plain"), formats.plain())];
    for number in 0..DRAWN {
        let seed = format!("{seed}/{number}");
        let base = formats.draw(&mut Rng::from_text(&seed));
        all.push(candidate(seed, base));
    }
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    for name in all.iter().flat_map(|it| &it.features) {
        *counts.entry(name).or_default() += 1.0;
    }
    let rarity = |it: &Candidate| -> f64 {
        let known = it.features.iter().filter_map(|name| counts.get(name));
        known.map(|count| (all.len() as f64 / count).ln()).sum()
    };
    let rarities: Vec<f64> = all.iter().map(rarity).collect();
    let mut keyed: Vec<_> = rarities.into_iter().zip(all).collect();
    let rank = |it: &Candidate| (it.weight(), !it.features.contains(&DATA));
    keyed.sort_by(|(one, first), (other, second)| {
        let ranks = rank(first).cmp(&rank(second));
        ranks.then(one.total_cmp(other))
    });
    keyed.into_iter().map(|(_, candidate)| candidate).collect()
}

/// `count` of `all`, which is sorted by complexity: the first one, the last one, and between
/// them at equal distances.
fn rising<T>(all: &[T], count: usize) -> Vec<&T> {
    let mut places: BTreeSet<usize> = BTreeSet::new();
    for step in 0..count {
        let last = all.len().saturating_sub(1);
        places.insert(last * step / count.saturating_sub(1).max(1));
    }
    places.into_iter().filter_map(|at| all.get(at)).collect()
}

/// A valid image as a sample; `None` where its disk is not known.
fn sample(subject: &Subject, candidate: &Candidate, maker: &mut Maker) -> Result<Option<Sample>> {
    let recipe = recipe(&candidate.seed, candidate.base.clone(), Vec::new());
    let files = maker.files(&recipe.base, &recipe.edits)?;
    let Some(data) = data(&files, candidate.base.format()) else {
        return Ok(None);
    };
    Ok(Some(Sample {
        subject: subject.clone(),
        seed: candidate.seed.clone(),
        features: candidate.features.clone(),
        recipe,
        files,
        data: Some(data),
    }))
}

/// What the guest reads of a disk of a bearable size.
pub fn data(files: &[NamedFile], format: Format) -> Option<Vec<u8>> {
    let mut disk = disk_of(files, format).ok()?;
    let size = disk.size();
    if size > MOST_DATA {
        return None;
    }
    let mut data = vec![0; size as usize];
    disk.read(0, &mut data).ok()?;
    Some(data)
}

/// How many mutated images are drawn to find broken ones.
const MUTATED: u32 = 6000;

/// Up to `count` broken images for each rule that a reader must enforce, each with one mutation
/// and one broken rule, drawn from `seed`.
///
/// # Errors
///
/// A base image cannot be made, which would be a bug of the fuzzer.
pub fn broken(format: Format, count: usize, seed: &str, maker: &mut Maker) -> Result<Vec<Sample>> {
    let formats = Formats::of(format);
    let weights = mutate::first_weights();
    let mut by_rule: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    let mut base = formats.plain();
    for number in 0..MUTATED {
        let seed = format!("{seed}/broken/{number}");
        let mut rng = Rng::from_text(&seed);
        if number % 8 == 0 {
            base = formats.draw(&mut rng);
        }
        let prepared = maker.prepared(&base)?;
        let map = &prepared.map;
        let one = Intensity::Mutations(1, 1);
        let mut edits = mutate::draw(map, None, one, &weights, &mut rng);
        edits.push(mutate::repaired());
        let recipe = recipe(&seed, base.clone(), edits);
        let Ok(files) = maker.files(&recipe.base, &recipe.edits) else {
            continue;
        };
        let Some(name) = single_broken_rule(&files, format) else {
            continue;
        };
        let found = by_rule.entry(name.to_owned()).or_default();
        if found.len() < count {
            found.push(Sample {
                subject: Subject::Rule {
                    name: name.to_owned(),
                },
                seed,
                features: base.features(),
                recipe,
                files,
                data: None,
            });
        }
    }
    Ok(by_rule.into_values().flatten().collect())
}

/// The rule that readers must enforce and the image breaks, where it is one alone.
fn single_broken_rule(files: &[NamedFile], format: Format) -> Option<&'static str> {
    let image = std::sync::Arc::new(files.first()?.clone());
    let image = AnyImage::open(image, format).ok()?;
    let defects = image.defects().ok()?;
    let mut names = defects
        .iter()
        .filter(|defect| defect.requirement == Requirement::Must)
        .map(|defect| defect.name);
    let first = names.next()?;
    names.all(|name| name == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_rising_complexity_are_taken() {
        let all: Vec<u32> = (0..10).collect();
        assert_eq!(rising(&all, 3), [&0, &4, &9]);
        assert_eq!(rising(&all, 1), [&0]);
        assert_eq!(rising(&all[..2], 5), [&0, &1]);
        assert!(rising(&all[..0], 3).is_empty());
    }

    /// The simplest image of a feature once had rare features beside it, for which readers
    /// refused it, or no data, which a reader that knows nothing of the feature reads right.
    #[test]
    fn images_with_common_features_come_first() {
        let candidates = candidates(Format::Qcow2, "simple");
        let first = |name: &str| {
            let has = |it: &&Candidate| it.features.contains(&name);
            candidates.iter().find(has).unwrap().features.clone()
        };
        assert!(!first("data-file-raw").contains(&"compression-type"));
        assert!(first("extended-l2").contains(&DATA));
        assert!(candidates.iter().is_sorted_by_key(Candidate::weight));
        let minimal = valid(Format::Vpc, 1, "simple", &mut Maker::default()).unwrap();
        assert_eq!(minimal[0].subject.name(), MINIMAL);
    }

    #[test]
    fn the_same_seed_gives_the_same_images() {
        let make = || {
            let samples = valid(Format::Qed, 2, "same", &mut Maker::default()).unwrap();
            let files = |sample: &Sample| sample.files.clone();
            samples.iter().map(files).collect::<Vec<_>>()
        };
        let first = make();
        assert_eq!(first, make());
        assert!(first.len() > 8, "{}", first.len());
    }

    #[test]
    fn broken_images_break_one_rule_each() {
        let samples = broken(Format::Qed, 1, "rules", &mut Maker::default()).unwrap();
        let names: BTreeSet<_> = samples.iter().map(|sample| &sample.subject).collect();
        assert_eq!(names.len(), samples.len());
        assert!(names.len() >= 5, "{names:?}");
    }
}
