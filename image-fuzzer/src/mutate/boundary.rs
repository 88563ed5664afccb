//! One field to a boundary value of its type or its rule.

use image_formats::{Field, Surroundings};

use super::snapshots::affordable;
use super::{Ground, disturb, numeric};
use crate::map::Map;
use crate::recipe::Edit;
use crate::rng::Rng;

/// Any numeric field; each structure is as likely as the others.
pub(super) fn draw(ground: Ground<'_>, rng: &mut Rng) -> Option<Vec<Edit>> {
    (0..4).find_map(|_| {
        let mut fields = ground.map.draw_structure(rng);
        fields.retain(|field| numeric(field));
        disturb(ground, &fields, rng)
    })
}

/// Values worth trying in `field`, in rising order, without those that only cost time.
pub fn interesting(map: &Map, field: &Field) -> Vec<u64> {
    let mut values = field.boundaries(Surroundings {
        file_len: map.file_len,
        cluster_size: map.cluster,
        offsets: map.places(),
    });
    values.retain(|value| affordable(field, *value) == *value);
    values
}
