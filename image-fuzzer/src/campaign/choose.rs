//! Which test comes next: a new one, or a variation of one that showed something.

use crate::campaign::store::CampaignConfig;
use crate::commands::{Command, drawn, given};
use crate::input::base::{self, Base};
use crate::input::case::Maker;
use crate::input::guard::GuardPlan;
use crate::input::mutate::{self, FAMILIES, FieldSelection, Intensity, MutationContext};
use crate::input::recipe::{FUZZER, Recipe};
use crate::rng::Rng;

use anyhow::Result;

/// What tests are drawn from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The commands given with `-c`; without, sequences are drawn.
    pub commands: Option<Vec<Command>>,
    /// The fields that alone may be changed, as `--config` says.
    pub selection: Option<FieldSelection>,
    /// How much is changed.
    pub intensity: Intensity,
    /// The families that edits are drawn from; none stand for all.
    pub families: Vec<String>,
    /// Which tests run under the guarding allocator.
    pub guard: GuardPlan,
}

impl Plan {
    /// What the user asked for, to be compared with what another start asked for.
    pub fn asked(&self) -> CampaignConfig {
        CampaignConfig {
            commands: self.commands.clone(),
            families: self.families.clone(),
            config: self.selection.as_ref().map(ToString::to_string),
        }
    }

    /// `weights` of the families, those left out being 0.
    pub fn only(&self, mut weights: Vec<u64>) -> Vec<u64> {
        for (family, weight) in FAMILIES.iter().zip(&mut weights) {
            if !self.families.is_empty() && !self.families.iter().any(|name| name == family.name) {
                *weight = 0;
            }
        }
        weights
    }
}

/// How often a new base image is drawn where an earlier one would do, in percent.
/// Making a base image takes many times as long as mutating one.
const NEW_BASE: u64 = 4;

/// How many earlier base images are at hand.
const BASES: usize = 48;

/// The base images at hand.
#[derive(Debug, Default)]
pub(super) struct Bases {
    list: Vec<Base>,
}

impl Bases {
    /// Whether the next one is a new one, and nothing is drawn to decide that.
    fn are_few(&self) -> bool {
        self.list.len() < BASES / 4
    }

    /// A base image: an earlier one or, until there are enough, a new one.
    fn draw(&mut self, plan: &Plan, maker: &mut Maker, rng: &mut Rng) -> Base {
        if !self.are_few()
            && !rng.chance(NEW_BASE)
            && let Some(base) = rng.pick(&self.list)
        {
            return base.clone();
        }
        let base = valid_base(plan, maker, rng);
        if self.list.len() == BASES {
            let oldest = rng.index(BASES);
            self.list.swap_remove(oldest);
        }
        self.list.push(base.clone());
        base
    }
}

/// A base image that can be made, and that commands which have no key can open.
fn valid_base(plan: &Plan, maker: &mut Maker, rng: &mut Rng) -> Base {
    let open = plan.commands.as_ref();
    let keyless = open.is_some_and(|list| list.iter().any(Command::needs_key));
    loop {
        let mut base = base::draw(rng);
        if keyless {
            base.image.encryption = None;
        }
        if maker.prepared(&base).is_ok() {
            return base;
        }
    }
}

/// The test that belongs to `seed`, and to nothing else: no earlier test, no
/// feedback has a part in it.
///
/// Fails where no image can be made of it, which would be a fault of the fuzzer.
pub fn fresh(seed: &str, plan: &Plan, maker: &mut Maker) -> Result<Recipe> {
    let mut rng = Rng::from_text(seed);
    let base = valid_base(plan, maker, &mut rng);
    let weights = plan.only(mutate::first_weights());
    compose(seed, base, plan, &weights, maker, &mut rng)
}

/// A new test, on a base image at hand or a new one; whether it is the [`fresh`] one of
/// that seed.
pub(super) fn another(
    seed: &str,
    plan: &Plan,
    weights: &[u64],
    bases: &mut Bases,
    maker: &mut Maker,
) -> Result<(Recipe, bool)> {
    let mut rng = Rng::from_text(seed);
    let fresh = bases.are_few() && weights == plan.only(mutate::first_weights());
    let base = bases.draw(plan, maker, &mut rng);
    let recipe = compose(seed, base, plan, weights, maker, &mut rng)?;
    Ok((recipe, fresh))
}

/// A test on `base`.
fn compose(
    seed: &str,
    base: Base,
    plan: &Plan,
    weights: &[u64],
    maker: &mut Maker,
    rng: &mut Rng,
) -> Result<Recipe> {
    let prepared = maker.prepared(&base)?;
    let context = MutationContext {
        base: &base,
        map: &prepared.map,
    };
    let edits = mutate::draw(
        context,
        plan.selection.as_ref(),
        plan.intensity,
        weights,
        rng,
    );
    let commands = commands(plan, &base, rng);
    let mut recipe = Recipe {
        fuzzer: FUZZER.into(),
        seed: seed.into(),
        base,
        edits,
        commands,
        fresh_copies: plan.commands.is_some(),
        guard: plan.guard.draw(seed),
    };
    make_possible(&mut recipe, maker);
    Ok(recipe)
}

/// The commands of a test.
fn commands(plan: &Plan, base: &Base, rng: &mut Rng) -> Vec<Command> {
    match &plan.commands {
        Some(commands) => given::resolve(commands, base.image.virtual_size, rng),
        None => drawn::sequence(base, rng),
    }
}

/// A variation of `parent`: one mutation more, fewer or other, or other commands.
pub(super) fn variation(
    seed: &str,
    parent: &Recipe,
    plan: &Plan,
    weights: &[u64],
    maker: &mut Maker,
) -> Result<Recipe> {
    let mut rng = Rng::from_text(seed);
    let prepared = maker.prepared(&parent.base)?;
    let context = MutationContext {
        base: &parent.base,
        map: &prepared.map,
    };
    let mut recipe = parent.clone();
    recipe.seed = seed.into();
    recipe.guard = plan.guard.draw(seed);
    let drawn = plan.commands.is_none();
    let most = plan.intensity.max_edits(prepared.map.fields().len());
    match rng.below(6) {
        0 | 1 if drawn => recipe.commands.push(drawn::one(&parent.base, &mut rng)),
        2 if drawn => recipe.commands = drawn::sequence(&parent.base, &mut rng),
        _ => {
            while !recipe.edits.is_empty() && recipe.edits.len() >= most {
                let at = rng.index(recipe.edits.len());
                recipe.edits.remove(at);
            }
            if most > 0 {
                recipe.edits.extend(mutate::one(context, weights, &mut rng));
            }
        }
    }
    if !drawn {
        recipe.commands = commands(plan, &parent.base, &mut rng);
    }
    recipe.commands.truncate(MOST_COMMANDS);
    make_possible(&mut recipe, maker);
    Ok(recipe)
}

/// The most commands that variations may pile up.
const MOST_COMMANDS: usize = 5;

/// Drops the mutations that cannot be made to this image: those that write far past
/// its end.
fn make_possible(recipe: &mut Recipe, maker: &mut Maker) {
    let Ok(prepared) = maker.prepared(&recipe.base) else {
        return;
    };
    // Whether a mutation can be made does not depend on those before it: fields stay where
    // they were when the image was decoded.
    let mut image = prepared.image.clone();
    recipe
        .edits
        .retain(|mutation| crate::input::case::apply(&mut image, &mutation.edit).is_ok());
}
