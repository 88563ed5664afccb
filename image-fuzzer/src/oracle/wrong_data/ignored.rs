//! Which field a reader did not look at: with the value that the field has in the valid image,
//! the guest reads what was shown.

use std::collections::BTreeSet;

use image_formats::Disk;

use crate::oracle::subject::Subject;
use image_mutations::case::{Maker, disk_of};
use image_mutations::edit::{Edit, Mutation, Recomputed};
use image_mutations::map::Map;

/// The most classes of fields that are put back.
const MOST: usize = 24;

/// The class of the fields, among those that the test changed, without whose changes the disk
/// `agrees` with what was shown; `None` where no class alone explains it.
pub(super) fn field(
    subject: &Subject<'_>,
    agrees: &dyn Fn(&mut dyn Disk) -> bool,
) -> Option<String> {
    let recipe = subject.recipe();
    let mut maker = Maker::default();
    let prepared = maker.prepared(&recipe.base).ok()?;
    let classes: BTreeSet<String> = recipe
        .edits
        .iter()
        .filter_map(|it| class(&prepared.map, &it.edit))
        .collect();
    classes.into_iter().take(MOST).find(|wanted| {
        let kept = |it: &&Mutation| class(&prepared.map, &it.edit).as_ref() != Some(wanted);
        let edits: Vec<Mutation> = recipe.edits.iter().filter(kept).cloned().collect();
        let files = maker.files(&recipe.base, &edits);
        let disk = files
            .ok()
            .and_then(|it| disk_of(&it, subject.format()).ok());
        disk.is_some_and(|mut disk| agrees(disk.as_mut()))
    })
}

/// The class of fields that an edit changes, without spaces; `None` where it corrects others.
fn class(map: &Map, edit: &Edit) -> Option<String> {
    let class = match edit {
        Edit::Set { path, .. } | Edit::Text { path, .. } => map.class(path),
        Edit::Bytes { at, .. } => {
            let around = map.fields().iter().filter(|field| {
                let end = field.offset + field.width_bits.div_ceil(8);
                (field.offset..end).contains(&at.0)
            });
            let smallest = around.min_by_key(|field| field.width_bits);
            smallest.map_or_else(|| "bytes".to_owned(), |field| map.class(&field.path))
        }
        Edit::Length { .. } => "length".to_owned(),
        Edit::Extensions { .. } => "extensions".to_owned(),
        Edit::Recompute { what } if what.contains(&Recomputed::Values) => "values".to_owned(),
        Edit::Recompute { .. } => return None,
    };
    Some(class.replace(' ', "-"))
}
