//! Generating tests: new ones, and variations of those that showed something new.

use anyhow::Result;

use super::fleet::Import;
use super::novelty::{Changes, Guidance, Operator};
use super::state::CampaignConfig;
use crate::commands::{self, Command, adapted, given};
use crate::input::guard::GuardPlan;
use crate::input::recipe::{FUZZER, Recipe};
use crate::input::sweep::bases;
use crate::oracle::check;
use image_mutations::base::{Base, Formats, Prepared};
use image_mutations::case::{self, Maker};
use image_mutations::edit::{Edit, Mutation};
use image_mutations::map::Map;
use image_mutations::mutate::{self, FAMILIES, FieldSelection, Intensity};
use image_mutations::rng::Rng;

/// What tests are drawn from.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The formats of the images.
    pub formats: Formats,
    /// The commands given with `-c`; `None` for sequences that are drawn.
    pub commands: Option<Vec<Command>>,
    /// The fields that alone may be changed, as `--config` says.
    pub selection: Option<FieldSelection>,
    /// How much is changed.
    pub intensity: Intensity,
    /// The families that edits are drawn from; empty for all.
    pub families: Vec<String>,
    /// Which tests run under the guarding allocator.
    pub guard: GuardPlan,
}

impl Plan {
    /// What is stored of the plan, for another start to compare with.
    pub fn config(&self) -> CampaignConfig {
        CampaignConfig {
            formats: if self.formats.is_qcow2() {
                Vec::new()
            } else {
                self.formats
                    .names()
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect()
            },
            commands: self.commands.clone(),
            families: self.families.clone(),
            config: self.selection.as_ref().map(ToString::to_string),
        }
    }

    /// `weights` of the families, with 0 for those that the plan leaves out.
    pub fn restrict(&self, mut weights: Vec<u64>) -> Vec<u64> {
        for (family, weight) in FAMILIES.iter().zip(&mut weights) {
            if !self.families.is_empty() && !self.families.iter().any(|name| name == family.name) {
                *weight = 0;
            }
        }
        weights
    }
}

impl Plan {
    /// Whether the given commands cannot open an encrypted image.
    pub(super) fn is_keyless(&self) -> bool {
        let commands = self.commands.as_ref();
        commands.is_some_and(|list| list.iter().any(Command::needs_key))
    }

    /// Whether a base image has what the families mutate and the selection names: all of it,
    /// or `any`.
    fn suits(&self, map: &Map, any: bool) -> bool {
        let enough = |count: usize, of: usize| count == of || any && count > 0;
        let named = |name: &String| FAMILIES.iter().find(|family| family.name == name);
        let families = self.families.iter().filter_map(named);
        let usable = families.filter(|family| family.suits(map));
        let selection = self.selection.as_ref();
        let (present, of) = selection.map_or((0, 0), |selection| selection.presence(map));
        enough(usable.count(), self.families.len()) && enough(present, of)
    }
}

/// How often a new base image is drawn although the pool is large enough, in percent: making
/// a base image takes many times as long as mutating one.
const NEW_BASE_PERCENT: u64 = 25;

/// How many base images the pool holds.
const POOL_SIZE: usize = 48;

/// Base images that are used again.
#[derive(Debug, Default)]
pub(super) struct BasePool {
    bases: Vec<Base>,
}

/// The base image of one of the first tests of a campaign, which the number at the end of its
/// seed tells: together they have every feature that the plan can use.
fn first_base(seed: &str, plan: &Plan, maker: &mut Maker) -> Option<Base> {
    let (_, number) = seed.rsplit_once('/')?;
    let number = number.parse::<usize>().ok()?;
    let keyless = plan.is_keyless();
    let all = if plan.formats.is_qcow2() {
        bases()
    } else {
        Vec::new()
    };
    if number >= all.len() {
        return None;
    }
    let mut suitable = all
        .into_iter()
        .map(|named| named.base)
        .filter(|base| !keyless || !base.is_encrypted())
        .filter(|base| {
            let prepared = maker.prepared(base);
            prepared.is_ok_and(|prepared| plan.suits(&prepared.map, false))
        });
    suitable.nth(number)
}

impl BasePool {
    /// Whether the next one is a new one without a random decision.
    fn is_small(&self) -> bool {
        self.bases.len() < POOL_SIZE / 4
    }

    /// A base image: one of the pool or, until that is large enough, a new one.
    fn draw(&mut self, plan: &Plan, maker: &mut Maker, rng: &mut Rng) -> Base {
        if !self.is_small()
            && !rng.chance(NEW_BASE_PERCENT)
            && let Some(base) = rng.pick(&self.bases)
        {
            return base.clone();
        }
        let base = valid_base(plan, maker, rng);
        if self.bases.len() == POOL_SIZE {
            let replaced = rng.index(POOL_SIZE);
            self.bases.swap_remove(replaced);
        }
        self.bases.push(base.clone());
        base
    }
}

/// How many base images are drawn to find one with all that the plan asks for, before one
/// with some of it will do, and then any.
const TRIES: u32 = 100;

/// A base image that can be made, that the commands of the plan can open, and that has what
/// the plan asks to mutate.
fn valid_base(plan: &Plan, maker: &mut Maker, rng: &mut Rng) -> Base {
    let keyless = plan.is_keyless();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut base = plan.formats.draw(rng);
        if let Some(base) = base.qcow2_mut().filter(|_| keyless) {
            base.image.encryption = None;
        }
        let any = attempt > TRIES;
        if let Ok(prepared) = maker.prepared(&base)
            && (attempt > 2 * TRIES || plan.suits(&prepared.map, any))
        {
            return base;
        }
    }
}

/// The test that `seed` alone gives: no earlier test and no feedback affects it.
///
/// # Errors
///
/// No image can be made of it, which would be a bug of the fuzzer.
pub fn fresh(seed: &str, plan: &Plan, maker: &mut Maker) -> Result<Recipe> {
    let mut rng = Rng::from_text(seed);
    let first = first_base(seed, plan, maker);
    let base = first.unwrap_or_else(|| valid_base(plan, maker, &mut rng));
    let weights = plan.restrict(mutate::first_weights());
    compose(seed, base, plan, &weights, maker, &mut rng)
}

/// A new test, on a base image of the pool or a new one; whether it is the [`fresh`] one of
/// that seed.
///
/// # Errors
///
/// No image can be made of it.
pub(super) fn generate(
    seed: &str,
    plan: &Plan,
    weights: &[u64],
    bases: &mut BasePool,
    maker: &mut Maker,
) -> Result<(Recipe, bool)> {
    let mut rng = Rng::from_text(seed);
    let first = first_base(seed, plan, maker);
    let new = first.is_some() || bases.is_small();
    let fresh = new && weights == plan.restrict(mutate::first_weights());
    let base = match first {
        Some(base) => {
            bases.bases.push(base.clone());
            base
        }
        None => bases.draw(plan, maker, &mut rng),
    };
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
    let map = &prepared.map;
    let mut edits = Vec::new();
    for _ in 0..TRIES {
        let selection = plan.selection.as_ref();
        edits = mutate::draw(map, selection, plan.intensity, weights, rng);
        if base.qcow2().is_none() && !edits.is_empty() {
            mutate::recompute(&mut edits, rng);
        }
        retain_applicable(&mut edits, &prepared);
        if !edits.is_empty() || plan.intensity.allows_none() {
            break;
        }
    }
    let commands = commands(plan, &base, rng);
    Ok(Recipe {
        fuzzer: FUZZER.into(),
        seed: seed.into(),
        base,
        edits,
        commands,
        fresh_copies: plan.commands.is_some(),
        guard: plan.guard.draw(seed),
    })
}

/// The first test of an image that another instance of the fleet made.
pub(super) fn imported(number: u64, import: Import, plan: &Plan) -> Recipe {
    let Import { base, source } = import;
    let seed = source.seed();
    let mut rng = Rng::from_text(&format!("{seed}/{number}"));
    let commands = match &plan.commands {
        Some(commands) => given::resolve(commands, base.virtual_size(), &mut rng),
        None => commands::survey(&base, &mut rng),
    };
    Recipe {
        fuzzer: FUZZER.into(),
        base: Base::Imported(base),
        edits: Vec::new(),
        commands,
        fresh_copies: plan.commands.is_some(),
        guard: plan.guard.draw(&seed),
        seed,
    }
}

/// The commands of a test.
fn commands(plan: &Plan, base: &Base, rng: &mut Rng) -> Vec<Command> {
    match &plan.commands {
        Some(commands) => given::resolve(commands, base.virtual_size(), rng),
        None => commands::sequence(base, rng),
    }
}

impl Guidance {
    /// A kind of variation that `plan` allows.
    fn operator(&self, plan: &Plan, rng: &mut Rng) -> Option<Operator> {
        let weights = self.operators.map(|(operator, weight)| match operator {
            it if it.is_of_commands() && plan.commands.is_some() => 0,
            Operator::Field if plan.restrict(vec![1; FAMILIES.len()]).contains(&0) => 0,
            _ => weight,
        });
        Some(self.operators.get(rng.weighted(&weights)?)?.0)
    }

    /// One of a few commands that `draw` gives, by their weights.
    fn command<T>(
        &self,
        verb: impl Fn(&T) -> Option<String>,
        rng: &mut Rng,
        mut draw: impl FnMut(&mut Rng) -> T,
    ) -> T {
        let first = draw(rng);
        let mut drawn: Vec<T> = std::iter::once(first)
            .chain((1..COMMANDS_DRAWN).map(|_| draw(rng)))
            .collect();
        let weight = |verb| {
            self.commands
                .get(&verb)
                .copied()
                .unwrap_or(self.other_command)
        };
        let weights: Vec<u64> = drawn.iter().map(|it| verb(it).map_or(0, weight)).collect();
        drawn.swap_remove(rng.weighted(&weights).unwrap_or(0))
    }
}

/// Among how many commands, or sequences of them, one is drawn by weight.
const COMMANDS_DRAWN: usize = 4;

/// Whether two edits set the same field.
fn same_field(one: &Mutation, other: &Mutation) -> bool {
    match (&one.edit, &other.edit) {
        (Edit::Set { path: one, .. }, Edit::Set { path: other, .. }) => one == other,
        _ => false,
    }
}

/// A variation of `parent`: one mutation more, fewer or other, or other commands; and what it
/// has that its parent has not.
///
/// # Errors
///
/// Its base image cannot be made.
pub(super) fn variation(
    seed: &str,
    parent: &Recipe,
    plan: &Plan,
    guidance: &Guidance,
    maker: &mut Maker,
) -> Result<(Recipe, Changes)> {
    let mut rng = Rng::from_text(seed);
    let prepared = maker.prepared(&parent.base)?;
    let map = &prepared.map;
    let mut recipe = parent.clone();
    recipe.seed = seed.into();
    recipe.guard = plan.guard.draw(seed);
    recipe.fresh_copies = plan.commands.is_some();
    let operator = guidance.operator(plan, &mut rng);
    match operator {
        Some(Operator::AddCommand) => {
            let verb = |command: &Command| Some(command.verb());
            let draw = |rng: &mut Rng| commands::one(&parent.base, rng);
            recipe.commands.push(guidance.command(verb, &mut rng, draw));
        }
        Some(Operator::ReplaceCommands) => {
            let verb = |list: &Vec<Command>| list.first().map(Command::verb);
            let draw = |rng: &mut Rng| commands::sequence(&parent.base, rng);
            recipe.commands = guidance.command(verb, &mut rng, draw);
        }
        _ => mutate_again(&mut recipe, operator, map, plan, guidance, &mut rng),
    }
    retain_applicable(&mut recipe.edits, &prepared);
    if recipe.edits.is_empty() && !plan.intensity.allows_none() {
        recipe.edits.clone_from(&parent.edits);
    }
    if plan.commands.is_some() {
        recipe.commands = commands(plan, &parent.base, &mut rng);
    }
    recipe.commands.truncate(MOST_COMMANDS);
    let mut changes = changes(&recipe, Some(parent), &prepared.map);
    changes.operator = operator;
    Ok((recipe, changes))
}

/// Changes the mutations of a variation.
fn mutate_again(
    recipe: &mut Recipe,
    operator: Option<Operator>,
    map: &Map,
    plan: &Plan,
    guidance: &Guidance,
    rng: &mut Rng,
) {
    let parents = recipe.edits.clone();
    let most = plan.intensity.max_edits(map.fields().len());
    while !recipe.edits.is_empty() && recipe.edits.len() >= most {
        let at = rng.index(recipe.edits.len());
        recipe.edits.remove(at);
    }
    if most == 0 {
        return;
    }
    let mutation = match operator {
        Some(Operator::Again) => mutate::again(map, &parents, &guidance.fields, rng),
        Some(Operator::Field) => mutate::field(map, &guidance.fields, rng),
        _ => None,
    };
    match mutation {
        Some(mutation) => {
            // Of two edits of a field the last one counts.
            recipe.edits.retain(|edit| !same_field(edit, &mutation));
            recipe.edits.push(mutation);
        }
        None => {
            let weights = plan.restrict(guidance.families.clone());
            let drawn = mutate::one(map, &weights, rng);
            recipe.edits.extend(drawn);
        }
    }
    // What was added is corrected as what was there before.
    mutate::in_order(&mut recipe.edits);
}

/// What a recipe has that its parent has not, where it has one.
pub(super) fn changes(recipe: &Recipe, parent: Option<&Recipe>, map: &Map) -> Changes {
    let old = |mutation: &&Mutation| !parent.is_some_and(|it| it.edits.contains(mutation));
    let edits = recipe.edits.iter().filter(old);
    let mut fields: Vec<String> = edits.map(|it| mutate::class_of(it, map)).collect();
    let old = |command: &&Command| !parent.is_some_and(|it| it.commands.contains(command));
    let mut commands: Vec<String> = (recipe.commands.iter().filter(old))
        .map(Command::verb)
        .collect();
    for names in [&mut fields, &mut commands] {
        names.sort_unstable();
        names.dedup();
    }
    Changes {
        operator: None,
        fields,
        commands,
    }
}

/// One in so many tests keeps a command that takes seconds.
const COSTLY: u64 = 8;

/// Replaces commands that take seconds on an image, whatever its mutations, by a check in all
/// but a few tests; whether there were any.
pub(super) fn spare(recipe: &mut Recipe, number: u64) -> bool {
    /// A refcount block of a cluster this long has a million entries, each of which is set by
    /// itself for another width of refcounts.
    const LONG_CLUSTER: u64 = 1 << 20;
    if number.is_multiple_of(COSTLY) || recipe.base.cluster_size() < LONG_CLUSTER {
        return false;
    }
    let costly = |command: &&mut Command| {
        let is_width = |word: &String| word.contains("refcount_bits=");
        command.group_verb() == "qemu-img amend" && command.0.iter().any(is_width)
    };
    let mut spared = false;
    let base = &recipe.base;
    for command in recipe.commands.iter_mut().filter(costly) {
        *command = adapted(base, check());
        spared = true;
    }
    spared
}

/// The most commands of a variation.
const MOST_COMMANDS: usize = 5;

/// Drops the mutations that cannot be applied to this image: those that write far past its
/// end.
fn retain_applicable(edits: &mut Vec<Mutation>, prepared: &Prepared) {
    // Whether a mutation can be applied does not depend on those before it: fields stay where
    // they were when the image was decoded.
    let mut image = prepared.image.clone();
    edits.retain(|mutation| case::apply(&mut image, &mutation.edit).is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::novelty::NoveltySources;

    /// A variation once had a field drawn by novelty where images were to be valid.
    #[test]
    fn variations_of_valid_images_are_valid() {
        let plan = Plan {
            intensity: Intensity::Mutations(0, 0),
            ..Plan::default()
        };
        let mut maker = Maker::default();
        let parent = fresh("valid/999999", &plan, &mut maker).unwrap();
        assert_eq!(parent.edits, []);
        let guidance = NoveltySources::default().guidance(mutate::first_weights());
        for number in 0..200 {
            let seed = format!("valid/{number}");
            let (recipe, _) = variation(&seed, &parent, &plan, &guidance, &mut maker).unwrap();
            assert_eq!(recipe.edits, [], "{seed}");
        }
    }

    /// What a variation added to an image of another format once stood behind the correction of
    /// checksums, so that these were wrong and the image was refused.
    #[test]
    fn what_a_variation_adds_is_corrected() {
        let plan = Plan {
            formats: Formats::named("vhdx").unwrap(),
            ..Plan::default()
        };
        let mut maker = Maker::default();
        let guidance = NoveltySources::default().guidance(mutate::first_weights());
        let mut corrected = 0;
        for number in 0..30 {
            let parent = fresh(&format!("parent/{number}"), &plan, &mut maker).unwrap();
            let seed = format!("variation/{number}");
            let (recipe, _) = variation(&seed, &parent, &plan, &guidance, &mut maker).unwrap();
            let is = |wanted: &'static str| move |edit: &Mutation| edit.family == wanted;
            let Some(at) = recipe.edits.iter().position(is("recompute")) else {
                continue;
            };
            let rest = &recipe.edits[at + 1..];
            let on_purpose = |edit| is("copy")(edit) || is("checksum")(edit);
            assert!(rest.iter().all(on_purpose), "{:?}", recipe.edits);
            corrected += 1;
        }
        assert!(corrected > 5, "{corrected}");
    }

    /// Other refcount widths on clusters of 2 MiB once took a seventh of a campaign's time.
    #[test]
    fn few_tests_have_a_command_that_takes_seconds() {
        let mut rng = Rng::from_text("costly");
        let mut base = image_mutations::base::draw(&mut rng);
        base.qcow2_mut().unwrap().image.encryption = None;
        base.qcow2_mut().unwrap().image.cluster_bits = 21;
        let amend = Command::new([
            "qemu-img",
            "amend",
            "-o",
            "compat=1.1,refcount_bits=8",
            "$test_img",
        ]);
        let info = Command::new(["qemu-img", "info", "$test_img"]);
        let recipe = Recipe {
            fuzzer: FUZZER.into(),
            seed: "costly".into(),
            base,
            edits: Vec::new(),
            commands: vec![info.clone(), amend.clone()],
            fresh_copies: false,
            guard: None,
        };
        let commands = |cluster_bits, number| {
            let mut recipe = recipe.clone();
            recipe.base.qcow2_mut().unwrap().image.cluster_bits = cluster_bits;
            let spared = spare(&mut recipe, number);
            assert_eq!(spared, !recipe.commands.contains(&amend));
            recipe.commands
        };
        assert_eq!(commands(21, 7), [info.clone(), check()]);
        assert_eq!(commands(21, 8), [info.clone(), amend.clone()]);
        assert_eq!(commands(16, 7), [info.clone(), amend.clone()]);
    }
}
