//! The queues of several campaigns as one: the fewest recipes that reach what all of them reach.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::super::corpus::{ID, key, parse_name};
use super::super::cover::{Candidate, cover};
use super::super::reach_log::{self, Reach};
use super::super::store::{Progress, Store};
use crate::files::{copy_sparse, write_whole};
use crate::input::recipe::Recipe;

/// The recipes of several campaigns.
#[derive(Default)]
pub(super) struct Queue {
    entries: Vec<Entry>,
    /// Those that are there already, without their seeds.
    known: HashSet<String>,
}

/// A recipe.
struct Entry {
    /// Its name in the queue that it comes from.
    name: String,
    /// Its image there.
    image: PathBuf,
    recipe: Recipe,
    /// The number that the test that gave it has now.
    test: u64,
    reach: Option<Reach>,
}

impl Queue {
    /// Adds the queue of the campaign in the work folder `root`, whose tests are numbered from
    /// `first` on; the same recipe only once.
    pub(super) fn add(&mut self, root: &Path, first: u64, progress: &Progress) {
        let reaches: HashMap<&str, Reach> = reach_log::parse(&progress.reach).collect();
        for (name, recipe) in &progress.queue {
            let parts = (&recipe.base, &recipe.edits, &recipe.commands, recipe.guard);
            // A recipe that was read can be written.
            let text = serde_json::to_string(&parts).unwrap_or_else(|_| name.clone());
            if !self.known.insert(text) {
                continue;
            }
            let reach = name.get(..ID).and_then(|id| reaches.get(id));
            self.entries.push(Entry {
                name: name.clone(),
                image: root.join("queue").join(name),
                recipe: recipe.clone(),
                test: first + test(name),
                reach: reach.cloned(),
            });
        }
    }

    /// How many recipes there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Of how many it is not known what they reach.
    pub(super) fn unknown(&self) -> usize {
        self.entries.iter().filter(|it| it.reach.is_none()).count()
    }

    /// Leaves out those that reach nothing which others do not. Those of which it is not known
    /// stay.
    pub(super) fn minimise(&mut self) {
        let known = self.entries.iter().enumerate();
        let known = known.filter_map(|(index, entry)| {
            let reach = entry.reach.as_ref()?;
            let blocks = reach.blocks.iter().map(key);
            let reaches: Vec<u64> = reach.features.iter().copied().chain(blocks).collect();
            let parts = 1 + entry.recipe.edits.len() + entry.recipe.commands.len();
            Some((index, reaches, reach.cost.saturating_mul(parts as u64)))
        });
        let known: Vec<(usize, Vec<u64>, u64)> = known.collect();
        let candidates: Vec<Candidate<'_, u64>> = known
            .iter()
            .map(|(_, reaches, cost)| Candidate {
                reaches,
                cost: *cost,
            })
            .collect();
        let taken = cover(&candidates).into_iter().map(|place| known[place].0);
        let taken: HashSet<usize> = taken.collect();
        let mut index = 0;
        self.entries.retain(|entry| {
            index += 1;
            entry.reach.is_none() || taken.contains(&(index - 1))
        });
    }

    /// Writes images and recipes into the new work folder, and gives the log of what they
    /// reach. `interrupted` is asked now and then.
    pub(super) fn write(
        &self,
        store: &Store,
        interrupted: &dyn Fn() -> Result<()>,
    ) -> Result<String> {
        let root = store.root();
        let mut log = String::new();
        for (id, entry) in self.entries.iter().enumerate() {
            interrupted()?;
            let name = renumbered(&entry.name, id, entry.test);
            copy_sparse(&entry.image, &root.join("queue").join(&name))
                .with_context(|| format!("cannot copy '{}'", entry.image.display()))?;
            let recipe = root.join("recipes").join(format!("{name}.json"));
            write_whole(&recipe, entry.recipe.to_json()?.as_bytes())?;
            if let (Some(reach), Some(id)) = (&entry.reach, name.get(..ID)) {
                log += &reach_log::line(id, reach);
                log.push('\n');
            }
        }
        Ok(log)
    }
}

/// The number of the test that gave the recipe of that name.
fn test(name: &str) -> u64 {
    let number = name.split(',').find_map(|it| it.strip_prefix("src:"));
    number.and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// The name of a recipe with another number of its own and of its test.
fn renumbered(name: &str, id: usize, test: u64) -> String {
    let parts = name.split(',').filter(|part| {
        let mut known = ["id:", "src:"].iter();
        !known.any(|label| part.starts_with(label))
    });
    let rest: String = parts.map(|part| format!(",{part}")).collect();
    let name = format!("id:{id:06},src:{test:06}{rest}");
    debug_assert_eq!(parse_name(&name).1, name.ends_with("+opened"));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_keeps_what_its_name_says() {
        let name = "id:000007,src:000041,op:pointer+flag,novelty:5,+opened";
        assert_eq!(test(name), 41);
        let new = renumbered(name, 3, 141);
        assert_eq!(
            new,
            "id:000003,src:000141,op:pointer+flag,novelty:5,+opened"
        );
        assert_eq!(parse_name(&new), parse_name(name));
        assert_eq!(renumbered("other", 3, 4), "id:000003,src:000004,other");
    }
}
