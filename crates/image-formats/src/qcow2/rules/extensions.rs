//! Rules of the header extensions.

use std::collections::BTreeSet;

use super::records::claims_bitmaps;
use super::{Checker, table};
use crate::defect::Rule;
use crate::luks;
use crate::qcow2::header::Autoclear;
use crate::qcow2::read::layout::{ExtensionAt, extension_area_end};
use crate::qcow2::records::{
    BITMAPS_EXT_LENGTH, EXT_BITMAPS, EXT_ENCRYPTION, EXT_END, EXT_FEATURE_NAMES, FEATURE_ENTRY,
    extension_name,
};
use crate::value::read_be;

pub(crate) fn check(checker: &mut Checker<'_>) {
    let layout = checker.layout;
    let mut seen = BTreeSet::new();
    let name = layout.header.backing_file_offset;
    let has_area = name == 0 || name > layout.header.header_length.into();
    let area_end = extension_area_end(&layout.header, layout.unit());
    for (index, ext) in layout.extensions.iter().enumerate() {
        let path = format!("ext[{index}].length");
        let rule = if ext.declared > area_end.saturating_sub(ext.offset + 8) {
            // Where the backing file's name is in the header, it is open where they end.
            table::EXTENSION_LENGTH.only_if(has_area)
        } else {
            table::EXTENSION_INSIDE
        };
        let at = (path.as_str(), ext.offset + 4, rule);
        checker.require(ext.present == ext.declared, at, || {
            format!(
                "is {}, but only {} bytes are left in the extension area",
                ext.declared, ext.present
            )
        });
        let again = extension_name(ext.kind) != "unknown" && !seen.insert(ext.kind);
        let path = format!("ext[{index}].type");
        let at = (&*path, ext.offset, table::EXTENSION_ONCE);
        checker.require(!again, at, || {
            format!("duplicate {} extension", extension_name(ext.kind))
        });
        match ext.kind {
            EXT_FEATURE_NAMES => feature_names(checker, index, ext),
            EXT_BITMAPS => bitmaps(checker, index, ext),
            EXT_ENCRYPTION => encryption(checker, index, ext),
            EXT_END => {
                let path = format!("ext[{index}].length");
                checker.require(
                    ext.declared == 0,
                    (&path, ext.offset + 4, table::EXTENSION_END),
                    || format!("of the end marker must be 0, is {}", ext.declared),
                );
            }
            _ => {}
        }
    }
    let header = &layout.header;
    let has = |kind| layout.extensions.iter().any(|ext| ext.kind == kind);
    let claimed = header.autoclear.contains(Autoclear::BITMAPS);
    let at = (
        "header.autoclear_features.bitmaps",
        88,
        table::BITMAPS_MISSING,
    );
    checker.require(!claimed || has(EXT_BITMAPS), at, || {
        "is set without the bitmaps extension".to_owned()
    });
    let needed = header.crypt_method == 2;
    checker.require(
        needed == has(EXT_ENCRYPTION),
        ("header.crypt_method", 32, table::ENCRYPTION_HEADER),
        || {
            let have = if needed { "is missing" } else { "is present" };
            format!(
                "is {}, but the encryption header {have}",
                header.crypt_method
            )
        },
    );
}

fn feature_names(checker: &mut Checker<'_>, index: usize, ext: &ExtensionAt) {
    let path = format!("ext[{index}].length");
    checker.require(
        ext.declared.is_multiple_of(FEATURE_ENTRY),
        (&path, ext.offset + 4, table::FEATURE_TABLE),
        || format!("must be a multiple of {FEATURE_ENTRY}, is {}", ext.declared),
    );
    for entry in 0..ext.present / FEATURE_ENTRY {
        let offset = ext.offset + 8 + entry * FEATURE_ENTRY;
        let head = checker.source.read_vec(offset, 2);
        let (kind, bit) = (head[0], head[1]);
        let path = format!("ext[{index}].feature[{entry}].type");
        let at = (&*path, offset, table::FEATURE_TYPE);
        checker.require(kind <= 2, at, || format!("must be 0, 1 or 2, is {kind}"));
        let path = format!("ext[{index}].feature[{entry}].bit");
        let at = (&*path, offset + 1, table::FEATURE_BIT);
        checker.require(bit <= 63, at, || format!("must be at most 63, is {bit}"));
    }
}

fn bitmaps(checker: &mut Checker<'_>, index: usize, ext: &ExtensionAt) {
    let layout = checker.layout;
    // Without the feature bit all bitmaps are to be ignored, but not the extension's length.
    let used = layout.header.autoclear.contains(Autoclear::BITMAPS);
    let binding = |rule: Rule| rule.only_if(used);
    let path = format!("ext[{index}].length");
    checker.require(
        ext.declared == BITMAPS_EXT_LENGTH,
        (&path, ext.offset + 4, table::BITMAPS_LENGTH),
        || format!("must be {BITMAPS_EXT_LENGTH}, is {}", ext.declared),
    );
    if ext.present < BITMAPS_EXT_LENGTH {
        return;
    }
    let data = checker
        .source
        .read_vec(ext.offset + 8, BITMAPS_EXT_LENGTH as usize);
    let count = read_be(&data[..4]);
    let (reserved, size, offset) = (
        read_be(&data[4..8]),
        read_be(&data[8..16]),
        read_be(&data[16..24]),
    );
    let field = |name: &str| format!("ext[{index}].{name}");
    let path = field("nb_bitmaps");
    let at = |rule| (path.as_str(), ext.offset + 8, rule);
    checker.require(count >= 1, at(binding(table::BITMAPS_COUNT)), || {
        "must be at least 1".to_owned()
    });
    let found = layout.bitmaps.len() as u64;
    let all = found == count || layout.geometry.is_none();
    checker.require(all, at(table::BITMAPS_INSIDE), || {
        format!("is {count}, but only {found} entries are within the file and the limits")
    });
    let path = field("reserved");
    let at = (&*path, ext.offset + 12, binding(table::BITMAPS_RESERVED));
    checker.require(reserved == 0, at, || format!("must be 0, is {reserved:#x}"));
    let sum = layout
        .bitmaps
        .iter()
        .fold(0_u64, |sum, bitmap| sum.saturating_add(bitmap.len()));
    let path = field("bitmap_directory_size");
    let rule = table::DIRECTORY_SIZE.only_if(claims_bitmaps(checker));
    checker.require(
        sum == size || layout.geometry.is_none(),
        (&path, ext.offset + 16, rule),
        || format!("is {size}, but the entries take {sum} bytes"),
    );
    let path = field("bitmap_directory_offset");
    let aligned = layout
        .geometry
        .is_none_or(|geometry| geometry.is_aligned(offset));
    checker.require(
        aligned && offset != 0,
        (&path, ext.offset + 24, binding(table::DIRECTORY_OFFSET)),
        || format!("must be a multiple of the cluster size and not 0, is {offset:#x}"),
    );
}

fn encryption(checker: &mut Checker<'_>, index: usize, ext: &ExtensionAt) {
    let layout = checker.layout;
    let path = format!("ext[{index}].length");
    checker.require(
        ext.declared == 16,
        (&path, ext.offset + 4, table::ENCRYPTION_LENGTH),
        || format!("must be 16, is {}", ext.declared),
    );
    if ext.present < 16 {
        return;
    }
    let offset = checker.source.read_u64(ext.offset + 8);
    let len = checker.source.read_u64(ext.offset + 16);
    let path = format!("ext[{index}].encryption_offset");
    let at = (path.as_str(), ext.offset + 8, table::ENCRYPTION_OFFSET);
    let aligned = layout
        .geometry
        .is_none_or(|geometry| geometry.is_aligned(offset));
    checker.require(aligned && offset != 0, at, || {
        format!("must be a multiple of the cluster size and not 0, is {offset:#x}")
    });
    let path = format!("ext[{index}].encryption_length");
    let end = offset.saturating_add(len);
    checker.require(
        end <= layout.end,
        (&path, ext.offset + 16, table::ENCRYPTION_INSIDE),
        || format!("the encryption header ends at {end:#x}, past the end of the file"),
    );
    if let Some(region) = layout.encryption {
        let magic = checker.source.read_vec(region.offset, luks::MAGIC.len());
        checker.require(
            magic == luks::MAGIC,
            ("luks.magic", region.offset, table::LUKS_MAGIC),
            || "must be LUKS, 0xba, 0xbe".to_owned(),
        );
    }
}
