//! Boundary values of fields.

use crate::field::{Field, Kind};

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

/// What the boundary values of a field depend on besides the field itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surroundings<'a> {
    /// Length of the image file in bytes.
    pub file_len: u64,
    /// Bytes in a cluster, the unit of allocation.
    pub cluster_size: u64,
    /// Byte offsets of structures in the file.
    pub offsets: &'a [u64],
}

impl Field {
    /// Values worth trying in the field, in rising order: the ends of its width and sign,
    /// the limits that readers have, and neighbours of the present value by one, by a
    /// sector and by a cluster; for offsets and lengths those of the image around it too.
    ///
    /// All of them fit, the present value is not among them, and there are none for text
    /// and bytes.
    #[must_use]
    pub fn boundaries(&self, around: Surroundings<'_>) -> Vec<u64> {
        let mask = self.place.mask();
        let present = self.value.as_uint().unwrap_or(0);
        if self.kind == Kind::Flag {
            return vec![present ^ mask];
        }
        let mut values = vec![
            0,
            1,
            2,
            mask,
            mask >> 1,
            (mask >> 1) + 1,
            mask.wrapping_sub(1),
        ];
        let cluster = around.cluster_size;
        for step in [1, 512, cluster, 8] {
            values.push(present.wrapping_add(step));
            values.push(present.wrapping_sub(step));
        }
        values.extend([present << 1, present >> 1, present << 8, !present]);
        for bits in [7, 8, 15, 16, 31, 32, 40, 47, 53, 55] {
            let edge = 1_u64 << bits;
            values.extend([edge - 1, edge, edge + 1]);
        }
        values.extend(LIMITS);
        if matches!(self.kind, Kind::Offset | Kind::Length | Kind::Size) {
            let end = around.file_len;
            let last = end - end.checked_rem(cluster).unwrap_or(0);
            values.extend([end, last, end.wrapping_add(cluster), end / 2]);
            values.extend(around.offsets);
        }
        if matches!(
            self.kind,
            Kind::Flags | Kind::Entry | Kind::Bitmap | Kind::Reserved
        ) {
            values.extend((0..64).map(|bit| present ^ (1 << bit)));
        }
        values.retain(|value| value & mask == *value && *value != present);
        values.sort_unstable();
        values.dedup();
        values
    }
}
