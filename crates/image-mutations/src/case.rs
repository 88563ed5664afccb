//! From a base image and its edits to the image files.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use image_formats::{Access, AnyImage, Derivation, Disk, DiskError, Format, ReadAt, Value};

use crate::base::{Base, PASSPHRASE, Prepared, prepare};
use crate::edit::{Edit, Extension, Mutation};
use crate::named_file::{MOST_BYTES, NamedFile};

/// Makes image files, with a cache of the base images made last.
#[derive(Debug, Default)]
pub struct Maker {
    cache: VecDeque<(Base, Arc<Prepared>)>,
}

/// How many base images are cached.
const MAX_CACHED: usize = 64;

impl Maker {
    /// The base image, made or cached.
    ///
    /// # Errors
    ///
    /// Its description contradicts itself.
    pub fn prepared(&mut self, base: &Base) -> Result<Arc<Prepared>> {
        if let Some((_, prepared)) = self.cache.iter().find(|(cached, _)| cached == base) {
            return Ok(Arc::clone(prepared));
        }
        let prepared = Arc::new(prepare(base)?);
        if self.cache.len() == MAX_CACHED {
            self.cache.pop_front();
        }
        self.cache.push_back((base.clone(), Arc::clone(&prepared)));
        Ok(prepared)
    }

    /// The files of a base image with these edits, the image under test first.
    ///
    /// # Errors
    ///
    /// The edits name fields that the base image does not have.
    pub fn files(&mut self, base: &Base, edits: &[Mutation]) -> Result<Vec<NamedFile>> {
        if let (Base::Imported(base), []) = (base, edits) {
            // To find its fields takes longer than most programs do.
            return Ok(vec![base.file().clone()]);
        }
        let prepared = self.prepared(base)?;
        let mut image = prepared.image.clone();
        for (number, mutation) in edits.iter().enumerate() {
            apply(&mut image, &mutation.edit)
                .with_context(|| format!("edit {number} of the recipe cannot be applied"))?;
        }
        let mut files = vec![NamedFile::new(&base.image_name(), image.bytes())];
        files.extend(prepared.extra_files.iter().cloned());
        Ok(files)
    }
}

/// The guest's disk in the image that is the first of `files`, the others being those that it
/// refers to, opened with the passphrase of encrypted base images.
///
/// # Errors
///
/// The image is damaged, or refers to other files.
pub fn disk_of(files: &[NamedFile], format: Format) -> Result<Box<dyn Disk>, DiskError> {
    let Some((image, others)) = files.split_first() else {
        return Err(DiskError::NoFile(String::new()));
    };
    let image = AnyImage::open(Arc::new(image.clone()), format)?;
    let others: Vec<(String, Arc<dyn ReadAt>)> = others
        .iter()
        .map(|file| (file.name.clone(), Arc::new(file.clone()) as Arc<dyn ReadAt>))
        .collect();
    image.disk(Access::to(&others).unlocked_by(PASSPHRASE.as_bytes()))
}

/// Makes one change to an image.
///
/// # Errors
///
/// The image has no such field, or the field cannot hold the value.
pub fn apply(image: &mut AnyImage, edit: &Edit) -> Result<()> {
    match edit {
        Edit::Set { path, value } => image.set(path, value.0)?,
        Edit::Text { path, text } => image.set(path, Value::from(text.as_str()))?,
        Edit::Bytes { at, bytes } => {
            let end = at.0.checked_add(bytes.0.len() as u64);
            if end.is_none_or(|end| end > MOST_BYTES) {
                bail!("the bytes at {:#x} are past the first 64 MiB", at.0);
            }
            image.bytes_mut().write(at.0, &bytes.0);
        }
        Edit::Extensions { list } => {
            let qcow2 = image.as_qcow2();
            let qcow2 = qcow2.context("only qcow2 has header extensions")?;
            let start = u64::from(qcow2.layout().header.header_length);
            image.bytes_mut().write(start, &extension_area(list));
        }
        Edit::Recompute { what } => {
            let what: Vec<Derivation> = what.iter().copied().map(Derivation::from).collect();
            image.recompute(&what);
        }
        Edit::Length { bytes } => image.bytes_mut().resize(bytes.0),
    }
    Ok(())
}

/// The header extensions as bytes of the file.
fn extension_area(list: &[Extension]) -> Vec<u8> {
    let mut area = Vec::new();
    for extension in list {
        area.extend_from_slice(&(extension.magic.0 as u32).to_be_bytes());
        area.extend_from_slice(&(extension.length.0 as u32).to_be_bytes());
        area.extend_from_slice(&extension.data.0);
        area.resize(area.len().next_multiple_of(8), 0);
    }
    area
}
