//! Header extensions duplicated, reordered, removed, or of a wrong length.

use image_formats::qcow2::records::{
    EXT_BACKING_FORMAT, EXT_BITMAPS, EXT_DATA_FILE, EXT_ENCRYPTION, EXT_END, EXT_FEATURE_NAMES,
};

use super::edits::{extension, extensions};
use crate::edit::{Edit, Extension, Number};
use crate::map::Map;
use crate::rng::Rng;

/// The types that readers know.
const KNOWN: [u32; 6] = [
    EXT_BACKING_FORMAT,
    EXT_FEATURE_NAMES,
    EXT_BITMAPS,
    EXT_ENCRYPTION,
    EXT_DATA_FILE,
    EXT_END,
];

/// The extension area rewritten with one thing wrong in it.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    if map.number("header.header_length").is_none() && map.number("header.version") != Some(2) {
        return None;
    }
    let mut list = extensions(map);
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
        4 => list.get_mut(at)?.magic = Number((*rng.pick(&KNOWN)?).into()),
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
            // Up to the end of the cluster, without an end marker. In larger clusters fewer:
            // each extension costs readers as much time as a small image.
            let most = if rng.chance(10) { 4096 } else { 824 };
            let room = map.cluster.saturating_sub(200).min(most) / 8;
            let magic = *rng.pick(&[0x7e57_0001, EXT_BACKING_FORMAT, EXT_FEATURE_NAMES])?;
            list.extend((0..room).map(|_| extension(magic, Vec::new())));
            return Some(vec![Edit::Extensions { list }]);
        }
        _ => list.push(small(*rng.pick(&KNOWN)?, rng)),
    }
    if rng.chance(90) {
        list.push(extension(EXT_END, Vec::new()));
    }
    Some(vec![Edit::Extensions { list }])
}

/// An extension of the given type with a little data.
fn small(magic: u32, rng: &mut Rng) -> Extension {
    let data: Vec<u8> = match magic {
        EXT_BACKING_FORMAT => b"raw".to_vec(),
        EXT_DATA_FILE => b"other.data".to_vec(),
        _ => (0..rng.below(6) * 8)
            .map(|_| rng.bits() as u8 & 3)
            .collect(),
    };
    extension(magic, data)
}
