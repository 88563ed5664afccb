//! Logs that are replayed when an image is opened: entries, their descriptors, where they are,
//! and the sequence numbers that say what is current.

use image_formats::{Field, Kind};

use super::edits::{numeric, set, to_boundary};
use crate::edit::Edit;
use crate::map::Map;
use crate::rng::Rng;

/// A number of a log, each field of an entry as likely as the others, to one near the present
/// value, to an end of what fits, or to the value of another one.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let is_of_log = |field: &Field| {
        numeric(field)
            && field.kind != Kind::Checksum
            && (field.path.starts_with("log[")
                || field.path.contains("].log_")
                || field.path.ends_with(".sequence_number"))
    };
    let classes: Vec<Vec<&Field>> = map
        .classes()
        .map(|(_, fields)| fields)
        .filter(|fields| is_of_log(fields[0]))
        .collect();
    let class = rng.pick(&classes)?;
    let field = *rng.pick(class)?;
    let present = field.value.as_uint()?;
    let value = match rng.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => present.wrapping_add(1),
        3 => present.wrapping_sub(1),
        4 => present.wrapping_add(4096),
        5 => present.wrapping_sub(4096),
        6 => {
            let other = rng.pick(&classes)?;
            rng.pick(other)?.value.as_uint()?
        }
        _ => return to_boundary(map, &[field], rng),
    };
    Some(vec![set(field, value)?])
}
