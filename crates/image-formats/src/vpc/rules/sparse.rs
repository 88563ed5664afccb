//! Rules of the dynamic header.

use super::table::{
    BLOCK_SIZE, DYNAMIC_DATA_OFFSET, DYNAMIC_RESERVED, DYNAMIC_VERSION, LOCATOR_CODE,
    LOCATOR_INSIDE, LOCATOR_RESERVED, PARENT_NAME, PARENT_UUID, TABLE_ALIGNED, TABLE_ENTRIES,
    TABLE_INSIDE,
};
use crate::checker::Checker;
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Big;
use crate::vpc::layout::{DIFFERENCING, Dynamic, Layout, SECTOR};
use crate::vpc::locator::{self, KNOWN};

pub(super) fn check(source: &Store, layout: &Layout, dynamic: &Dynamic, checker: &mut Checker) {
    let at = dynamic.at;
    let next = number(source, at + 8, 8, Big);
    let unused = matches!(next, u64::MAX | 0xffff_ffff);
    let place = ("dynamic.data_offset", at + 8, DYNAMIC_DATA_OFFSET);
    checker.require(unused, place, || format!("must be all ones, is {next:#x}"));
    let major = dynamic.version >> 16;
    checker.require(
        major == 1,
        ("dynamic.version", at + 24, DYNAMIC_VERSION),
        || format!("must be 0x10000, is {:#x}", dynamic.version),
    );
    let size = dynamic.block_size;
    let place = ("dynamic.block_size", at + 32, BLOCK_SIZE);
    checker.require(dynamic.has_geometry(), place, || {
        format!("must be a power of two of at least 512, is {size}")
    });
    let (entries, disk) = (dynamic.entries, layout.disk_size());
    let place = ("dynamic.max_table_entries", at + 28, TABLE_ENTRIES);
    let enough = disk <= entries.saturating_mul(size);
    checker.require(enough || !dynamic.has_geometry(), place, || {
        format!("must be at least {}, is {entries}", disk.div_ceil(size))
    });
    let table = dynamic.table;
    let end = table.checked_add(entries.saturating_mul(4));
    let inside = end.is_some_and(|end| end <= source.len());
    let place = ("dynamic.table_offset", at + 16, TABLE_INSIDE);
    checker.require(inside, place, || {
        format!("the table of {entries} entries at {table:#x} is not within the file")
    });
    let place = ("dynamic.table_offset", at + 16, TABLE_ALIGNED);
    checker.require(table.is_multiple_of(SECTOR), place, || {
        format!("must be a multiple of 512, is {table:#x}")
    });
    for (field, offset, len) in [("reserved", 60, 4), ("reserved2", 768, 256)] {
        let zeros = source
            .read_vec(at + offset, len)
            .iter()
            .all(|byte| *byte == 0);
        let path = format!("dynamic.{field}");
        checker.require(zeros, (&path, at + offset, DYNAMIC_RESERVED), || {
            "must be zeros".to_owned()
        });
    }
    parent(source, layout, dynamic, checker);
}

fn parent(source: &Store, layout: &Layout, dynamic: &Dynamic, checker: &mut Checker) {
    for locator in locator::read(source, dynamic) {
        let path = |field: &str| format!("dynamic.parent_locator[{}].{field}", locator.index);
        let (code, at) = (locator.code, locator.at);
        let known = KNOWN.contains(&&code);
        checker.require(known, (&path("platform_code"), at, LOCATOR_CODE), || {
            format!("'{}' is not known", code.escape_ascii())
        });
        let reserved = locator.reserved;
        checker.require(
            reserved == 0,
            (&path("reserved"), at + 12, LOCATOR_RESERVED),
            || format!("must be 0, is {reserved:#x}"),
        );
        let (offset, length) = (locator.offset, locator.whole_length);
        let end = offset.checked_add(length);
        let inside = end.is_some_and(|end| end <= source.len());
        checker.require(
            inside,
            (&path("platform_data_offset"), at + 16, LOCATOR_INSIDE),
            || format!("the {length} bytes at {offset:#x} are not within the file"),
        );
        let space = locator.space_bytes();
        checker.require(
            length <= space,
            (&path("platform_data_length"), at + 8, LOCATOR_INSIDE),
            || format!("must be at most {space}, is {length}"),
        );
    }
    if layout.kind() != DIFFERENCING {
        return;
    }
    let named = !locator::names(source, layout).is_empty();
    let place = ("dynamic.parent_name", dynamic.at + 64, PARENT_NAME);
    checker.require(named, place, || {
        "neither it nor a locator names the parent".to_owned()
    });
    let identified = dynamic.parent_uuid != [0; 16];
    let place = ("dynamic.parent_uuid", dynamic.at + 40, PARENT_UUID);
    checker.require(identified, place, || "must not be zeros".to_owned());
}
