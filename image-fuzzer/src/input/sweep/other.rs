//! The sweep of formats other than qcow2: base images that together have every feature, and the
//! boundary values of one field of each class.

use std::collections::BTreeSet;

use image_formats::{Field, Format, Kind};

use super::bases::NamedBase;
use image_mutations::base::{Prepared, showcase};
use image_mutations::edit::{Edit, Mutation, Number, Recomputed};
use image_mutations::mutate::{interesting, numeric, repaired};

/// The most tests of a format.
pub(super) const MOST_TESTS: usize = 4000;

/// How many values of a class are tried in the first two passes, each in one round.
pub(super) const FIRST_ROUNDS: [usize; 2] = [1, 8];

/// How many values are tried of a class that an earlier base image has as well.
pub(super) const AGAIN: usize = 2;

/// A plain image, and drawn ones that show the features of the format.
pub(super) fn bases(format: Format) -> Vec<NamedBase> {
    let bases = showcase(format);
    let named = bases
        .into_iter()
        .enumerate()
        .map(|(index, base)| NamedBase {
            name: format!("{format}-{index}"),
            base,
        });
    named.collect()
}

/// One field of each class of an image, by class.
pub(super) fn fields(prepared: &Prepared) -> Vec<(String, &Field)> {
    let classes = prepared.map.classes();
    let first = classes.filter_map(|(class, fields)| {
        let field = fields.into_iter().find(|field| numeric(field))?;
        // It only costs time.
        (!class.ends_with("iterations")).then(|| (class.to_owned(), field))
    });
    first.collect()
}

/// The boundary values of a field: the largest one, the smallest one and the neighbours of the
/// present one first, then the others, from all over the range.
pub(super) fn values(prepared: &Prepared, field: &Field) -> Vec<u64> {
    let mut values = interesting(&prepared.map, field);
    let present = field.value.as_uint().unwrap_or(0);
    let above = values.iter().position(|value| *value > present);
    let below = values.iter().rposition(|value| *value < present);
    let last = values.len().checked_sub(1);
    let first = (!values.is_empty()).then_some(0);
    let mut order: Vec<usize> = [last, first, above, below].into_iter().flatten().collect();
    let mut rest: Vec<usize> = (0..values.len()).collect();
    rest.sort_by_key(|index| index.reverse_bits());
    order.extend(rest);
    let mut seen = BTreeSet::new();
    order.retain(|index| seen.insert(*index));
    values = order.into_iter().map(|index| values[index]).collect();
    values
}

/// The edits that set a field, and correct what follows from it as a writer does. A checksum
/// stays wrong, and so does a copy of a structure but for its checksum.
pub(super) fn edits(prepared: &Prepared, path: &str, value: u64) -> Vec<Mutation> {
    let field = prepared.map.get(path);
    let set = Mutation {
        family: family(prepared, path).to_owned(),
        edit: Edit::Set {
            path: path.to_owned(),
            value: Number(value),
        },
    };
    match field.map(|field| field.kind) {
        Some(Kind::Checksum) => vec![set],
        _ if field.is_some_and(|field| is_copy(prepared, field)) => {
            let mut corrected = repaired();
            corrected.edit = Edit::Recompute {
                what: vec![Recomputed::Checksums],
            };
            vec![set, corrected]
        }
        _ => vec![set, repaired()],
    }
}

fn is_copy(prepared: &Prepared, field: &Field) -> bool {
    let copies = &prepared.map.copies;
    copies.iter().any(|copy| copy.contains(&field.offset))
}

/// The family that a change of the field at `path` would be drawn from.
pub(super) fn family(prepared: &Prepared, path: &str) -> &'static str {
    let Some(field) = prepared.map.get(path) else {
        return "boundary";
    };
    match field.kind {
        Kind::Checksum => "checksum",
        _ if is_copy(prepared, field) => "copy",
        Kind::Offset => "pointer",
        Kind::Flag | Kind::Flags => "flag",
        Kind::Count => "table",
        Kind::Size => "size",
        _ => "boundary",
    }
}

/// The commands that reach a change in an image of the format, each with a fresh copy.
pub(super) fn commands(format: Format) -> &'static [&'static str] {
    const CONVERT: &str = "qemu-img convert -f qcow2 -O raw $test_img out.img";
    const CHECK: &str = "qemu-img check -f qcow2 $test_img";
    const REPAIR: &str = "qemu-img check -f qcow2 -r all $test_img";
    const WRITE: &str = "qemu-io -f qcow2 -c 'write -P 85 0 512' $test_img";
    match format {
        Format::Bochs | Format::Cloop | Format::Dmg => &[CONVERT],
        Format::Qcow | Format::Vpc | Format::Luks | Format::Raw => &[CONVERT, WRITE],
        Format::Vmdk
        | Format::Vhdx
        | Format::Vdi
        | Format::Qed
        | Format::Parallels
        | Format::Qcow2 => &[CONVERT, CHECK, REPAIR, WRITE],
    }
}
