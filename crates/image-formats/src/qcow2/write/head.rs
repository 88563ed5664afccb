//! The first cluster: header, extensions, backing file name.

use crate::qcow2::header::{Autoclear, Compatible, Incompatible, MAGIC, V2_LENGTH};
use crate::qcow2::records::{
    EXT_BACKING_FORMAT, EXT_BITMAPS, EXT_DATA_FILE, EXT_ENCRYPTION, EXT_END, EXT_FEATURE_NAMES,
};
use crate::qcow2::types::Geometry;
use crate::qcow2::write::plan::Plan;
use crate::qcow2::write::spec::{Extension, Spec};
use crate::spec_error::{SpecError, ensure};

/// Known features: type, bit, name.
const FEATURE_NAMES: &[(u8, u8, &str)] = &[
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
];

/// The bytes at the start of the image.
pub(crate) fn write_head(
    spec: &Spec,
    geometry: Geometry,
    plan: &Plan,
    (l1_offset, l1_size): (u64, u64),
    snapshots: Option<u64>,
    bitmap_directory: Option<(u64, u64)>,
    luks: Option<(u64, u64)>,
) -> Result<Vec<u8>, SpecError> {
    let mut tail = Vec::new();
    for extension in extensions(spec, bitmap_directory, luks) {
        write_extension(&mut tail, &extension);
    }
    write_extension(
        &mut tail,
        &Extension {
            kind: EXT_END,
            data: Vec::new(),
        },
    );
    let header_length = if spec.version == 2 {
        V2_LENGTH
    } else {
        spec.header_length
    };
    let name = spec.backing.as_ref().map_or("", |backing| &backing.name);
    let name_at = u64::from(header_length) + tail.len() as u64;
    let end = name_at + name.len() as u64;
    ensure!(
        end <= geometry.cluster_size(),
        "header, extensions and backing file name take {end} bytes, the first cluster has {}",
        geometry.cluster_size()
    );

    let mut head = Vec::with_capacity(usize::try_from(end).unwrap_or(0));
    let u32s = |head: &mut Vec<u8>, number: u32| head.extend(number.to_be_bytes());
    let u64s = |head: &mut Vec<u8>, number: u64| head.extend(number.to_be_bytes());
    u32s(&mut head, MAGIC);
    u32s(&mut head, spec.version);
    u64s(&mut head, if name.is_empty() { 0 } else { name_at });
    u32s(&mut head, name.len() as u32);
    u32s(&mut head, spec.cluster_bits);
    u64s(&mut head, spec.virtual_size);
    u32s(&mut head, if luks.is_some() { 2 } else { 0 });
    u32s(&mut head, l1_size as u32);
    u64s(&mut head, l1_offset);
    u64s(&mut head, plan.refcount_table_offset(geometry));
    u32s(&mut head, plan.refcount_table_clusters() as u32);
    u32s(&mut head, spec.snapshots.len() as u32);
    u64s(&mut head, snapshots.unwrap_or(0));
    if spec.version == 3 {
        u64s(&mut head, incompatible(spec).bits());
        u64s(&mut head, compatible(spec));
        u64s(&mut head, autoclear(spec).bits());
        u32s(&mut head, spec.refcount_order);
        u32s(&mut head, header_length);
        if header_length >= 112 {
            head.push(spec.compression.number());
            head.extend([0; 7]);
        }
        let unknown = header_length as usize - head.len();
        if spec.header_tail.is_empty() {
            head.resize(head.len() + unknown, 0);
        } else {
            head.extend(spec.header_tail.iter().copied().cycle().take(unknown));
        }
    }
    head.extend(tail);
    head.extend(name.as_bytes());
    Ok(head)
}

fn incompatible(spec: &Spec) -> Incompatible {
    let mut bits = Incompatible::empty();
    bits.set(Incompatible::DIRTY, spec.dirty);
    bits.set(Incompatible::DATA_FILE, spec.data_file.is_some());
    bits.set(Incompatible::COMPRESSION, spec.compression.number() != 0);
    bits.set(Incompatible::EXTENDED_L2, spec.extended_l2);
    bits
}

fn compatible(spec: &Spec) -> u64 {
    let lazy = if spec.lazy_refcounts {
        Compatible::LAZY_REFCOUNTS.bits()
    } else {
        0
    };
    lazy | spec.unknown_compatible & !Compatible::LAZY_REFCOUNTS.bits()
}

fn autoclear(spec: &Spec) -> Autoclear {
    let mut bits = Autoclear::empty();
    bits.set(Autoclear::BITMAPS, !spec.bitmaps.is_empty());
    bits.set(
        Autoclear::RAW_DATA_FILE,
        spec.data_file.as_ref().is_some_and(|file| file.raw),
    );
    bits
}

fn extensions(
    spec: &Spec,
    directory: Option<(u64, u64)>,
    luks: Option<(u64, u64)>,
) -> Vec<Extension> {
    let mut all = Vec::new();
    let mut add = |kind, data: Vec<u8>| all.push(Extension { kind, data });
    if let Some(format) = spec
        .backing
        .as_ref()
        .and_then(|backing| backing.format.as_ref())
    {
        add(EXT_BACKING_FORMAT, format.as_bytes().to_vec());
    }
    if let Some(name) = spec.data_file.as_ref().and_then(|file| file.name.as_ref()) {
        add(EXT_DATA_FILE, name.as_bytes().to_vec());
    }
    if let Some((offset, len)) = luks {
        add(
            EXT_ENCRYPTION,
            [offset.to_be_bytes(), len.to_be_bytes()].concat(),
        );
    }
    if spec.feature_names {
        let entry = |&(kind, bit, name): &(u8, u8, &str)| {
            let mut entry = vec![kind, bit];
            entry.extend(name.as_bytes());
            entry.resize(48, 0);
            entry
        };
        add(
            EXT_FEATURE_NAMES,
            FEATURE_NAMES.iter().flat_map(entry).collect(),
        );
    }
    if let Some((offset, len)) = directory {
        let mut data = (spec.bitmaps.len() as u32).to_be_bytes().to_vec();
        data.extend([0; 4]);
        data.extend(len.to_be_bytes());
        data.extend(offset.to_be_bytes());
        add(EXT_BITMAPS, data);
    }
    all.extend(spec.extensions.iter().cloned());
    all
}

/// Type, length, data, padding.
pub(crate) fn write_extension(out: &mut Vec<u8>, extension: &Extension) {
    out.extend(extension.kind.to_be_bytes());
    out.extend((extension.data.len() as u32).to_be_bytes());
    out.extend(&extension.data);
    out.resize(
        out.len() + extension.data.len().next_multiple_of(8) - extension.data.len(),
        0,
    );
}
