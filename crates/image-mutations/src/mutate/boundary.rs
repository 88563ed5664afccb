//! Boundary values of fields.

use image_formats::{Field, Surroundings};

use super::cost::affordable;
use crate::map::Map;

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
