//! What a test consists of, as it is stored: small, readable, and sufficient to replay it.
//!
//! A recipe names a valid image, the mutations made to it and the commands run on it.
//! It holds drawn values, not how they are drawn, so that a recipe
//! gives the same bytes on every machine and can be simplified piece by piece.

use std::path::Path;

use anyhow::{Context, Result, bail};
use image_mutations::edit::Mutation;
use serde::{Deserialize, Serialize};

use crate::input::command::Command;
use crate::input::guard::Guard;
use image_mutations::base::Base;

/// The fuzzer's name and version, as recipes carry it.
pub const FUZZER: &str = concat!("image-fuzzer ", env!("CARGO_PKG_VERSION"));

/// Whether recipes of `fuzzer` can be replayed: they hold what was drawn, so that other ways
/// of drawing do not matter.
pub fn is_readable(fuzzer: &str) -> bool {
    let earlier = ["0.2.", "0.3.", "0.4."].map(|it| format!("image-fuzzer {it}"));
    fuzzer == FUZZER || earlier.iter().any(|version| fuzzer.starts_with(version))
}

/// One test, replayable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The fuzzer that made it, with its version.
    pub fuzzer: String,
    /// The seed it was drawn from; kept for the record, not needed to replay.
    pub seed: String,
    /// The valid image to begin with.
    pub base: Base,
    /// The mutations, applied in order.
    pub edits: Vec<Mutation>,
    /// The commands, in order.
    pub commands: Vec<Command>,
    /// Whether each command gets a fresh copy of the image (the commands were
    /// given) or all work on the same one (they were drawn as a sequence).
    #[serde(default)]
    pub fresh_copies: bool,
    /// The guarding allocator that the commands run under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
}

/// What the bytes of an image that was made elsewhere count as: more edits than are drawn.
const UNKNOWN_EDITS: usize = 1 << 16;

impl Recipe {
    /// The recipe as indented JSON.
    ///
    /// # Errors
    ///
    /// It cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self).context("cannot write the recipe")?;
        text.push('\n');
        Ok(text)
    }

    /// Its size, to compare two examples of a finding: edits, words of its commands, bytes
    /// of its JSON. Of an image that was made elsewhere it is not known what differs from a
    /// valid one: it counts as larger than any that has a description.
    pub fn size(&self) -> (usize, usize, usize) {
        let words = self.commands.iter().map(|command| command.0.len()).sum();
        let text = serde_json::to_string(self).map_or(usize::MAX, |text| text.len());
        let unknown = match self.base.imported() {
            Some(_) => UNKNOWN_EDITS,
            None => 0,
        };
        (self.edits.len() + unknown, words, text)
    }

    /// The recipe in the file `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not a recipe, or was made by another version of the
    /// fuzzer, whose images may differ.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read the recipe '{}'; name the folder of a finding or of a test",
                path.display()
            )
        })?;
        let recipe: Self = serde_json::from_str(&text)
            .with_context(|| format!("'{}' is not a recipe", path.display()))?;
        if !is_readable(&recipe.fuzzer) {
            bail!(
                "'{}' was made by {}, this is {FUZZER}: use that version to replay it",
                path.display(),
                recipe.fuzzer
            );
        }
        Ok(recipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of another fuzzer once took the place of an example whose one edit was known.
    #[test]
    fn what_has_a_description_is_the_better_example() {
        use image_mutations::base::{Base, ImportedBase};
        let mut rng = image_mutations::rng::Rng::from_text("size");
        let drawn = Recipe {
            fuzzer: FUZZER.into(),
            seed: "1/2".into(),
            base: image_mutations::base::draw(&mut rng),
            edits: Vec::new(),
            commands: Vec::new(),
            guard: None,
            fresh_copies: false,
        };
        let bytes = image_formats::Store::new();
        let imported = Recipe {
            base: Base::Imported(ImportedBase::new(&bytes).unwrap()),
            ..drawn.clone()
        };
        assert!(drawn.size() < imported.size());
        let text = imported.to_json().unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), imported);
    }

    /// Other ways of drawing do not matter to what was drawn.
    #[test]
    fn recipes_of_earlier_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.json");
        let mut recipe = Recipe {
            fuzzer: FUZZER.into(),
            seed: "1/2".into(),
            base: image_mutations::base::draw(&mut image_mutations::rng::Rng::from_text("read")),
            edits: Vec::new(),
            commands: Vec::new(),
            guard: None,
            fresh_copies: false,
        };
        for (fuzzer, is_read) in [
            (FUZZER, true),
            ("image-fuzzer 0.2.0", true),
            ("image-fuzzer 0.2.7", true),
            ("image-fuzzer 0.3.0", true),
            ("image-fuzzer 0.4.0", true),
            ("image-fuzzer 0.1.0", false),
            ("image-fuzzer 9.0.0", false),
        ] {
            recipe.fuzzer = fuzzer.into();
            std::fs::write(&path, recipe.to_json().unwrap()).unwrap();
            assert_eq!(Recipe::read(&path).is_ok(), is_read, "{fuzzer}");
        }
    }
}
