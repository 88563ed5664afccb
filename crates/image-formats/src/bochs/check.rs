//! Checking the rules.

use std::collections::BTreeMap;

use super::layout::{
    GROWING, HEADER_LEN, Layout, MAGIC, REDOLOGS, SECTOR, TYPE, UNALLOCATED, VERSION_1, VERSION_2,
};
use super::rules::*;
use crate::checker::Checker;
use crate::defect::Rule;
use crate::io::ReadAt as _;
use crate::store::Store;

/// Checks the rules of an image.
pub(super) fn check(source: &Store, checker: &mut Checker) {
    let layout = Layout::read(source);
    texts(source, checker);
    header(source, layout, checker);
    if layout.has_geometry() {
        catalog(source, layout, checker);
    }
}

fn texts(source: &Store, checker: &mut Checker) {
    let mut text = |name: &str, (at, len): (u64, usize), rule: Rule, known: &[&[u8]]| {
        let is = source.read_vec(at, len);
        let end = is.iter().position(|byte| *byte == 0).unwrap_or(len);
        let path = format!("header.{name}");
        let fits = known.contains(&&is[..end]) && end < len;
        checker.require(fits, (&path, at, rule), || {
            let known: Vec<String> = known.iter().map(|k| k.escape_ascii().to_string()).collect();
            let is = is[..end].escape_ascii();
            format!("must be {}, is {is}", known.join(" or "))
        });
    };
    text("magic", (0, 32), IS_BOCHS, &[MAGIC]);
    text("type", (32, 16), super::rules::TYPE, &[TYPE]);
    let subtypes = [GROWING, REDOLOGS[0], REDOLOGS[1]];
    text("subtype", (48, 16), SUBTYPE, &subtypes);
}

fn header(source: &Store, layout: Layout, checker: &mut Checker) {
    let mut require = |name: &str, at, rule, holds, text: String| {
        let path = format!("header.{name}");
        checker.require(holds, (&path, at, rule), || text);
    };
    let version = layout.version;
    let text = format!("must be 0x10000 or 0x20000, is {version:#x}");
    let known = version == VERSION_1 || version == VERSION_2;
    require("version", 64, VERSION, known, text);
    let header = layout.catalog_at;
    let text = format!("must be at least 512, is {header}");
    require("header", 68, HEADER_SIZE, header >= HEADER_LEN, text);
    let (entries, end) = (layout.catalog, layout.extents());
    let text = format!("the catalog ends at {end:#x}, behind the end of the file");
    let inside = end <= source.len();
    require("catalog", 72, CATALOG_INSIDE, inside, text);
    let (extent, bitmap) = (layout.extent, layout.bitmap);
    let allowed = layout.has_geometry()
        || bitmap == 0
            && Layout {
                bitmap: 1,
                ..layout
            }
            .has_geometry();
    let text = format!("must be a power of two from 512 to 8388608, is {extent}");
    require("extent", 80, EXTENT_SIZE, allowed, text);
    let disk = layout.disk;
    let text = format!("must be a multiple of 512, at least 512, is {disk}");
    let sectors = disk.is_multiple_of(SECTOR) && disk > 0;
    require("disk", layout.disk_field, DISK_SIZE, sectors, text);
    if allowed {
        let wanted = disk.div_ceil(extent);
        let text = format!("must be at least {wanted} for the disk, is {entries}");
        require("catalog", 72, CATALOG_SIZE, entries >= wanted, text);
        let wanted = layout.sectors().div_ceil(8);
        let text = format!("must be at least {wanted}, is {bitmap}");
        require("bitmap", 76, BITMAP_SIZE, bitmap >= wanted, text);
    }
}

fn catalog(source: &Store, layout: Layout, checker: &mut Checker) {
    let mut users = BTreeMap::new();
    let entries = layout.read_catalog(source);
    // What is behind the disk has no meaning.
    let extents = layout.disk.div_ceil(layout.extent);
    let all = checker.scope.budget(1 << 20);
    for (index, entry) in (0..extents.min(all)).zip(&entries) {
        if *entry == UNALLOCATED {
            continue;
        }
        let (path, at) = (format!("catalog[{index}]"), layout.catalog_at + index * 4);
        let end = layout.bitmap_at(*entry).saturating_add(layout.stored());
        let place = (path.as_str(), at, EXTENT_INSIDE);
        checker.require(end <= source.len(), place, || {
            format!("extent {entry:#x} ends at {end:#x}, behind the end of the file")
        });
        if let Some(other) = users.insert(*entry, index) {
            checker.require(false, (&path, at, ONCE), || {
                format!("extent {entry:#x} is that of catalog[{other}] too")
            });
        }
    }
    if extents > entries.len() as u64 {
        return;
    }
    // A bounded number of them is listed.
    let room = source.len().saturating_sub(layout.extents());
    let mut next = 0;
    for entry in users.into_keys().chain([room / layout.stored()]) {
        if entry > next {
            let at = layout.bitmap_at(next);
            checker.require(false, ("image", at, LEAKED), || {
                let count = entry - next;
                format!("{count} extents from number {next:#x} on are not referenced")
            });
        }
        next = next.max(entry + 1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use crate::block::{Block, Content};
    use crate::bochs::{RULES, Spec, build};
    use crate::format::{AnyImage, Format};
    use crate::pattern::Pattern;
    use crate::value::Value;

    fn image(version: u8) -> AnyImage {
        let block = |index| Block {
            index,
            content: Content::Data(Pattern::Count(index)),
        };
        let spec = Spec {
            version,
            virtual_size: 10 * 8192,
            extent_size: 8192,
            blocks: vec![block(0), block(5)],
            ..Spec::default()
        };
        let bytes = build(&spec, "i").unwrap().swap_remove(0).bytes;
        AnyImage::open(Arc::new(bytes), Format::Bochs).unwrap()
    }

    /// Each rule, broken by one field.
    #[test]
    fn every_rule_is_noticed() {
        let mut all = BTreeSet::new();
        let cases: [(&str, Value, &str); 23] = [
            ("header.magic", "Bochs".into(), "magic"),
            ("header.type", "Redo".into(), "type"),
            ("header.subtype", "Shrinking".into(), "subtype"),
            ("header.version", 0x30000.into(), "version"),
            ("header.header", 511.into(), "header-size"),
            ("header.header", 0xffff_ffff.into(), "catalog-inside-file"),
            ("header.catalog", 0xffff_ffff.into(), "catalog-inside-file"),
            // Was no defect: too small for the disk.
            ("header.catalog", 5.into(), "catalog-size"),
            ("header.bitmap", 0.into(), "bitmap-size"),
            ("header.bitmap", 1.into(), "bitmap-size"),
            ("header.bitmap", 0xffff_ffff.into(), "extent-inside-file"),
            ("header.extent", 0.into(), "extent-size"),
            ("header.extent", 256.into(), "extent-size"),
            ("header.extent", 8193.into(), "extent-size"),
            ("header.extent", (1 << 24).into(), "extent-size"),
            ("header.extent", 4096.into(), "catalog-size"),
            ("header.disk", 0.into(), "disk-size"),
            ("header.disk", 1000.into(), "disk-size"),
            ("header.disk", u64::MAX.into(), "catalog-size"),
            ("catalog[1]", 0.into(), "referenced-once"),
            ("catalog[1]", 2.into(), "extent-inside-file"),
            ("catalog[1]", 0xffff_fffe.into(), "extent-inside-file"),
            ("catalog[0]", 0xffff_ffff.into(), "leaked"),
        ];
        for version in [1, 2] {
            let valid = image(version);
            assert_eq!(valid.defects().unwrap(), []);
            for (path, value, rule) in &cases {
                let mut image = valid.clone();
                image.set(path, value.clone()).unwrap();
                let defects = image.defects().unwrap();
                let found = defects.iter().any(|defect| defect.name == *rule);
                assert!(found, "{path} = {value}: {defects:?}");
                all.insert(*rule);
            }
        }
        assert_eq!(all, RULES.iter().map(|rule| rule.name).collect());
    }
}
