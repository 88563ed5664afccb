//! `reproduce` and `minimise`: a finding's recipe carried out again.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Example, Record, write_folder};
use crate::case::Maker;
use crate::recipe::Recipe;
use crate::triage::minimise::{Budget, Task};
use crate::triage::{Key, name};
use crate::trial::{Bench, Outcome, Settings};

/// What came of carrying a recipe out again.
#[derive(Debug)]
pub struct Again {
    /// The recipe.
    pub recipe: Recipe,
    /// The group the folder is of; `None` for a folder that holds a recipe alone.
    pub wanted: Option<Key>,
    /// The groups seen now.
    pub seen: Vec<Key>,
    /// What the programs did.
    pub outcome: Outcome,
}

impl Again {
    /// Whether the fault showed: that of the folder, or any where it names none.
    pub fn shown(&self) -> bool {
        match &self.wanted {
            Some(key) => key.is_among(&self.seen),
            None => !self.seen.is_empty(),
        }
    }
}

/// Carries out the recipe in `folder`.
///
/// Fails where there is none, or it cannot be carried out.
pub fn reproduce_folder(folder: &Path, settings: Settings) -> Result<Again> {
    let recipe = Recipe::read(&folder.join("recipe.json"))?;
    let mut bench = Bench::new(settings)?;
    let files = Maker::default().files(&recipe)?;
    let outcome = bench.run(&recipe, &files)?;
    let seen = name(&mut bench, &recipe, &files, &outcome)?;
    Ok(Again {
        wanted: record(folder)?.map(|record| record.key),
        recipe,
        seen,
        outcome,
    })
}

/// Minimises the recipe in `folder` and writes the folder anew; gives the number
/// of edits before and after.
///
/// Fails where the fault does not show any more.
pub fn minimise_folder(
    folder: &Path,
    settings: Settings,
    budget: Budget,
) -> Result<(usize, usize)> {
    let recipe = Recipe::read(&folder.join("recipe.json"))?;
    let mut bench = Bench::new(settings)?;
    let mut maker = Maker::default();
    let files = maker.files(&recipe)?;
    let outcome = bench.run(&recipe, &files)?;
    let seen = name(&mut bench, &recipe, &files, &outcome)?;
    let wanted = record(folder)?.map(|record| record.key);
    let key = match wanted {
        Some(key) if key.is_among(&seen) => key,
        None if !seen.is_empty() => seen[0].clone(),
        _ => bail!("the fault of '{}' does not show any more", folder.display()),
    };
    let mut task = Task::new(key, recipe.clone(), budget);
    let example = Example::smallest(&mut task, &mut bench, &mut maker, &|| false)?;
    let folder = std::path::absolute(folder)?;
    write_folder(&folder, &example)?;
    Ok((recipe.edits.len(), example.recipe.edits.len()))
}

/// What `finding.json` in `folder` says, where there is one.
fn record(folder: &Path) -> Result<Option<Record>> {
    let path = folder.join("finding.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map(Some)
        .with_context(|| format!("'{}' is damaged", path.display()))
}
