//! The image behind a device: one that `qemu-img` made, or one with mutations.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use image_mutations::base::{Base, Formats};
use image_mutations::case::{Maker, apply};
use image_mutations::edit::Mutation;
use image_mutations::mutate::{self, Intensity};
use image_mutations::named_file::NamedFile;
use image_mutations::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::files::{copy_sparse, write_whole};

/// The disk's image, in the folder that an emulator runs in.
pub const IMAGE: &str = "disk.img";

/// The description of an image with mutations, in the folder of a finding.
pub const RECIPE: &str = "image.json";

/// The image that a disk begins with.
#[derive(Clone, Debug)]
pub enum DiskImage {
    /// A file, of which each emulator gets a copy.
    File(PathBuf),
    /// An image with mutations.
    Mutated(Arc<Mutated>),
}

/// An image with mutations, and the files that it refers to.
#[derive(Debug)]
pub struct Mutated {
    recipe: Recipe,
    /// The image first.
    files: Vec<NamedFile>,
}

/// What an image is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    base: Base,
    edits: Vec<Mutation>,
}

impl DiskImage {
    /// Writes it into the folder that an emulator runs in.
    ///
    /// # Errors
    ///
    /// It cannot be read or written.
    pub fn put(&self, folder: &Path) -> io::Result<()> {
        let to = folder.join(IMAGE);
        if to.exists() {
            fs::remove_file(&to)?;
        }
        match self {
            Self::File(path) => copy_sparse(path, &to),
            Self::Mutated(it) => it.files.iter().try_for_each(|file| file.write_into(folder)),
        }
    }

    /// Writes it, and what it is made of, into the folder of a finding. What is there already is
    /// replaced, since a finding is stored again with a simpler image.
    ///
    /// # Errors
    ///
    /// It cannot be read or written.
    pub fn keep(&self, folder: &Path) -> Result<()> {
        let failed = || format!("cannot write the image in '{}'", folder.display());
        let is_own = match self {
            Self::File(path) => *path == folder.join(IMAGE),
            Self::Mutated(_) => false,
        };
        if !is_own {
            self.put(folder).with_context(failed)?;
        }
        let recipe = folder.join(RECIPE);
        match self {
            Self::Mutated(it) => {
                let text = serde_json::to_string_pretty(&it.recipe)? + "\n";
                write_whole(&recipe, text.as_bytes())
            }
            Self::File(_) if recipe.exists() => fs::remove_file(&recipe).with_context(failed),
            Self::File(_) => Ok(()),
        }
    }

    /// The image in the folder of a finding, where its machine has one, of this format.
    ///
    /// # Errors
    ///
    /// Its description is damaged.
    pub fn of_finding(folder: &Path, format: Option<&str>) -> Result<Option<Self>> {
        if format.is_none() {
            return Ok(None);
        }
        let path = folder.join(RECIPE);
        if !path.exists() {
            return Ok(Some(Self::File(folder.join(IMAGE))));
        }
        let damaged = || format!("'{}' is damaged", path.display());
        let text = fs::read(&path).with_context(damaged)?;
        let recipe: Recipe = serde_json::from_slice(&text).with_context(damaged)?;
        let made = Mutated::new(recipe, &mut Maker::default()).with_context(damaged)?;
        Ok(Some(Self::Mutated(Arc::new(made))))
    }

    /// The names of its files, the image first.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::File(_) => vec![IMAGE],
            Self::Mutated(it) => it.files.iter().map(|file| file.name.as_str()).collect(),
        }
    }

    /// Whether it has mutations.
    #[must_use]
    pub fn is_mutated(&self) -> bool {
        matches!(self, Self::Mutated(_))
    }

    /// The same image without one of its mutations each.
    #[must_use]
    pub fn simpler(&self) -> Vec<Self> {
        let Self::Mutated(it) = self else {
            return Vec::new();
        };
        let mut maker = Maker::default();
        let without = (0..it.recipe.edits.len()).filter_map(|left_out| {
            let mut recipe = it.recipe.clone();
            recipe.edits.remove(left_out);
            let made = Mutated::new(recipe, &mut maker).ok()?;
            Some(Self::Mutated(Arc::new(made)))
        });
        without.collect()
    }
}

impl Mutated {
    fn new(recipe: Recipe, maker: &mut Maker) -> Result<Self> {
        let mut files = maker.files(&recipe.base, &recipe.edits)?;
        if let Some(image) = files.first_mut() {
            *image = image.named(IMAGE.to_owned());
        }
        Ok(Self { recipe, files })
    }
}

/// Draws images with mutations.
#[derive(Debug)]
pub struct Images {
    formats: Formats,
    maker: Maker,
}

impl Images {
    /// Of a format, by its word; `None` for one without a model.
    #[must_use]
    pub fn of(format: &str) -> Option<Self> {
        Some(Self {
            formats: Formats::named(format)?,
            maker: Maker::default(),
        })
    }

    /// Draws an image that opens without a key, as far as its base is concerned: an emulator may
    /// refuse what the mutations make of it.
    ///
    /// # Errors
    ///
    /// The base image cannot be made.
    pub fn draw(&mut self, rng: &mut Rng) -> Result<DiskImage> {
        let mut base = self.formats.draw(rng);
        if let Some(base) = base.qcow2_mut() {
            base.image.encryption = None;
        }
        let prepared = self.maker.prepared(&base)?;
        let weights = mutate::first_weights();
        let mut edits = mutate::draw(&prepared.map, None, Intensity::default(), &weights, rng);
        if base.qcow2().is_none() && !edits.is_empty() {
            mutate::recompute(&mut edits, rng);
        }
        let mut image = prepared.image.clone();
        edits.retain(|mutation| apply(&mut image, &mutation.edit).is_ok());
        let made = Mutated::new(Recipe { base, edits }, &mut self.maker)?;
        Ok(DiskImage::Mutated(Arc::new(made)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_image_is_made_again_and_with_fewer_mutations() {
        let mut images = Images::of("qcow2").unwrap();
        let mut rng = Rng::from_text("disk");
        let dir = tempfile::tempdir().unwrap();
        let mut several = 0;
        for number in 0..8 {
            let folder = dir.path().join(number.to_string());
            fs::create_dir(&folder).unwrap();
            let image = images.draw(&mut rng).unwrap();
            image.keep(&folder).unwrap();
            let bytes = fs::read(folder.join(IMAGE)).unwrap();
            assert!(bytes.len() > 512);
            let read = DiskImage::of_finding(&folder, Some("qcow2"))
                .unwrap()
                .unwrap();
            fs::remove_file(folder.join(IMAGE)).unwrap();
            read.put(&folder).unwrap();
            assert_eq!(fs::read(folder.join(IMAGE)).unwrap(), bytes);
            several += usize::from(read.simpler().len() > 1);
            // A plain image takes its place.
            let plain = dir.path().join("plain");
            fs::write(&plain, b"plain").unwrap();
            DiskImage::File(plain).keep(&folder).unwrap();
            let read = DiskImage::of_finding(&folder, Some("qcow2")).unwrap();
            assert!(matches!(read, Some(DiskImage::File(_))));
            assert_eq!(fs::read(folder.join(IMAGE)).unwrap(), b"plain");
        }
        assert!(several > 0);
    }
}
