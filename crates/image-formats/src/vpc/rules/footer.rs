//! Rules of the footer and of fixed images.

use super::table::{
    DATA_OFFSET, DATA_OFFSET_UNUSED, FEATURES, FIXED_INSIDE, FIXED_LENGTH, FOOTER_COPY_THERE,
    FOOTER_RESERVED, FOOTER_VALID, GEOMETRY, MINOR_VERSION, SAVED_STATE, SIZE, SIZE_UNIT, TYPE,
    VERSION,
};
use crate::checker::Checker;
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::vpc::layout::{
    DIFFERENCING, DYNAMIC_BYTES, FIXED, Footer, LARGEST_GEOMETRY, Layout, SECTOR,
};

/// Bytes on the largest disk.
const LARGEST: u64 = 2040 << 30;

pub(super) fn check(source: &Store, layout: &Layout, checker: &mut Checker) {
    let valid = layout.footer.is_some_and(|footer| footer.is_valid(source));
    let at = source.len().saturating_sub(SECTOR);
    checker.require(valid, ("footer", at, FOOTER_VALID), || {
        "there is no footer with the right checksum, nor a copy".to_owned()
    });
    let Some(footer) = layout.footer else {
        return;
    };
    let name = match layout.last {
        Some(last) if last.at == footer.at => "footer",
        _ => "header",
    };
    fields(source, (name, &footer), checker);
    let path = |field: &str| format!("{name}.{field}");
    let kind = footer.kind;
    let known = (FIXED..=DIFFERENCING).contains(&kind);
    checker.require(known, (&path("type"), footer.at + 60, TYPE), || {
        format!("must be 2, 3 or 4, is {kind}")
    });
    let copied = layout.copy.is_some() != (kind == FIXED);
    let at = (path("type"), footer.at + 60, FOOTER_COPY_THERE);
    checker.require(copied || !known, (&at.0, at.1, at.2), || match kind {
        FIXED => "the image is fixed, and has a copy of the footer at its start".to_owned(),
        _ => "the image is not fixed, and has no copy of the footer at its start".to_owned(),
    });
    let at = (path("data_offset"), footer.at + 16);
    let offset = footer.data_offset;
    if kind == FIXED {
        // Some writers take 32 bits of ones for enough.
        let unused = matches!(offset, u64::MAX | 0xffff_ffff);
        checker.require(unused, (&at.0, at.1, DATA_OFFSET_UNUSED), || {
            format!("must be all ones, is {offset:#x}")
        });
        fixed(source, (name, &footer), checker);
    } else {
        let end = offset.checked_add(DYNAMIC_BYTES);
        let inside = end.is_some_and(|end| end <= source.len());
        checker.require(inside, (&at.0, at.1, DATA_OFFSET), || {
            format!("must be within the file, is {offset:#x}")
        });
    }
}

fn fields(source: &Store, (name, footer): (&str, &Footer), checker: &mut Checker) {
    let path = |field: &str| format!("{name}.{field}");
    let features = footer.features;
    checker.require(
        matches!(features, 2 | 3),
        (&path("features"), footer.at + 8, FEATURES),
        || format!("must be 2 or 3, is {features:#x}"),
    );
    let (major, minor) = (footer.version >> 16, footer.version & 0xffff);
    let place = path("version");
    checker.require(major == 1, (&place, footer.at + 12, VERSION), || {
        format!("must be 0x10000, is {:#x}", footer.version)
    });
    checker.require(minor == 0, (&place, footer.at + 12, MINOR_VERSION), || {
        format!("must be 0x10000, is {:#x}", footer.version)
    });
    let size = footer.current_size;
    let place = path("current_size");
    let whole = size.is_multiple_of(SECTOR);
    checker.require(whole, (&place, footer.at + 48, SIZE_UNIT), || {
        format!("must be a multiple of 512, is {size}")
    });
    checker.require(size <= LARGEST, (&place, footer.at + 48, SIZE), || {
        format!("must be at most {LARGEST}, is {size}")
    });
    let (heads, sectors) = (footer.heads, footer.sectors);
    let none = size / SECTOR < 68;
    for (field, offset, allowed) in [
        ("heads", 58, (1..=16).contains(&heads)),
        ("secs_per_cyl", 59, sectors > 0),
    ] {
        // The smallest disks may have none.
        let at = (path(field), footer.at + offset, GEOMETRY);
        checker.require(allowed || none && heads <= 16, (&at.0, at.1, at.2), || {
            format!("{heads} heads and {sectors} sectors are no geometry")
        });
    }
    let (geometry, known) = (footer.geometry(), size / SECTOR);
    let at = (path("cyls"), footer.at + 56, GEOMETRY);
    // The largest geometry says that there is none.
    let fits = geometry <= known || geometry == LARGEST_GEOMETRY;
    checker.require(fits || none, (&at.0, at.1, at.2), || {
        format!("the geometry has {geometry} sectors, the disk {known}")
    });
    let state = footer.saved_state;
    checker.require(
        state <= 1,
        (&path("in_saved_state"), footer.at + 84, SAVED_STATE),
        || format!("must be 0 or 1, is {state}"),
    );
    let reserved = source.read_vec(footer.at + 85, 427);
    let zeros = reserved.iter().all(|byte| *byte == 0);
    let at = (path("reserved"), footer.at + 85, FOOTER_RESERVED);
    checker.require(zeros, (&at.0, at.1, at.2), || "must be zeros".to_owned());
}

fn fixed(source: &Store, (name, footer): (&str, &Footer), checker: &mut Checker) {
    let size = footer.disk_size();
    let room = source.len().saturating_sub(SECTOR);
    let field = match footer.has_geometry_size() {
        true => ("cyls", 56),
        false => ("current_size", 48),
    };
    let path = format!("{name}.{}", field.0);
    let at = footer.at + field.1;
    checker.require(size <= room, (&path, at, FIXED_INSIDE), || {
        format!("the disk has {size} bytes, the file {room} before the footer")
    });
    let longest = size.max(footer.current_size);
    checker.require(room <= longest, (&path, at, FIXED_LENGTH), || {
        format!("the file has {room} bytes before the footer, the disk {longest}")
    });
}
