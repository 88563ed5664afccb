//! The signature of another format, where programs look for it: the file is then an image of two
//! formats, or of another one than it was made in.

use std::ops::Range;
use std::sync::LazyLock;

use image_formats::{AnySpec, Format, ReadAt as _, Store, qcow2, vmdk};

use crate::edit::{Edit, Hex, Number};
use crate::map::Map;
use crate::named_file::MOST_BYTES;
use crate::rng::Rng;

/// Bytes that programs look at, at either end of a file.
const SECTOR: usize = 512;

/// What programs know the images of a format by.
struct Signature {
    format: Format,
    /// Whether it is at the end of a file, and not at its start.
    at_end: bool,
    /// The first or last sector of an image.
    sector: Vec<u8>,
    /// The part of it that is enough.
    magic: Range<usize>,
}

/// The signatures of all formats, from plain images of each.
static SIGNATURES: LazyLock<Vec<Signature>> = LazyLock::new(|| {
    let flat = vmdk::Spec {
        subformat: vmdk::Subformat::MonolithicFlat,
        ..vmdk::Spec::default()
    };
    let plain = AnySpec::FORMATS.iter().copied().filter_map(AnySpec::plain);
    let built = plain.chain([AnySpec::Vmdk(flat)]).filter_map(|spec| {
        let mut files = spec.build("image").ok()?;
        Some((spec.format(), files.swap_remove(0).bytes))
    });
    let image = qcow2::build(&qcow2::Spec::default());
    let image = image.map(|built| (Format::Qcow2, built.image.bytes().clone()));
    let images = built.chain(image.ok());
    images
        .flat_map(|(format, bytes)| of(format, &bytes))
        .collect()
});

/// The signatures in an image of `format`.
fn of(format: Format, image: &Store) -> Vec<Signature> {
    let last = image.len().saturating_sub(SECTOR as u64);
    let ends = [(false, 0), (true, last)].into_iter();
    let signature = |(at_end, at)| {
        let mut sector = vec![0; SECTOR];
        image.read(at, &mut sector);
        let is_enough = |part: Range<usize>| is_known(format, at_end, &sector, part);
        let end = (0..=SECTOR).find(|end| is_enough(0..*end))?;
        let start = (0..=end).rev().find(|start| is_enough(*start..end))?;
        Some(Signature {
            format,
            at_end,
            magic: start..end,
            sector,
        })
    };
    ends.filter_map(signature).collect()
}

/// Whether a file that has nothing but that part of a sector is taken for an image of `format`.
fn is_known(format: Format, at_end: bool, sector: &[u8], part: Range<usize>) -> bool {
    let mut file = vec![0; 2 * SECTOR];
    let at = if at_end { SECTOR } else { 0 };
    file[at + part.start..at + part.end].copy_from_slice(&sector[part]);
    let found = Format::signatures(&file);
    found.is_ok_and(|found| found.contains(&format))
}

/// The bytes by which programs know an image of a format at its start, and the byte of the file
/// where they begin.
pub fn magics() -> Vec<(u64, &'static [u8])> {
    let at_start = SIGNATURES.iter().filter(|it| !it.at_end);
    let magic = |it: &'static Signature| (it.magic.start as u64, &it.sector[it.magic.clone()]);
    at_start.map(magic).collect()
}

/// The signature of another format, alone or in its whole sector: over what is at the end of the
/// file that it belongs to, or behind the end.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let others = SIGNATURES.iter().filter(|it| it.format != map.format);
    let others: Vec<&Signature> = others.collect();
    let chosen = *rng.pick(&others)?;
    // A whole sector leaves nothing of a header that was there.
    let whole = chosen.at_end || map.format == Format::Raw;
    let part = match rng.chance(if whole { 60 } else { 20 }) {
        true => 0..SECTOR,
        false => chosen.magic.clone(),
    };
    let sector = SECTOR as u64;
    let mut edits = Vec::new();
    let start = match (chosen.at_end, rng.chance(50)) {
        (false, _) => 0,
        (true, false) => map.file_len.checked_sub(sector)?,
        (true, true) => {
            let start = map.file_len.next_multiple_of(sector);
            let bytes = Number(start + sector);
            edits.push(Edit::Length { bytes });
            start
        }
    };
    if start + sector > MOST_BYTES {
        return None;
    }
    edits.push(Edit::Bytes {
        at: Number(start + part.start as u64),
        bytes: Hex(chosen.sector[part].to_vec()),
    });
    Some(edits)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::base::Formats;
    use crate::case::Maker;
    use crate::mutate::Mutation;

    #[test]
    fn each_format_but_raw_has_a_signature() {
        let known: BTreeSet<Format> = SIGNATURES.iter().map(|it| it.format).collect();
        let all = Format::ALL.into_iter();
        let wanted: BTreeSet<Format> = all.filter(|it| *it != Format::Raw).collect();
        assert_eq!(known, wanted);
        let vdi = SIGNATURES.iter().find(|it| it.format == Format::Vdi);
        assert_eq!(vdi.map(|it| it.magic.clone()), Some(0x40..0x44));
        let text = |it: &Signature| it.sector.starts_with(b"# Disk DescriptorFile");
        assert!(SIGNATURES.iter().any(text));
        assert!(
            SIGNATURES
                .iter()
                .any(|it| it.at_end && it.format == Format::Vpc)
        );
    }

    #[test]
    fn images_become_those_of_another_format() {
        let mut rng = Rng::from_text("probe");
        let mut maker = Maker::default();
        for word in ["qcow2", "raw"] {
            let base = Formats::named(word).unwrap().plain();
            let map = maker.prepared(&base).unwrap().map.clone();
            let mut found = BTreeSet::new();
            for _ in 0..300 {
                let edits = draw(&map, &mut rng).unwrap().into_iter();
                let family = "probe".to_owned();
                let edits = edits.map(|edit| Mutation {
                    family: family.clone(),
                    edit,
                });
                let files = maker.files(&base, &edits.collect::<Vec<_>>()).unwrap();
                found.insert(Format::signatures(&files[0]).unwrap());
            }
            if word == "raw" {
                let all = found.into_iter().flatten().collect::<BTreeSet<_>>();
                assert_eq!(all.len(), Format::ALL.len() - 1);
            } else {
                for both in [[Format::Qcow2, Format::Vpc], [Format::Qcow2, Format::Dmg]] {
                    assert!(found.contains(&both[..]), "{found:?}");
                }
            }
        }
    }
}
