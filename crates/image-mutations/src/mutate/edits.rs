//! What families share: constructors of edits.

use image_formats::{Field, Kind, Value};

use super::boundary::interesting;
use crate::edit::{Edit, Extension, Hex, Number};
use crate::map::Map;
use crate::rng::Rng;

/// An edit of `field` to `value`, truncated to the bits the field has; `None` where the
/// field holds text or the value already.
pub(super) fn set(field: &Field, value: u64) -> Option<Edit> {
    let Value::Uint(present) = field.value else {
        return None;
    };
    let value = value & field.place.mask();
    (value != present).then(|| Edit::Set {
        path: field.path.clone(),
        value: Number(value),
    })
}

/// One edit as a mutation.
pub(super) fn single(edit: Option<Edit>) -> Option<Vec<Edit>> {
    edit.map(|edit| vec![edit])
}

/// One of `fields` to one of its boundary values.
pub(super) fn to_boundary(map: &Map, fields: &[&Field], rng: &mut Rng) -> Option<Vec<Edit>> {
    let field = rng.pick(fields)?;
    let values = interesting(map, field);
    (0..4).find_map(|_| single(set(field, *rng.pick(&values)?)))
}

/// Whether a field is a number that can be set.
pub fn numeric(field: &Field) -> bool {
    matches!(field.value, Value::Uint(_))
        && !matches!(field.kind, Kind::Text | Kind::Bytes | Kind::Magic)
}

/// A header extension of type `magic` whose length is that of its data.
pub fn extension(magic: u32, data: Vec<u8>) -> Extension {
    Extension {
        magic: Number(magic.into()),
        length: Number(data.len() as u64),
        data: Hex(data),
    }
}

/// The header extensions the image has, without the one that ends them, their data as the
/// fields show them.
pub fn extensions(map: &Map) -> Vec<Extension> {
    let mut list = Vec::new();
    for index in 0.. {
        let Some(magic) = map.number(&format!("ext[{index}].type")) else {
            break;
        };
        let length = map.number(&format!("ext[{index}].length")).unwrap_or(0);
        if magic == 0 {
            break;
        }
        list.push(Extension {
            magic: Number(magic),
            length: Number(length),
            data: Hex(extension_data(map, index, length)),
        });
    }
    list
}

/// The data of extension `index`, put together from its fields.
fn extension_data(map: &Map, index: usize, length: u64) -> Vec<u8> {
    let prefix = format!("ext[{index}].");
    let mut bytes = vec![0; length.min(4096) as usize];
    let Some(head) = map.get(&format!("{prefix}type")) else {
        return bytes;
    };
    let start = head.offset.wrapping_add(8);
    for field in map.under(&prefix) {
        let Some(at) = field.offset.checked_sub(start) else {
            continue;
        };
        let width = field.width_bits / 8;
        let value = match &field.value {
            Value::Bytes(value) => value.clone(),
            Value::Uint(value) if field.kind != Kind::Flag => {
                value.to_be_bytes()[8 - (width as usize).min(8)..].to_vec()
            }
            Value::Uint(_) => continue,
        };
        for (place, byte) in bytes.iter_mut().skip(at as usize).zip(value) {
            *place = byte;
        }
    }
    bytes
}
