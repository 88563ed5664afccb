//! Base images of formats other than qcow2: the files of a description.

use anyhow::{Context, Result, ensure};
use image_formats::qcow2;
use image_formats::{ReadAt as _, Store};

use super::{OtherBase, Parent, ParentDisk};
use crate::named_file::{MOST_BYTES, NamedFile};

/// The files of an image called `name`: the image first, then what belongs to it, then its
/// parents.
///
/// # Errors
///
/// The description contradicts itself, or a file is too long.
pub(super) fn files_of(base: &OtherBase, name: &str) -> Result<Vec<NamedFile>> {
    let built = base.spec.build(name);
    let built = built.context("the base image cannot be made")?;
    let mut files: Vec<NamedFile> = built
        .iter()
        .map(|file| NamedFile::new(&file.name, &file.bytes))
        .collect();
    if let Some(parent) = &base.parent {
        files.extend(parent_files(parent)?);
    }
    Ok(files)
}

fn parent_files(parent: &Parent) -> Result<Vec<NamedFile>> {
    let one = |bytes: &Store| vec![NamedFile::new(&parent.name, bytes)];
    match &parent.disk {
        ParentDisk::Raw(size, pattern) => {
            ensure!(*size <= MOST_BYTES, "the parent is too long");
            let mut bytes = Store::new();
            bytes.write(0, &pattern.bytes(*size as usize));
            Ok(one(&bytes))
        }
        ParentDisk::Qcow2(spec) => {
            let built = qcow2::build(spec).context("the parent cannot be made")?;
            ensure!(
                built.image.bytes().len() <= MOST_BYTES,
                "the parent is too long"
            );
            Ok(one(built.image.bytes()))
        }
        ParentDisk::Other(base) => files_of(base, &parent.name),
    }
}
