//! What the edits of an example changed in its base image, as data: the README, the page and
//! JSON all tell it from here.

mod excerpt;
mod extensions;
mod fields;
mod view;
mod words;

pub use excerpt::{Excerpt, Part};

use std::sync::Arc;

use image_formats::AnyImage;
use serde::{Deserialize, Serialize};

use super::Example;
use image_mutations::edit::Edit;
use view::View;

/// What one edit changed, or a part of it where it changed several structures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The field or structure, as `image-fuzzer show` names it; empty for bytes that belong to
    /// none.
    pub path: String,
    /// Byte offset in the file of the first byte that the edit is about.
    pub offset: u64,
    /// How many bytes of the file the edit is about.
    pub len: u64,
    /// What the valid image has there, as text; empty where it has nothing.
    pub before: String,
    /// What the image of the finding has there, as text; empty where it has nothing.
    pub after: String,
    /// The rule that the field should obey; empty where any value will do.
    pub rule: String,
    /// Section of the format's specification that defines the field; may be empty.
    pub section: String,
    /// All that in a sentence without a full stop, names of fields between backticks.
    pub words: String,
    /// The bytes around it in both images; `None` past the end of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<Excerpt>,
}

impl Change {
    /// A change of the `len` bytes at `offset`, of which all else is to be said.
    fn at(view: &View<'_>, path: &str, offset: u64, len: u64) -> Self {
        Self {
            path: path.to_owned(),
            offset,
            len,
            before: String::new(),
            after: String::new(),
            rule: String::new(),
            section: String::new(),
            words: String::new(),
            excerpt: Excerpt::new(view, offset, len),
        }
    }

    /// What an edit changed.
    fn of_edit(view: &View<'_>, edit: &Edit) -> Vec<Self> {
        match edit {
            Edit::Set { path, .. } | Edit::Text { path, .. } => view.set_field(path),
            Edit::Bytes { at, bytes } => vec![view.set_bytes(at.0, bytes.0.len() as u64)],
            Edit::Extensions { list } => extensions::changes(view, list),
            Edit::Length { .. } => vec![view.set_length()],
            // What it repairs would be seen in no other way.
            Edit::Recompute { .. } => Vec::new(),
        }
    }
}

/// The most changes that are told of an example.
const MAX_CHANGES: usize = 32;

/// What the edits of an example changed, in their order. All values are those of the image as
/// it is with all edits.
pub(super) fn changes(example: &Example) -> Vec<Change> {
    let image = example.files.first();
    // Reading from memory does not fail.
    let image = image
        .and_then(|file| AnyImage::open(Arc::new(file.clone()), example.recipe.base.format()).ok());
    let Some(image) = image else {
        return Vec::new();
    };
    let view = View::new(&example.prepared, &image);
    let edits = example.recipe.edits.iter();
    let mut changes: Vec<Change> = Vec::new();
    for change in edits.flat_map(|mutation| Change::of_edit(&view, &mutation.edit)) {
        // Of several edits of a field only the last one counts, and each tells that.
        if changes.len() < MAX_CHANGES && !changes.contains(&change) {
            changes.push(change);
        }
    }
    if example.recipe.base.imported().is_some() {
        for change in &mut changes {
            change.words = change.words.replace("the valid image", IMPORTED);
        }
    }
    changes
}

/// What an image that was made elsewhere, and need not be valid, is called where the edits are
/// told that were made to it.
const IMPORTED: &str = "the imported image";

#[cfg(test)]
mod tests;
