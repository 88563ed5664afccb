//! Compressed data that inflates to too much, to too little, or not at all.

use image_formats::Field;

use super::edits::set;
use crate::edit::{Edit, Hex, Number};
use crate::map::Map;
use crate::rng::Rng;

/// A compressed cluster's data or its descriptor.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let offsets: Vec<&Field> = map.filter(|field| field.path.ends_with(".compressed_offset"));
    let offset = *rng.pick(&offsets)?;
    let entry = offset.path.strip_suffix(".compressed_offset")?;
    let start = offset.value.as_uint()?;
    let sectors = map.get(&format!("{entry}.sectors"))?;
    let cluster = map.cluster;
    match rng.below(8) {
        0 => {
            let most = sectors.place.mask();
            let near = [0, 1, most, sectors.value.as_uint()?.wrapping_add(1)];
            Some(vec![set(sectors, *rng.pick(&near)?)?])
        }
        1 => {
            let targets = [
                0,
                1,
                map.file_len.saturating_sub(1),
                map.file_len,
                offset.place.mask(),
                start.wrapping_add(511),
                start ^ 1 << rng.between(9, 54),
            ];
            Some(vec![set(offset, *rng.pick(&targets)?)?])
        }
        2 => Some(data(start, vec![0xff; 16])),
        3 => Some(data(start, vec![0; 16])),
        // Valid streams that hold more or less than a cluster.
        4 => Some(data(start, deflate(cluster as usize * 64, rng)?)),
        5 => Some(data(start, deflate(cluster as usize / 2, rng)?)),
        6 => Some(data(
            start,
            zstd::bulk::compress(&vec![7; cluster as usize * 4], 1).ok()?,
        )),
        _ => {
            let at = start.wrapping_add(rng.below(32));
            Some(data(at, vec![rng.bits() as u8]))
        }
    }
}

/// `bytes` at `at`, where the compressed data is.
fn data(at: u64, bytes: Vec<u8>) -> Vec<Edit> {
    vec![Edit::Bytes {
        at: Number(at),
        bytes: Hex(bytes),
    }]
}

/// `len` equal bytes, deflated as the format wants it; at most 8 KiB of stream.
fn deflate(len: usize, rng: &mut Rng) -> Option<Vec<u8>> {
    use std::io::Write as _;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![rng.bits() as u8; len]).ok()?;
    let stream = encoder.finish().ok()?;
    (stream.len() <= 8192).then_some(stream)
}
