//! Names that are paths, protocols, options, formats, loops.

use image_formats::qcow2::records::{EXT_BACKING_FORMAT, EXT_DATA_FILE, EXT_END};

use super::edits::{extension, extensions, set};
use crate::edit::{Edit, Hex, Number};
use crate::file_names::file_name;
use crate::map::Map;
use crate::rng::Rng;

/// Names of formats that are not what the file has.
const FORMATS: [&str; 14] = [
    "",
    "raw",
    "qcow2",
    "qcow",
    "vmdk",
    "vdi",
    "vpc",
    "vhdx",
    "qed",
    "luks",
    "blkdebug",
    "quorum",
    "nosuchformat",
    "file",
];

/// One name to another: of the backing file, its format, or the data file.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    match rng.below(3) {
        0 => backing_name(map, rng),
        1 => {
            let name = *rng.pick(&FORMATS)?;
            Some(with_extension(map, EXT_BACKING_FORMAT, name))
        }
        _ => data_file(map, rng),
    }
}

/// The backing file's name, at the end of the first cluster, with its length.
fn backing_name(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let name = file_name(rng)?;
    let at = map.cluster.checked_sub(name.len() as u64 + 8)?;
    if at < 256 {
        return None;
    }
    Some(vec![
        set(map.get("header.backing_file_offset")?, at)?,
        Edit::Set {
            path: "header.backing_file_size".into(),
            value: Number(name.len() as u64),
        },
        Edit::Bytes {
            at: Number(at),
            bytes: Hex(name.into_bytes()),
        },
    ])
}

/// The data file's name, together with the feature bit where it is missing.
fn data_file(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let name = file_name(rng)?;
    let bit = map.get("header.incompatible_features.data_file")?;
    let mut edits = with_extension(map, EXT_DATA_FILE, &name);
    edits.extend(set(bit, 1));
    Some(edits)
}

/// The extension area with an extension of type `magic` that holds `text`.
fn with_extension(map: &Map, magic: u32, text: &str) -> Vec<Edit> {
    let mut list = extensions(map);
    list.retain(|extension| extension.magic.0 != u64::from(magic));
    list.push(extension(magic, text.into()));
    list.push(extension(EXT_END, Vec::new()));
    vec![Edit::Extensions { list }]
}
