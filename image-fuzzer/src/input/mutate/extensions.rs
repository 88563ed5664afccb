//! Header extensions duplicated, reordered, cut, or of a length that is not theirs.

use image_formats::{Kind, Value};

use super::MutationContext;
use crate::input::map::Map;
use crate::input::recipe::{Edit, Extension, Hex, Number};
use crate::rng::Rng;

/// Types that readers know: backing format, feature names, bitmaps, encryption,
/// data file, and the end.
const KNOWN: [u64; 6] = [
    0xe279_2aca,
    0x6803_f857,
    0x2385_2875,
    0x0537_be77,
    0x4441_5441,
    0,
];

/// The extension area written anew with one thing wrong in it.
pub(super) fn draw(context: MutationContext<'_>, rng: &mut Rng) -> Option<Vec<Edit>> {
    if context.map.number("header.header_length").is_none() && context.base.image.version != 2 {
        return None;
    }
    let mut list = present(context.map);
    let at = rng.index(list.len());
    match rng.below(9) {
        0 => list.push(list.get(at)?.clone()),
        1 => {
            let copy = list.get(at)?.clone();
            list.insert(at, copy);
        }
        2 if list.len() > 1 => rng.shuffle(&mut list),
        3 => {
            list.get(at)?;
            list.remove(at);
        }
        4 => list.get_mut(at)?.magic = Number(*rng.pick(&KNOWN)?),
        5 => {
            let lengths = [
                0,
                1,
                15,
                16,
                23,
                24,
                25,
                48,
                1 << 10,
                1 << 16,
                0x7fff_ffff,
                0xffff_fff8,
                0xffff_ffff,
            ];
            list.get_mut(at)?.length = Number(*rng.pick(&lengths)?);
        }
        6 => list.insert(0, small(*rng.pick(&KNOWN)?, rng)),
        7 => {
            // Nested to the end of the cluster, and without an end. In larger clusters not
            // that far: each extension costs readers as much as a small image.
            let most = if rng.chance(10) { 4096 } else { 824 };
            let room = context.map.cluster.saturating_sub(200).min(most) / 8;
            let magic = *rng.pick(&[0x7e57_0001, 0xe279_2aca, 0x6803_f857])?;
            list.extend((0..room).map(|_| Extension {
                magic: Number(magic),
                length: Number(0),
                data: Hex::default(),
            }));
            return Some(vec![Edit::Extensions { list }]);
        }
        _ => list.push(small(*rng.pick(&KNOWN)?, rng)),
    }
    if rng.chance(90) {
        list.push(Extension {
            magic: Number(0),
            length: Number(0),
            data: Hex::default(),
        });
    }
    Some(vec![Edit::Extensions { list }])
}

/// An extension of the given type with a little data.
fn small(magic: u64, rng: &mut Rng) -> Extension {
    let data: Vec<u8> = match magic {
        0xe279_2aca => b"raw".to_vec(),
        0x4441_5441 => b"other.data".to_vec(),
        _ => (0..rng.below(6) * 8)
            .map(|_| rng.bits() as u8 & 3)
            .collect(),
    };
    Extension {
        magic: Number(magic),
        length: Number(data.len() as u64),
        data: Hex(data),
    }
}

/// The extensions the image has, their data as the fields show them.
pub(super) fn present(map: &Map) -> Vec<Extension> {
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
            data: Hex(data(map, index, length)),
        });
    }
    list
}

/// The data of extension `index`, put together from its fields.
fn data(map: &Map, index: usize, length: u64) -> Vec<u8> {
    let prefix = format!("ext[{index}].");
    let mut bytes = vec![0; length.min(4096) as usize];
    let Some(head) = map.get(&format!("{prefix}type")) else {
        return bytes;
    };
    let start = head.offset + 8;
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
