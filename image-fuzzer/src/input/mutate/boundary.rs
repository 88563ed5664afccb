//! Boundary values of fields.

use image_formats::{Field, Kind};

use super::cost::affordable;
use crate::input::map::Map;

/// Limits that readers are known to have: tables, names, counts, bits.
const LIMITS: [u64; 22] = [
    9,
    21,
    22,
    31,
    63,
    64,
    72,
    104,
    112,
    1023,
    1024,
    65535,
    65536,
    65537,
    (32 << 20) / 8,
    (32 << 20) / 8 + 1,
    8 << 20,
    64 << 20,
    1 << 56,
    (1 << 56) - 512,
    1 << 62,
    1 << 63,
];

/// Values worth trying in `field`: the edges of its width and sign, those of
/// readers' limits, small ones, neighbours of the present one by one, by a
/// sector and by a cluster. Without the present value, by rising size.
pub fn interesting(map: &Map, field: &Field) -> Vec<u64> {
    let mask = field.place.mask();
    let present = field.value.as_uint().unwrap_or(0);
    let mut values = vec![
        0,
        1,
        2,
        mask,
        mask >> 1,
        (mask >> 1) + 1,
        mask.wrapping_sub(1),
    ];
    if field.kind == Kind::Flag {
        return vec![present ^ mask];
    }
    for step in [1, 512, map.cluster, 8] {
        values.push(present.wrapping_add(step));
        values.push(present.wrapping_sub(step));
    }
    values.extend([present << 1, present >> 1, present << 8, !present]);
    for bits in [7, 8, 15, 16, 31, 32, 40, 47, 53, 55] {
        let edge = 1_u64 << bits;
        values.extend([edge - 1, edge, edge + 1]);
    }
    values.extend(LIMITS);
    if matches!(field.kind, Kind::Offset | Kind::Length | Kind::Size) {
        let end = map.file_len;
        values.extend([end, end - end % map.cluster, end + map.cluster, end / 2]);
        values.extend(map.places());
    }
    if matches!(
        field.kind,
        Kind::Flags | Kind::Entry | Kind::Bitmap | Kind::Reserved
    ) {
        values.extend((0..64).map(|bit| present ^ (1 << bit)));
    }
    values.retain(|value| {
        value & mask == *value && *value != present && affordable(field, *value) == *value
    });
    values.sort_unstable();
    values.dedup();
    values
}
