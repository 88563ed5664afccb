//! The images of a campaign's queue for other fuzzers.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use image_formats::{Format, ReadAt as _};
use sha2::{Digest as _, Sha256};

use super::state::State;
use super::store::read_set_aside;
use crate::files::read_image;
use image_mutations::named_file::NamedFile;

/// What is exported of a work folder.
#[derive(Debug, Default)]
pub struct Exported {
    /// The images, each once.
    pub images: Vec<ExportedImage>,
    /// How many are left out, since they are larger than was asked for.
    pub too_large: usize,
    /// How many are left out, since others reach the same.
    pub set_aside: usize,
    /// How many are left out, since others have the same bytes and only other commands.
    pub same: usize,
}

/// An image of the queue.
#[derive(Debug)]
pub struct ExportedImage {
    /// The number that it has in the queue, and its format: `000012.qcow2`.
    pub name: String,
    /// Its bytes.
    pub bytes: NamedFile,
}

/// The images in the queue of the work folder `root` of up to `most` bytes. Those that are set
/// aside are among them where `all` is set.
///
/// # Errors
///
/// `root` is not the work folder of a campaign, or cannot be read.
pub fn exported(root: &Path, most: u64, all: bool) -> Result<Exported> {
    State::read(root)?;
    let queue = root.join("queue");
    let failed = || format!("cannot read '{}'", queue.display());
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(&queue).with_context(failed)? {
        let name = entry.with_context(failed)?.file_name();
        names.extend(name.into_string().ok().filter(|it| it.starts_with("id:")));
    }
    names.sort();
    let aside = read_set_aside(root);
    let mut seen = HashSet::new();
    let mut exported = Exported::default();
    for name in names {
        if !all && aside.contains(&name) {
            exported.set_aside += 1;
            continue;
        }
        let path = queue.join(&name);
        let len = fs::metadata(&path).with_context(|| unread(&path))?.len();
        if len > most {
            exported.too_large += 1;
            continue;
        }
        let bytes = read_image(&path).with_context(|| unread(&path))?;
        let format = Format::probe(&bytes).ok().flatten().unwrap_or(Format::Raw);
        let id: String = name
            .chars()
            .skip(3)
            .take_while(char::is_ascii_digit)
            .collect();
        let image = NamedFile::new(&name, &bytes);
        // AFL++ and libFuzzer pass over what is empty.
        if image.len() == 0 || !seen.insert(Sha256::digest(image.to_vec())) {
            exported.same += 1;
            continue;
        }
        exported.images.push(ExportedImage {
            name: format!("{id}.{format}"),
            bytes: image,
        });
    }
    Ok(exported)
}

fn unread(path: &Path) -> String {
    format!("cannot read '{}'", path.display())
}
