//! Rules of the metadata region.

use std::collections::BTreeSet;

use super::table::{
    BLOCK_SIZE, DISK_SIZE, DISK_SIZE_UNIT, ITEM_FLAGS, ITEM_INSIDE, ITEM_LENGTH, ITEM_MISSING,
    ITEM_OVERLAP, ITEM_REQUIRED, ITEM_RESERVED, ITEM_UNIQUE, ITEM_USERS, LOCATOR, LOCATOR_ENTRY,
    LOCATOR_LINKAGE, LOCATOR_PATH, LOCATOR_RESERVED, LOCATOR_TEXT, LOCATOR_TYPE, LOCATOR_UNIQUE,
    LOGICAL, METADATA_COUNT, METADATA_RESERVED, METADATA_SIGNATURE, PARAMETERS_RESERVED, PHYSICAL,
};
use crate::checker::Checker;
use crate::guid;
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;
use crate::vhdx::layout::{
    Item, KNOWN, Known, Layout, MAX_ENTRIES, MIB, Region, TABLE_BYTES, guid_at,
};
use crate::vhdx::locator::{LINKAGES, Locator, PATHS, Pair, VHDX_LOCATOR};

/// The most items of users.
const MAX_USERS: u64 = 1024;

pub(super) fn check(source: &Store, layout: &Layout, checker: &mut Checker) {
    let Some(region) = layout.metadata else {
        return;
    };
    let table = region.offset;
    let signature = source.read_vec(table, 8);
    let at = ("metadata.signature", table, METADATA_SIGNATURE);
    checker.require(signature == b"metadata", at, || {
        format!("must be metadata, is {}", signature.escape_ascii())
    });
    let count = number(source, table.saturating_add(10), 2, Little);
    let at = (
        "metadata.entry_count",
        table.saturating_add(10),
        METADATA_COUNT,
    );
    checker.require(count <= MAX_ENTRIES, at, || {
        format!("must be at most {MAX_ENTRIES}, is {count}")
    });
    let reserved = source.read_vec(table.saturating_add(8), 24);
    for (name, range) in [("reserved", 0..2), ("reserved2", 4..24)] {
        let zeros = reserved[range.clone()].iter().all(|byte| *byte == 0);
        let at = table.saturating_add(8 + range.start as u64);
        let path = format!("metadata.{name}");
        checker.require(zeros, (&path, at, METADATA_RESERVED), || {
            "must be zeros".to_owned()
        });
    }
    items(source, &region, checker);
    for known in &KNOWN {
        let needed = known.item != Known::ParentLocator;
        let there = layout.item(known.item).is_some();
        let at = (
            "metadata.entry_count",
            table.saturating_add(10),
            ITEM_MISSING,
        );
        checker.require(there || !needed, at, || {
            format!("there is no item '{}'", known.name)
        });
    }
    values(layout, checker);
    locator(source, layout, checker);
}

/// The name of an item in paths.
fn name(index: usize, item: &Item) -> String {
    match item.known() {
        Some(known) => format!("metadata.{}", known.name),
        None => format!("metadata.entry[{index}]"),
    }
}

fn items(source: &Store, region: &Region, checker: &mut Checker) {
    let most = checker.scope.budget(MAX_ENTRIES);
    let items = Item::all(source, region.offset, most);
    let mut known = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let name = name(index, item);
        let once = known.insert((item.guid, item.flags & 1));
        let at = (format!("{name}.item_id"), item.at, ITEM_UNIQUE);
        checker.require(once, (&at.0, at.1, at.2), || {
            format!("{} is there twice", guid::text(&item.guid))
        });
        check_item((&name, item), region, checker);
    }
    let users = items.iter().filter(|item| item.flags & 1 != 0).count() as u64;
    let at = (
        "metadata.entry_count",
        region.offset.saturating_add(10),
        ITEM_USERS,
    );
    checker.require(users <= MAX_USERS, at, || {
        format!("{users} items are those of users, at most {MAX_USERS} may be")
    });
    let end = |item: &Item| item.offset + item.length;
    let mut stored: Vec<(usize, &Item)> = items.iter().enumerate().collect();
    stored.retain(|(_, item)| item.length > 0);
    stored.sort_by_key(|(_, item)| item.offset);
    for pair in stored.windows(2) {
        let ((first, before), (second, item)) = (pair[0], pair[1]);
        let apart = end(before) <= item.offset;
        let at = (
            format!("{}.offset", name(second, item)),
            item.at + 16,
            ITEM_OVERLAP,
        );
        checker.require(apart, (&at.0, at.1, at.2), || {
            format!("{:#x} is within {}", item.offset, name(first, before))
        });
    }
}

fn check_item((name, item): (&str, &Item), region: &Region, checker: &mut Checker) {
    let path = |field: &str| format!("{name}.{field}");
    let (offset, length) = (item.offset, item.length);
    let inside = match length {
        0 => offset == 0,
        _ => offset >= TABLE_BYTES as u64 && offset + length <= region.length && length <= MIB,
    };
    checker.require(inside, (&path("offset"), item.at + 16, ITEM_INSIDE), || {
        format!("the {length:#x} bytes at {offset:#x} are not in the region behind the table")
    });
    let unknown = item.flags & !7;
    checker.require(
        unknown == 0,
        (&path("flags"), item.at + 24, ITEM_RESERVED),
        || format!("must have bits 0 to 2 only, has {unknown:#x}"),
    );
    let reserved = item.reserved;
    checker.require(
        reserved == 0,
        (&path("reserved2"), item.at + 28, ITEM_RESERVED),
        || format!("must be 0, is {reserved:#x}"),
    );
    let required = item.flags & 4 != 0 && item.known().is_none();
    checker.require(
        !required,
        (&path("flags.is_required"), item.at + 24, ITEM_REQUIRED),
        || format!("the item {} is not known", guid::text(&item.guid)),
    );
    let Some(known) = item.known() else {
        return;
    };
    let (flags, wanted) = (item.flags & 7, known.flags);
    checker.require(
        flags == wanted,
        (&path("flags"), item.at + 24, ITEM_FLAGS),
        || format!("must be {wanted}, is {flags}"),
    );
    let wanted = known.length;
    let fits = length == wanted || wanted == 0 && length >= 20;
    checker.require(fits, (&path("length"), item.at + 20, ITEM_LENGTH), || {
        format!("must be {}, is {length}", wanted.max(20))
    });
}

fn values(layout: &Layout, checker: &mut Checker) {
    if let Some(at) = layout.item(Known::FileParameters) {
        let size = layout.block_size;
        let allowed = size.is_power_of_two() && (MIB..=256 * MIB).contains(&size);
        checker.require(
            allowed,
            ("file_parameters.block_size", at, BLOCK_SIZE),
            || format!("must be a power of two from 1 MiB to 256 MiB, is {size}"),
        );
        let unknown = layout.flags & !3;
        let place = ("file_parameters.flags", at + 4, PARAMETERS_RESERVED);
        checker.require(unknown == 0, place, || {
            format!("must have bits 0 and 1 only, has {unknown:#x}")
        });
    }
    let (size, sector) = (layout.virtual_size, layout.logical_sector_size);
    if let Some(at) = layout.item(Known::DiskSize) {
        let whole = size.checked_rem(sector).unwrap_or(0) == 0;
        checker.require(whole, ("virtual_disk.size", at, DISK_SIZE_UNIT), || {
            format!("must be a multiple of {sector}, is {size}")
        });
        let allowed = size <= 64 << 40;
        checker.require(allowed, ("virtual_disk.size", at, DISK_SIZE), || {
            format!("must be at most 64 TiB, is {size}")
        });
    }
    for (item, path, value, rule) in [
        (
            Known::LogicalSectorSize,
            "virtual_disk.logical_sector_size",
            sector,
            LOGICAL,
        ),
        (
            Known::PhysicalSectorSize,
            "virtual_disk.physical_sector_size",
            layout.physical_sector_size,
            PHYSICAL,
        ),
    ] {
        if let Some(at) = layout.item(item) {
            checker.require(matches!(value, 512 | 4096), (path, at, rule), || {
                format!("must be 512 or 4096, is {value}")
            });
        }
    }
}

fn locator(source: &Store, layout: &Layout, checker: &mut Checker) {
    let flags = layout.item(Known::FileParameters).unwrap_or(0) + 4;
    let place = ("file_parameters.flags.has_parent", flags, LOCATOR);
    let Some(locator) = Locator::read(source, layout) else {
        return checker.require(!layout.has_parent(), place, || {
            "a differencing file has no parent locator".to_owned()
        });
    };
    let place = (place.0, place.1, LOCATOR.only_if(layout.has_parent()));
    checker.require(layout.has_parent(), place, || {
        "must be 1 where there is a parent locator, is 0".to_owned()
    });
    // A locator that is not used does no harm.
    let rule = |rule: crate::defect::Rule| rule.only_if(layout.has_parent());
    let at = (
        "parent_locator.locator_type",
        locator.at,
        rule(LOCATOR_TYPE),
    );
    checker.require(locator.kind == VHDX_LOCATOR, at, || {
        format!("{} is not known", guid::text(&guid_at(source, locator.at)))
    });
    let at = ("parent_locator.reserved", locator.at + 16, LOCATOR_RESERVED);
    checker.require(locator.reserved == 0, at, || {
        format!("must be 0, is {:#x}", locator.reserved)
    });
    let mut keys = BTreeSet::new();
    for (index, pair) in locator.pairs.iter().enumerate() {
        let name = format!("parent_locator.entry[{index}]");
        check_pair(source, &locator, (&name, pair), layout, checker);
        let once = keys.insert(&pair.key);
        let at = (format!("{name}.key"), pair.at, rule(LOCATOR_UNIQUE));
        checker.require(once, (&at.0, at.1, at.2), || {
            format!("'{}' is there twice", pair.key)
        });
    }
    let at = (
        "parent_locator.key_value_count",
        locator.at + 18,
        rule(LOCATOR_LINKAGE),
    );
    let linkage = locator.get(LINKAGES[0]).and_then(guid::parse);
    checker.require(linkage.is_some(), at, || {
        format!("the key '{}' with a GUID is missing", LINKAGES[0])
    });
    let at = (at.0, at.1, rule(LOCATOR_PATH));
    let path = PATHS.iter().any(|key| locator.get(key).is_some());
    checker.require(path, at, || format!("none of the keys {PATHS:?} is there"));
}

fn check_pair(
    source: &Store,
    locator: &Locator,
    (name, pair): (&str, &Pair),
    layout: &Layout,
    checker: &mut Checker,
) {
    let rule = LOCATOR_ENTRY.only_if(layout.has_parent());
    for ((part, shift), (offset, length)) in [("key", 0), ("value", 4)].into_iter().zip(pair.places)
    {
        let inside = offset > 0 && length > 0 && offset + length <= layout.locator_length;
        let path = format!("{name}.{part}_offset");
        checker.require(inside, (&path, pair.at + shift, rule), || {
            format!("the {length} bytes at {offset:#x} are not within the item, or none")
        });
        if !inside {
            continue;
        }
        let bytes = source.read_vec(locator.at + offset, length as usize);
        let units = bytes.chunks_exact(2).map(|unit| Little.number(unit) as u16);
        let decoded = char::decode_utf16(units);
        let text = bytes.len().is_multiple_of(2)
            && decoded
                .into_iter()
                .all(|char| matches!(char, Ok(char) if char != '\0'));
        let path = format!("{name}.{part}");
        checker.require(text, (&path, locator.at + offset, LOCATOR_TEXT), || {
            "must be UTF-16 without zeros".to_owned()
        });
    }
}
