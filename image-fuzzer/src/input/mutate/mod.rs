//! Mutations: families of edits, each with a weight, each in its own file.
//!
//! Edits are few and placed by structure, so that most images still open and
//! the code behind the checks of the header is reached.

mod alias;
mod bitmaps;
mod boundary;
mod compressed;
mod extensions;
mod features;
mod file;
mod flags;
mod havoc;
mod lengths;
mod names;
mod pointers;
mod refcounts;
mod scope;
mod snapshots;
mod subclusters;
mod tables;

pub use boundary::interesting;
pub use scope::{Intensity, Scope};

use image_formats::Value;
use image_formats::{Field, Kind};

use crate::input::base::Base;
use crate::input::map::Map;
use crate::input::recipe::{Edit, Mutation, Number};
use crate::rng::Rng;

/// What a family may look at when it draws an edit.
#[derive(Clone, Copy)]
pub struct MutationContext<'a> {
    /// What the base image consists of.
    pub base: &'a Base,
    /// Its fields.
    pub map: &'a Map,
}

/// A family of edits.
pub struct Family {
    /// Its name in recipes and statistics.
    pub name: &'static str,
    /// How often it is drawn before anything is known of the program.
    pub weight: u64,
    /// Draws one mutation, of one edit or of a few that belong together; `None`
    /// where the image has nothing for it.
    pub draw: fn(MutationContext<'_>, &mut Rng) -> Option<Vec<Edit>>,
}

/// Every family.
pub const FAMILIES: [Family; 16] = [
    family("boundary", 8, boundary::draw),
    family("pointer", 16, pointers::draw),
    family("alias", 10, alias::draw),
    family("flag", 12, flags::draw),
    family("refcount", 12, refcounts::draw),
    family("table", 7, tables::draw),
    family("length", 3, lengths::draw),
    family("extension", 3, extensions::draw),
    family("name", 3, names::draw),
    family("snapshot", 9, snapshots::draw),
    family("bitmap", 6, bitmaps::draw),
    family("compressed", 8, compressed::draw),
    family("subcluster", 6, subclusters::draw),
    family("feature", 3, features::draw),
    family("file", 3, file::draw),
    family("havoc", 2, havoc::draw),
];

const fn family(
    name: &'static str,
    weight: u64,
    draw: fn(MutationContext<'_>, &mut Rng) -> Option<Vec<Edit>>,
) -> Family {
    Family { name, weight, draw }
}

/// The weights of the families before anything is known.
pub fn first_weights() -> Vec<u64> {
    FAMILIES.iter().map(|family| family.weight * 16).collect()
}

/// Draws all the mutations of one image: by the scope, where one is given, else as many
/// as the intensity says, from the families.
pub fn draw(
    context: MutationContext<'_>,
    scope: Option<&Scope>,
    intensity: Intensity,
    weights: &[u64],
    rng: &mut Rng,
) -> Vec<Mutation> {
    match (scope, intensity) {
        (Some(scope), _) => scope.draw(context, intensity, rng),
        (None, Intensity::Share(..)) => scope::share(context, intensity, rng),
        (None, Intensity::Mutations(..)) => (0..intensity.count(0, rng))
            .flat_map(|_| one(context, weights, rng))
            .collect(),
    }
}

/// Draws one mutation from the families, by `weights`.
pub fn one(context: MutationContext<'_>, weights: &[u64], rng: &mut Rng) -> Vec<Mutation> {
    // A family without a hold on this image gives way to another.
    for _ in 0..32 {
        let Some(index) = rng.weighted(weights) else {
            break;
        };
        let family = &FAMILIES[index];
        if let Some(edits) = (family.draw)(context, rng) {
            return label(family.name, edits);
        }
    }
    Vec::new()
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

/// An edit of `field` to `value`, cut to the bits the field has; `None` where the
/// field holds text or the value already.
fn set(field: &Field, value: u64) -> Option<Edit> {
    let Value::Uint(present) = field.value else {
        return None;
    };
    let value = value & field.place.mask();
    (value != present).then(|| Edit::Set {
        path: field.path.clone(),
        value: Number(value),
    })
}

/// One edit as a mutation.
fn single(edit: Option<Edit>) -> Option<Vec<Edit>> {
    edit.map(|edit| vec![edit])
}

/// An interesting value into one of `fields`.
fn disturb(context: MutationContext<'_>, fields: &[&Field], rng: &mut Rng) -> Option<Vec<Edit>> {
    let field = rng.pick(fields)?;
    let values = interesting(context.map, field);
    (0..4).find_map(|_| single(set(field, *rng.pick(&values)?)))
}

/// Whether a field is a number that can be set.
fn numeric(field: &Field) -> bool {
    matches!(field.value, Value::Uint(_))
        && !matches!(field.kind, Kind::Text | Kind::Bytes | Kind::Magic)
}
