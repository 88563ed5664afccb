//! Rules of the BAT and of the blocks that it leads to.

use super::regions;
use super::table::{
    BAT_RESERVED, BAT_SIZE, BITMAP_MISSING, BITMAP_STATE, BITMAP_UNNEEDED, BLOCK_INSIDE, OVERLAP,
    PARTIAL, PAYLOAD_STATE,
};
use crate::checker::Checker;
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::vhdx::layout::{
    BatEntry, Header, Layout, MAX_ENTRIES, MIB, NOT_PRESENT, PARTIAL as PARTIALLY_PRESENT, PRESENT,
    REGION_TABLES, Region, UNDEFINED, UNMAPPED, UNMAPPED_DRAFT, ZERO,
};

/// The most entries of the BAT that are looked at.
const ENTRIES: u64 = 1 << 20;

/// What a part of the file belongs to.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Log,
    Region(usize),
    Payload(u64),
    Bitmap(u64),
}

/// A part of the file.
#[derive(Clone, Copy, Debug)]
struct Part {
    from: u64,
    end: u64,
    owner: Owner,
    /// Where the field is that says where the part is.
    at: u64,
}

pub(super) fn check(source: &Store, layout: &Layout, checker: &mut Checker) {
    let mut parts = Vec::new();
    let header = Header::best(source);
    let part = |from: u64, length: u64, owner, at| Part {
        from,
        end: from.saturating_add(length),
        owner,
        at,
    };
    parts.push(part(
        header.log_offset,
        header.log_length,
        Owner::Log,
        header.at + 72,
    ));
    let table = REGION_TABLES[layout.table];
    let regions = Region::all(source, table, checker.scope.budget(MAX_ENTRIES));
    for (index, region) in regions.iter().enumerate() {
        parts.push(part(
            region.offset,
            region.length,
            Owner::Region(index),
            region.at + 16,
        ));
    }
    if let Some(bat) = layout.bat.filter(|_| layout.has_geometry()) {
        let wanted = layout.bat_bytes();
        let path = format!("region_table[{}].bat.length", layout.table);
        checker.require(wanted <= bat.length, (&path, bat.at + 24, BAT_SIZE), || {
            format!(
                "must be at least {wanted} for the blocks of the disk, is {}",
                bat.length
            )
        });
        entries(source, layout, &bat, &mut parts, checker);
    }
    overlaps(layout, &regions, &header, parts, checker);
}

fn entries(
    source: &Store,
    layout: &Layout,
    bat: &Region,
    parts: &mut Vec<Part>,
    checker: &mut Checker,
) {
    // An entry that is not in the file is one of zeros.
    let there = source.len().saturating_sub(bat.offset).min(bat.length) / 8;
    let most = checker.scope.budget(ENTRIES).min(there);
    for chunk in 0..layout
        .bitmap_blocks()
        .min(most / (layout.chunk_ratio() + 1) + 1)
    {
        let at = layout.bitmap_entry(bat.offset, chunk);
        let entry = BatEntry::read(source, at);
        let path = format!("bat.sector_bitmap[{chunk}]");
        reserved(&path, at, &entry, checker);
        let state = entry.state;
        let known = matches!(state, NOT_PRESENT | PRESENT);
        let rule = BITMAP_STATE.only_if(layout.has_parent());
        checker.require(known, (&format!("{path}.state"), at, rule), || {
            format!("must be 0 or 6, is {state}")
        });
        if !layout.has_parent() {
            let place = (format!("{path}.state"), at, BITMAP_UNNEEDED);
            checker.require(state != PRESENT, (&place.0, place.1, place.2), || {
                "must be 0 in a file without a parent, is 6".to_owned()
            });
        } else if state == PRESENT {
            inside(source, (&path, at, &entry), MIB, checker);
            parts.push(Part {
                from: entry.offset,
                end: entry.offset.saturating_add(MIB),
                owner: Owner::Bitmap(chunk),
                at,
            });
        }
    }
    for block in 0..layout.payload_blocks().min(most) {
        let at = layout.payload_entry(bat.offset, block);
        let entry = BatEntry::read(source, at);
        if entry.state == NOT_PRESENT && entry.reserved == 0 {
            continue;
        }
        payload(source, layout, bat, (block, at, &entry), checker);
        if entry.is_stored() {
            parts.push(Part {
                from: entry.offset,
                end: entry.offset.saturating_add(layout.block_size),
                owner: Owner::Payload(block),
                at,
            });
        }
    }
}

fn reserved(path: &str, at: u64, entry: &BatEntry, checker: &mut Checker) {
    let reserved = entry.reserved;
    checker.require(
        reserved == 0,
        (&format!("{path}.reserved"), at, BAT_RESERVED),
        || format!("must be 0, is {reserved:#x}"),
    );
}

/// A block of `length` bytes must be behind the headers and within the file.
fn inside(
    source: &Store,
    (path, at, entry): (&str, u64, &BatEntry),
    length: u64,
    checker: &mut Checker,
) {
    let offset = entry.offset;
    let end = offset.checked_add(length);
    let inside = offset >= MIB && end.is_some_and(|end| end <= source.len());
    checker.require(
        inside,
        (&format!("{path}.offset"), at, BLOCK_INSIDE),
        || format!("the block at {offset:#x} is not between the headers and the end of the file"),
    );
}

fn payload(
    source: &Store,
    layout: &Layout,
    bat: &Region,
    (block, at, entry): (u64, u64, &BatEntry),
    checker: &mut Checker,
) {
    let path = format!("bat.payload[{block}]");
    reserved(&path, at, entry, checker);
    let state = entry.state;
    let known = matches!(
        state,
        NOT_PRESENT | UNDEFINED | ZERO | UNMAPPED | PRESENT | PARTIALLY_PRESENT
    );
    // A draft of the specification had another number for unmapped blocks.
    let rule = PAYLOAD_STATE.only_if(state != UNMAPPED_DRAFT);
    let place = format!("{path}.state");
    checker.require(known, (&place, at, rule), || {
        format!("must be 0 to 3, 6 or 7, is {state}")
    });
    if entry.is_stored() {
        // Of the last block no more than the disk has need be in the file.
        let left = layout.virtual_size - block * layout.block_size;
        let length = left.min(layout.block_size);
        inside(source, (&path, at, entry), length, checker);
    }
    if state != PARTIALLY_PRESENT {
        return;
    }
    checker.require(layout.has_parent(), (&place, at, PARTIAL), || {
        "must not be 7 in a file without a parent".to_owned()
    });
    let chunk = block / layout.chunk_ratio();
    let bitmap = BatEntry::read(source, layout.bitmap_entry(bat.offset, chunk));
    let there = bitmap.state == PRESENT || !layout.has_parent();
    checker.require(there, (&place, at, BITMAP_MISSING), || {
        format!(
            "needs bat.sector_bitmap[{chunk}], whose state is {}",
            bitmap.state
        )
    });
}

/// Each part of the file belongs to one thing.
fn overlaps(
    layout: &Layout,
    regions: &[Region],
    header: &Header,
    mut parts: Vec<Part>,
    checker: &mut Checker,
) {
    let path = |owner: Owner| match owner {
        Owner::Log => format!("header[{}].log_offset", header.index),
        Owner::Region(index) => {
            let name = regions::name(layout.table, index, &regions[index]);
            format!("{name}.file_offset")
        }
        Owner::Payload(block) => format!("bat.payload[{block}].offset"),
        Owner::Bitmap(chunk) => format!("bat.sector_bitmap[{chunk}].offset"),
    };
    parts.retain(|part| part.from < part.end);
    parts.sort_by_key(|part| part.from);
    let mut last: Option<Part> = None;
    for part in parts {
        if let Some(before) = last {
            let apart = before.end <= part.from;
            if !apart {
                let place = (path(part.owner), part.at, OVERLAP);
                checker.require(false, (&place.0, place.1, place.2), || {
                    format!("{:#x} is within what {} has", part.from, path(before.owner))
                });
            }
        }
        if last.is_none_or(|before| part.end > before.end) {
            last = Some(part);
        }
    }
}
