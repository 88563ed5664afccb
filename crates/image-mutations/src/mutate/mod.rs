//! Mutations: families of edits, each with a weight, each in a file of its own.
//!
//! Edits are few and placed by structure, so that most images still open and
//! the code behind the checks of the header is reached.
//!
//! # Adding a family
//!
//! A family is one new file beside this one and one row in [`FAMILIES`] (with the `mod` line
//! of the file). The file has a function `draw`, which gives the edits of one mutation, or
//! `None` where the image has nothing to mutate; `edits` has what families share. Help,
//! `--family`, weights and statistics take the families from the table. The new row changes
//! which test each seed stands for, so raise the version in `Cargo.toml` and write the new
//! hashes into `tests/all/seeds.rs`.
//!
//! Imports go from this file to the families and `config`, from these to `paths` and `edits`, from there
//! to `boundary` and `cost`; families do not import each other.

mod again;
mod alias;
mod backing_names;
mod bitmaps;
mod boundary;
mod checksums;
mod compressed;
mod config;
mod copies;
mod cost;
mod edits;
mod entries;
mod extensions;
mod features;
mod fields;
mod file;
mod flags;
mod havoc;
mod intensity;
mod learned;
mod legacy_names;
mod lengths;
mod logs;
mod names;
mod paths;
mod pointers;
mod probe;
mod refcounts;
mod rising;
mod shares;
mod sizes;
mod snapshots;
mod streams;
mod subclusters;
mod tables;
mod text;
mod volumes;
mod words;

pub use boundary::interesting;
pub use config::FieldSelection;
pub use edits::{extension, extensions, numeric};
pub use intensity::Intensity;
pub use learned::{FieldWeights, class_of};
pub use probe::magics;

use image_formats::Format;

use crate::edit::{Edit, Mutation, Recomputed};
use crate::map::Map;
use crate::rng::Rng;

/// A family of edits.
pub struct Family {
    /// Its name in recipes and statistics.
    pub name: &'static str,
    /// How often it is drawn before anything is known about the program.
    pub weight: u64,
    /// What it mutates.
    needs: Needs,
    /// Draws one mutation, of one edit or of a few that belong together; `None`
    /// where the image has nothing for it.
    pub draw: fn(&Map, &mut Rng) -> Option<Vec<Edit>>,
}

/// Which images a family can mutate.
#[derive(Clone, Copy)]
enum Needs {
    /// Any of any format.
    Nothing,
    /// qcow2 images with such fields.
    Qcow2(fn(&Map) -> bool),
    /// Images of other formats.
    Other,
    /// Images of one format.
    Format(Format),
}

/// Every family. Those that qcow2 images do not have stand at the end, so that what is drawn
/// for these does not depend on them.
pub const FAMILIES: &[Family] = &[
    family("boundary", 8, fields::draw),
    family("pointer", 16, pointers::draw),
    family("alias", 10, alias::draw),
    family("flag", 12, flags::draw),
    family("refcount", 12, refcounts::draw).needing(|_| true),
    family("table", 7, tables::draw),
    family("length", 3, lengths::draw),
    family("extension", 3, extensions::draw).needing(|_| true),
    family("name", 3, names::draw).needing(|_| true),
    family("snapshot", 9, snapshots::draw).needing(|map| map.get("snapshot[0].l1_size").is_some()),
    family("bitmap", 6, bitmaps::draw).needing(|map| map.get("bitmap[0].flags").is_some()),
    family("compressed", 8, compressed::draw).needing(|map| has(map, ".compressed_offset")),
    family("subcluster", 6, subclusters::draw).needing(|map| has(map, ".subclusters")),
    family("feature", 3, features::draw).needing(|_| true),
    family("file", 3, file::draw),
    family("havoc", 2, havoc::draw),
    family("probe", 1, probe::draw),
    family("text", 6, text::draw).of_other_formats(),
    family("word", 6, words::draw).of_other_formats(),
    family("entry", 6, entries::draw).of_other_formats(),
    family("size", 4, sizes::draw).of_other_formats(),
    family("log", 6, logs::draw).of_other_formats(),
    family("backing-name", 3, backing_names::draw).of_other_formats(),
    family(CHECKSUM, 2, checksums::draw).of_other_formats(),
    family("rising", 20, rising::draw).of(Format::Cloop),
    family("stream", 20, streams::draw).of(Format::Cloop),
    family("volume", 60, volumes::draw).of(Format::Luks),
    family(COPY, 3, copies::draw).of_other_formats(),
];

const fn family(
    name: &'static str,
    weight: u64,
    draw: fn(&Map, &mut Rng) -> Option<Vec<Edit>>,
) -> Family {
    Family {
        name,
        weight,
        needs: Needs::Nothing,
        draw,
    }
}

impl Family {
    const fn needing(self, needs: fn(&Map) -> bool) -> Self {
        Self {
            needs: Needs::Qcow2(needs),
            ..self
        }
    }

    const fn of_other_formats(self) -> Self {
        Self {
            needs: Needs::Other,
            ..self
        }
    }

    const fn of(self, format: Format) -> Self {
        Self {
            needs: Needs::Format(format),
            ..self
        }
    }

    /// Whether an image has what it mutates.
    pub fn suits(&self, map: &Map) -> bool {
        match self.needs {
            Needs::Qcow2(needs) => self.is_for(map.format) && needs(map),
            Needs::Nothing | Needs::Other | Needs::Format(_) => self.is_for(map.format),
        }
    }

    /// Whether it mutates images of that format at all.
    fn is_for(&self, format: Format) -> bool {
        match self.needs {
            Needs::Nothing => true,
            Needs::Qcow2(_) => format == Format::Qcow2,
            Needs::Other => format != Format::Qcow2,
            Needs::Format(wanted) => format == wanted,
        }
    }
}

/// Whether the image has a field whose path ends so.
fn has(map: &Map, ending: &str) -> bool {
    map.fields()
        .iter()
        .any(|field| field.path.ends_with(ending))
}

/// The weights of the families before anything is known about the program.
pub fn first_weights() -> Vec<u64> {
    FAMILIES.iter().map(|family| family.weight * 16).collect()
}

/// Draws all the mutations of one image: of the selected fields, where some are, else as many
/// as the intensity says, from the families.
pub fn draw(
    map: &Map,
    selection: Option<&FieldSelection>,
    intensity: Intensity,
    weights: &[u64],
    rng: &mut Rng,
) -> Vec<Mutation> {
    match (selection, intensity) {
        (Some(selection), _) => selection.draw(map, intensity, rng),
        (None, Intensity::Share(..)) => config::share(map, intensity, rng),
        (None, Intensity::Mutations(..)) => (0..intensity.count(0, rng))
            .flat_map(|_| one(map, weights, rng))
            .collect(),
    }
}

/// The family of wrong checksums.
const CHECKSUM: &str = "checksum";

/// The family of copies that differ.
const COPY: &str = "copy";

/// The family of the mutation that corrects what follows from other bytes.
const RECOMPUTE: &str = "recompute";

/// Adds to the mutations of an image of another format than qcow2 a correction of what follows
/// from them, as a writer would: checksums and copies in most images, so that readers get past
/// them, and nothing in some. Checksums that are wrong and copies that differ on purpose come
/// after it.
pub fn recompute(edits: &mut Vec<Mutation>, rng: &mut Rng) {
    edits.extend(recomputed(rng));
    in_order(edits);
}

/// Puts corrections behind what they correct, and what is wrong on purpose behind these.
pub fn in_order(edits: &mut [Mutation]) {
    edits.sort_by_key(|mutation| match mutation.family.as_str() {
        RECOMPUTE => 1,
        COPY => 2,
        CHECKSUM => 3,
        _ => 0,
    });
}

fn recomputed(rng: &mut Rng) -> Option<Mutation> {
    let what = match rng.below(20) {
        0..=1 => return None,
        2..=4 => vec![Recomputed::Checksums],
        5..=16 => vec![Recomputed::Copies, Recomputed::Checksums],
        _ => vec![
            Recomputed::Values,
            Recomputed::Copies,
            Recomputed::Checksums,
        ],
    };
    Some(recomputation(what))
}

/// The correction of what follows from other bytes.
fn recomputation(what: Vec<Recomputed>) -> Mutation {
    Mutation {
        family: RECOMPUTE.to_owned(),
        edit: Edit::Recompute { what },
    }
}

/// The correction of copies and checksums, as a writer makes it.
pub fn repaired() -> Mutation {
    recomputation(vec![Recomputed::Copies, Recomputed::Checksums])
}

/// Draws one mutation from the families, by `weights`.
pub fn one(map: &Map, weights: &[u64], rng: &mut Rng) -> Vec<Mutation> {
    let of_format = FAMILIES.iter().zip(weights);
    let of_format = of_format.map(|(family, weight)| match family.is_for(map.format) {
        true => shares::of(*weight, family.name, map.format),
        false => 0,
    });
    let weights: Vec<u64> = of_format.collect();
    // A family that has nothing to mutate in this image is passed over.
    for _ in 0..32 {
        let Some(index) = rng.weighted(&weights) else {
            break;
        };
        let family = &FAMILIES[index];
        if let Some(edits) = (family.draw)(map, rng) {
            return label(family.name, edits);
        }
    }
    Vec::new()
}

/// Draws a mutation of what `edits` set already, by `weights`; `None` where they set no number.
pub fn again(
    map: &Map,
    edits: &[Mutation],
    weights: &FieldWeights,
    rng: &mut Rng,
) -> Option<Mutation> {
    again::draw(map, edits, weights, rng)
}

/// Draws a mutation of a field by `weights`; `None` where the image has none.
pub fn field(map: &Map, weights: &FieldWeights, rng: &mut Rng) -> Option<Mutation> {
    learned::draw(map, weights, rng)
}

/// The edits with the name of their family.
fn label(family: &str, edits: Vec<Edit>) -> Vec<Mutation> {
    edits
        .into_iter()
        .map(|edit| Mutation {
            family: family.to_owned(),
            edit,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use image_formats::{AnyImage, Value};

    use super::*;
    use crate::base::{Formats, Prepared};
    use crate::case::Maker;
    use crate::named_file::NamedFile;

    /// An image of another fuzzer may have any numbers in its fields. Sums of them once were
    /// larger than 64 bits.
    #[test]
    fn families_take_images_that_are_broken() {
        const FAR: [u64; 6] = [u64::MAX, u64::MAX - 4, 1 << 63, 0, 1, 1 << 40];
        for word in Formats::words_of_one() {
            let formats = Formats::named(word).unwrap();
            let mut rng = Rng::from_text(&format!("broken {word}"));
            for _ in 0..12 {
                let base = formats.draw(&mut rng);
                let prepared = Maker::default().prepared(&base).unwrap();
                let mut image = AnyImage::clone(&prepared.image);
                for _ in 0..4 {
                    let fields = prepared.map.filter(numeric);
                    let Some(field) = rng.pick(&fields) else {
                        break;
                    };
                    let value = rng.pick(&FAR).copied().unwrap_or(0) & field.place.mask();
                    let _ = image.set(&field.path, Value::from(value));
                }
                let file = NamedFile::new("image", image.bytes());
                let format = image.format();
                let broken = Prepared::of(file, format, None, Vec::new()).unwrap();
                for family in FAMILIES.iter().filter(|family| family.suits(&broken.map)) {
                    for _ in 0..8 {
                        let edits = (family.draw)(&broken.map, &mut rng);
                        let mut changed = AnyImage::open(Arc::new(image.bytes().clone()), format);
                        for edit in edits.into_iter().flatten() {
                            let _ = crate::case::apply(changed.as_mut().unwrap(), &edit);
                        }
                    }
                }
            }
        }
    }
}
