//! `state.json`: what a campaign is, for the next start to compare with.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::store::swept;
use crate::commands::Command;
use crate::files::write_whole;
use crate::input::recipe::{FUZZER, is_readable};
use image_mutations::mutate::FieldSelection;
use image_mutations::rng::{FNV_START, fnv};

/// What `state.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The fuzzer that began the campaign.
    fuzzer: String,
    /// The seed that all its tests are drawn from.
    pub(super) seed: String,
    /// The configuration of the last start.
    // Version 0.2 called it `asked`; those before did not store it.
    #[serde(default, alias = "asked", skip_serializing_if = "Option::is_none")]
    config: Option<CampaignConfig>,
    /// How many tests the sweep of the last start had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sweep: Option<u64>,
}

/// What tests are drawn from, as far as one start may differ in it from the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignConfig {
    /// The formats of the images; none stand for qcow2, as in campaigns of earlier versions.
    #[serde(default)]
    pub formats: Vec<String>,
    /// The given commands.
    pub commands: Option<Vec<Command>>,
    /// The families that edits are drawn from.
    pub families: Vec<String>,
    /// The fields that alone may be changed, as text.
    pub config: Option<String>,
}

/// The name of the file.
const STATE: &str = "state.json";

impl State {
    /// The state of the campaign in the work folder `root`; a new campaign begins with
    /// `seed`, or without one with a `drawn` one.
    ///
    /// # Errors
    ///
    /// The campaign was begun by another version or with another seed, or the folder cannot
    /// be written.
    pub(super) fn open(
        root: &Path,
        seed: Option<&str>,
        drawn: impl FnOnce() -> String,
    ) -> Result<Self> {
        let path = root.join(STATE);
        let Ok(text) = fs::read_to_string(&path) else {
            let state = Self {
                fuzzer: FUZZER.into(),
                seed: seed.map_or_else(drawn, str::to_owned),
                config: None,
                sweep: None,
            };
            state.write(root)?;
            return Ok(state);
        };
        let mut state: Self = serde_json::from_str(&text)
            .with_context(|| format!("'{}' is damaged", path.display()))?;
        if !is_readable(&state.fuzzer) {
            bail!(
                "'{}' belongs to a campaign of {}; this is {FUZZER}: use another folder",
                root.display(),
                state.fuzzer
            );
        }
        if seed.is_some_and(|seed| seed != state.seed) {
            bail!(
                "'{}' belongs to a campaign with the seed '{}'; use another folder",
                root.display(),
                state.seed
            );
        }
        if state.fuzzer != FUZZER {
            // Its sweep had other tests.
            state.sweep = None;
            state.fuzzer = FUZZER.into();
        }
        Ok(state)
    }

    /// The state of the campaign in the work folder `root`, which is not changed.
    ///
    /// # Errors
    ///
    /// There is none, it is damaged, or another version began it.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let path = root.join(STATE);
        let text = fs::read_to_string(&path).with_context(|| {
            let path = path.display();
            format!("cannot read '{path}'; name the work folder of a campaign")
        })?;
        let state: Self = serde_json::from_str(&text)
            .with_context(|| format!("'{}' is damaged", path.display()))?;
        if !is_readable(&state.fuzzer) {
            bail!(
                "'{}' belongs to a campaign of {}, this is {FUZZER}: use that version",
                root.display(),
                state.fuzzer
            );
        }
        Ok(state)
    }

    /// The state of one campaign that others were merged into, with a seed of its own. It has a
    /// configuration where all had the same, and its sweep goes on where theirs was the same.
    pub(super) fn merged(states: &[Self]) -> Self {
        let same = |is: &dyn Fn(&Self) -> bool| states.iter().all(is);
        let first = states.first();
        let config = first.and_then(|it| it.config.clone());
        let config = config.filter(|config| same(&|it| it.config.as_ref() == Some(config)));
        let sweep = first.and_then(|it| it.sweep);
        let sweep = sweep.filter(|_| config.is_some());
        let sweep =
            sweep.filter(|sweep| same(&|it| it.sweep == Some(*sweep) && it.fuzzer == FUZZER));
        let seeds = states.iter().map(|it| it.seed.as_bytes());
        let hash = seeds.fold(FNV_START, |hash, seed| fnv(fnv(hash, seed), b"/"));
        Self {
            fuzzer: FUZZER.into(),
            seed: format!("merge-{hash:016x}"),
            config,
            sweep,
        }
    }

    /// Whether it has a sweep.
    pub(super) fn sweeps(&self) -> bool {
        self.sweep.is_some()
    }

    /// Whether the sweep of the last start had the same tests.
    pub(super) fn has_sweep(&self, config: &CampaignConfig, tests: u64) -> bool {
        self.config.as_ref() == Some(config) && self.sweep == Some(tests)
    }

    /// Stores the configuration of this start, and how many tests its sweep has; without one
    /// that of the last start is kept.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(super) fn set_config(
        &mut self,
        root: &Path,
        config: CampaignConfig,
        sweep: Option<u64>,
    ) -> Result<()> {
        if sweep.is_some() || self.config.as_ref() != Some(&config) {
            self.sweep = sweep;
        }
        self.config = Some(config);
        self.write(root)
    }

    /// Stores it.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(super) fn write(&self, root: &Path) -> Result<()> {
        write_whole(&root.join(STATE), &serde_json::to_vec_pretty(self)?)
    }
}

/// How many tests of the sweep are finished in the work folder `root`, and how many it has;
/// `None` where there is none.
pub fn sweep_progress(root: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(root.join(STATE)).ok()?;
    let total = serde_json::from_str::<State>(&text).ok()?.sweep?;
    Some((swept(root).ok()?.count().min(total), total))
}

impl CampaignConfig {
    /// The configuration of the last start in the work folder `root`; `None` where none is
    /// stored.
    pub fn last(root: &Path) -> Option<Self> {
        let text = fs::read_to_string(root.join(STATE)).ok()?;
        serde_json::from_str::<State>(&text).ok()?.config
    }

    /// The options in which `other` differs.
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        [
            ("FORMAT", self.formats == other.formats),
            ("-c", self.commands == other.commands),
            ("--family", self.families == other.families),
            (
                "--config",
                FieldSelection::same_text(self.config.as_deref(), other.config.as_deref()),
            ),
        ]
        .into_iter()
        .filter(|(_, same)| !same)
        .map(|(option, _)| option)
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_keeps_its_seed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mut begun = State::open(root, None, || "drawn".into()).unwrap();
        assert_eq!(begun.seed, "drawn");
        let state = State::open(root, Some("drawn"), String::new).unwrap();
        assert_eq!(state, begun);
        assert!(State::open(root, Some("other"), String::new).is_err());
        assert_eq!(CampaignConfig::last(root), None);
        let config = CampaignConfig {
            formats: Vec::new(),
            commands: None,
            families: vec!["havoc".into()],
            config: None,
        };
        begun.set_config(root, config.clone(), None).unwrap();
        assert_eq!(CampaignConfig::last(root), Some(config.clone()));
        let other = CampaignConfig {
            families: Vec::new(),
            ..config.clone()
        };
        assert_eq!(config.differing(&other), ["--family"]);
        // As version 0.2 wrote it.
        let text = fs::read_to_string(root.join(STATE)).unwrap();
        let earlier = text.replacen("\"config\"", "\"asked\"", 1);
        assert_ne!(earlier, text);
        fs::write(root.join(STATE), earlier).unwrap();
        assert_eq!(CampaignConfig::last(root), Some(config));
    }
}
