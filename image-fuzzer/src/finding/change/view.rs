//! The valid image and that of the finding, side by side.

use std::cell::OnceCell;

use image_formats::{AnyImage, Field};

use image_mutations::base::Prepared;
use image_mutations::map::Map;

/// The most fields of the image of a finding that are looked at.
const MAX_FIELDS: usize = 6000;

/// Both images.
pub(super) struct View<'a> {
    /// The valid one.
    pub(super) base: &'a AnyImage,
    /// Its fields.
    pub(super) map: &'a Map,
    /// That of the finding.
    pub(super) image: &'a AnyImage,
    image_fields: OnceCell<Vec<Field>>,
}

impl<'a> View<'a> {
    pub(super) fn new(prepared: &'a Prepared, image: &'a AnyImage) -> Self {
        Self {
            base: &prepared.image,
            map: &prepared.map,
            image,
            image_fields: OnceCell::new(),
        }
    }

    /// The fields of the image of the finding.
    pub(super) fn image_fields(&self) -> &[Field] {
        self.image_fields
            .get_or_init(|| self.image.used_fields().take(MAX_FIELDS).collect())
    }
}

/// Whether a field is some bits of another one.
pub(super) fn is_part(image: &AnyImage, field: &Field) -> bool {
    let whole = |path: &str| image.field(path).ok();
    let parent = field.path.rsplit_once('.');
    let parent = parent.and_then(|(parent, _)| whole(parent));
    parent.is_some_and(|parent| touches(&parent, field.offset, field.offset + 1))
}

/// Whether some of the bytes from `start` to `end` belong to a field.
pub(super) fn touches(field: &Field, start: u64, end: u64) -> bool {
    field.offset < end && start < field.offset.saturating_add(length(field))
}

/// How many bytes a field is part of.
pub(super) fn length(field: &Field) -> u64 {
    field.place.len_bytes()
}
