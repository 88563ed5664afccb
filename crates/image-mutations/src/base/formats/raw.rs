//! Raw disks on which a guest has written what other formats begin or end with: whole images, of
//! which some name other files, and signatures that one more write completes.

use image_formats::raw::{Part, Spec};
use image_formats::{AnySpec, Format, Pattern, ReadAt as _, Store, qcow, qcow2, qed, vmdk};

use super::common::alone;
use super::{FORMATS, buildable};
use crate::base::OtherBase;
use crate::file_names::canary;
use crate::rng::Rng;

/// Bytes in a sector.
const SECTOR: u64 = 512;

/// The most bytes, other than zeros, of an image within a disk.
const MOST_BYTES: usize = 24 << 10;

/// The largest disk.
const LARGEST: u64 = 16 << 20;

/// A random disk.
pub(super) fn draw(rng: &mut Rng) -> OtherBase {
    let mut parts = Vec::new();
    let mut size = rng.between(1, 256) * SECTOR * 8;
    if rng.chance(60) {
        let at = rng.below(size / SECTOR) * SECTOR;
        let pattern = Pattern::Fill(rng.between(1, 255) as u8);
        let bytes = pattern.bytes(SECTOR as usize);
        parts.push(Part { at, bytes });
    }
    let way = rng.below(10);
    if way > 0
        && let Some((image, len)) = image(rng)
    {
        size = size.max(len.next_multiple_of(SECTOR) + SECTOR);
        match way {
            1..=4 => parts.extend(image),
            // Where an image ends, a footer or trailer does.
            5..=6 => parts.extend(moved(image, size - len)),
            7 => parts.extend(moved(image, rng.below((size - len) / SECTOR) * SECTOR)),
            _ => parts.extend(
                image
                    .into_iter()
                    .next()
                    .and_then(|first| unfinished(first, rng)),
            ),
        }
    }
    alone(AnySpec::Raw(Spec {
        virtual_size: size,
        parts,
    }))
}

/// The parts, so many bytes further.
fn moved(parts: Vec<Part>, by: u64) -> impl Iterator<Item = Part> {
    let moved = move |part: Part| Part {
        at: part.at + by,
        ..part
    };
    parts.into_iter().map(moved)
}

/// The first sector of an image, with one to three of its first bytes missing, where it has a
/// signature there.
fn unfinished(mut first: Part, rng: &mut Rng) -> Option<Part> {
    let bytes = first.bytes.get_mut(..8).filter(|_| first.at == 0)?;
    for _ in 0..rng.between(1, 3) {
        // Most signatures are of four bytes.
        let most = if rng.chance(70) { 4 } else { bytes.len() };
        let at = rng.index(most);
        bytes[at] = if rng.chance(70) { 0 } else { b'x' };
    }
    first.bytes.truncate(SECTOR as usize);
    Some(first)
}

/// The parts of an image that are not zeros, the first one at its start, and its length.
fn image(rng: &mut Rng) -> Option<(Vec<Part>, u64)> {
    let bytes = match rng.below(10) {
        0..=3 => of_qcow2(rng)?,
        4 => of_spec(&AnySpec::Qed(qed::Spec {
            backing: Some(qed::Backing {
                name: canary(rng)?,
                raw: rng.chance(50),
            }),
            ..qed::Spec::default()
        }))?,
        5 => of_spec(&AnySpec::Qcow(qcow::Spec {
            backing: canary(rng),
            ..qcow::Spec::default()
        }))?,
        6 => of_vmdk(rng)?,
        _ => {
            let others = FORMATS.iter().filter(|(format, _)| *format != Format::Raw);
            let others: Vec<_> = others.collect();
            let base = buildable(rng.pick(&others)?.1, rng);
            of_spec(&base.spec)?
        }
    };
    let len = bytes.len();
    let parts = used(&bytes);
    let stored: usize = parts.iter().map(|part| part.bytes.len()).sum();
    (stored <= MOST_BYTES && len <= LARGEST).then_some((parts, len))
}

/// The image that a description stands for, without the files that belong to it.
fn of_spec(spec: &AnySpec) -> Option<Store> {
    let mut files = spec.build("image").ok()?;
    Some(files.swap_remove(0).bytes)
}

/// A qcow2 image that names a backing file or a data file.
fn of_qcow2(rng: &mut Rng) -> Option<Store> {
    let name = canary(rng)?;
    let mut spec = qcow2::Spec {
        cluster_bits: 9 + rng.below(4) as u32,
        virtual_size: 64 << 10,
        ..qcow2::Spec::default()
    };
    if rng.chance(75) {
        let format = rng.chance(60).then(|| "raw".to_owned());
        spec.backing = Some(qcow2::Backing { name, format });
    } else {
        let raw = rng.chance(50);
        let name = Some(name);
        spec.data_file = Some(qcow2::DataFile { name, raw });
    }
    Some(qcow2::build(&spec).ok()?.image.bytes().clone())
}

/// The descriptor of a VMDK disk whose extent is another file.
fn of_vmdk(rng: &mut Rng) -> Option<Store> {
    let spec = AnySpec::Vmdk(vmdk::Spec {
        subformat: vmdk::Subformat::MonolithicFlat,
        ..vmdk::Spec::default()
    });
    let files = spec.build("image").ok()?;
    let [descriptor, extent] = files.as_slice() else {
        return None;
    };
    let len = usize::try_from(descriptor.bytes.len()).ok()?;
    let text = String::from_utf8(read(&descriptor.bytes, 0, len)).ok()?;
    let mut bytes = Store::new();
    bytes.write(0, text.replace(&extent.name, &canary(rng)?).as_bytes());
    Some(bytes)
}

/// Bytes of an image.
fn read(image: &Store, at: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    image.read(at, &mut bytes);
    bytes
}

/// The sectors of an image that are not zeros, those that follow each other as one part.
fn used(bytes: &Store) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for at in (0..bytes.len()).step_by(SECTOR as usize) {
        let count = SECTOR.min(bytes.len() - at) as usize;
        let sector = read(bytes, at, count);
        if sector.iter().all(|byte| *byte == 0) {
            continue;
        }
        match parts.last_mut() {
            Some(last) if last.at + last.bytes.len() as u64 == at => last.bytes.extend(sector),
            _ => parts.push(Part { at, bytes: sector }),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::base::other::files_of;

    #[test]
    fn disks_begin_end_and_almost_begin_as_images() {
        let mut rng = Rng::from_text("raw");
        let mut found = BTreeSet::new();
        let mut named = 0;
        for _ in 0..400 {
            let base = draw(&mut rng);
            let file = files_of(&base, "i").unwrap().swap_remove(0);
            found.extend(Format::signatures(&file).unwrap());
            let bytes = file.to_vec();
            let canaries = bytes.windows(6).filter(|word| word == b"canary");
            named += usize::from(canaries.count() > 0);
        }
        for format in [
            Format::Qcow2,
            Format::Qed,
            Format::Qcow,
            Format::Vmdk,
            Format::Vpc,
        ] {
            assert!(found.contains(&format), "{found:?}");
        }
        assert!(named > 60, "{named}");
    }
}
