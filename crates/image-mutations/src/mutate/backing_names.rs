//! The name of the backing file in formats that keep it in the header, with its place and length.

use super::edits::set;
use crate::edit::{Edit, Hex, Number};
use crate::file_names::file_name;
use crate::map::Map;
use crate::rng::Rng;

/// The fields for place and length, and whether the name is at the end of the file where the
/// image has none; else it is behind the header.
const PLACES: [(&str, &str, bool); 2] = [
    (
        "header.backing_file_offset",
        "header.backing_file_size",
        true,
    ),
    (
        "header.backing_filename_offset",
        "header.backing_filename_size",
        false,
    ),
];

/// The first byte behind the fields of a QED header.
const BEHIND_HEADER: u64 = 64;

/// Another name, of a backing file that the image need not have had.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let (offset, size, at_end) = PLACES
        .iter()
        .find_map(|(offset, size, at_end)| Some((map.get(offset)?, map.get(size)?, *at_end)))?;
    let at = match offset.value.as_uint()? {
        0 if at_end => map.file_len,
        0 => BEHIND_HEADER,
        present => present,
    };
    let name = file_name(rng)?;
    let edits = [
        set(offset, at),
        set(size, name.len() as u64),
        map.get("header.features.backing_file")
            .and_then(|flag| set(flag, 1)),
    ];
    let mut edits: Vec<Edit> = edits.into_iter().flatten().collect();
    edits.push(Edit::Bytes {
        at: Number(at),
        bytes: Hex(name.into_bytes()),
    });
    Some(edits)
}
