//! Values worth trying in a field.

use crate::field::{Field, Kind, Place, ones};
use std::collections::BTreeSet;

/// What the values of a field are measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Surroundings<'a> {
    /// Length of the file in bytes.
    pub(crate) file_len: u64,
    /// Unit of allocation in bytes.
    pub(crate) cluster: u64,
    /// Offsets of other structures of the image.
    pub(crate) structures: &'a [u64],
    /// Limits of the rule that the field should obey; they and their neighbours count.
    pub(crate) limits: &'a [u64],
}

/// The boundary values of a field: of its type, of its kind, and of its rule; all of
/// them fit into it, and the value it has is not among them.
pub(crate) fn boundaries(field: &Field, surroundings: Surroundings<'_>) -> Vec<u64> {
    let Place::Bits {
        bits,
        low,
        in_position,
        ..
    } = field.place
    else {
        return Vec::new();
    };
    let current = field.value.as_uint().unwrap_or(0);
    let mut values = BTreeSet::new();
    let shift = if in_position { low } else { 0 };
    of_type(bits, shift, &mut values);
    neighbours(current, &mut values);
    for limit in surroundings.limits {
        values.insert(*limit);
        neighbours(*limit, &mut values);
    }
    match field.kind {
        Kind::Offset | Kind::Entry => offsets(current, surroundings, &mut values),
        Kind::Length | Kind::Size | Kind::Count => amounts(current, surroundings, &mut values),
        Kind::Flags | Kind::Bitmap => values.extend((0..bits).map(|bit| current ^ 1 << bit)),
        Kind::Magic | Kind::Checksum => {
            values.extend((0..bits).step_by(8).map(|bit| current ^ 1 << bit))
        }
        _ => {}
    }
    let mask = field.place.mask();
    values.retain(|value| value & !mask == 0 && *value != current);
    values.into_iter().collect()
}

/// Ends of the type, signed and unsigned, and around 32 and 16 bits.
fn of_type(bits: u8, shift: u8, values: &mut BTreeSet<u64>) {
    let mut add = |value: u64| values.insert((value & ones(bits)) << shift);
    for value in [0, 1, 2] {
        add(value);
        add(value.wrapping_neg());
    }
    for width in [7, 8, 15, 16, 31, 32, 53, 56, 62, 63] {
        if width < bits {
            add(1 << width);
            add((1 << width) - 1);
            add((1 << width) + 1);
        }
    }
    add(1 << (bits - 1));
    add((1 << (bits - 1)) - 1);
}

fn neighbours(value: u64, values: &mut BTreeSet<u64>) {
    values.extend(value.checked_add(1));
    values.extend(value.checked_sub(1));
}

fn offsets(current: u64, near: Surroundings<'_>, values: &mut BTreeSet<u64>) {
    let end = near
        .file_len
        .checked_next_multiple_of(near.cluster)
        .unwrap_or(u64::MAX);
    for base in [current, near.file_len, end, 1 << 56, 1 << 62, 1 << 63] {
        values.insert(base);
        for step in [1, 8, 512, near.cluster] {
            values.extend(base.checked_add(step));
            values.extend(base.checked_sub(step));
        }
    }
    values.extend([
        512,
        near.cluster,
        u64::MAX - (near.cluster - 1),
        u64::MAX - 511,
    ]);
    values.extend(near.structures);
    // The flags of a table entry stay as they are when its offset changes.
    let flags = current & (0xff << 56 | 0x1ff);
    values.extend(near.structures.iter().map(|structure| structure | flags));
}

fn amounts(current: u64, near: Surroundings<'_>, values: &mut BTreeSet<u64>) {
    for step in [8, 512, near.cluster, near.cluster / 8] {
        values.extend([step, step - 1, step + 1]);
        values.extend(current.checked_add(step));
        values.extend(current.checked_sub(step));
    }
    values.extend([
        near.file_len,
        near.file_len / 8,
        near.file_len / near.cluster,
    ]);
    values.extend([current / 2, current.saturating_mul(2)]);
    neighbours(near.file_len, values);
}
