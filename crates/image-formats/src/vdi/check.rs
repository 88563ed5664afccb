//! Checking the rules.

use std::collections::BTreeMap;

use super::layout::{
    DIFFERENCING, DISCARDED, DYNAMIC, HEADER_1_LEN, HEADER_1_PLUS_LEN, HEADER_AT, Layout,
    SIGNATURE, STATIC, VERSION_1_1, ZERO_EXPAND,
};
use super::rules::*;
use crate::checker::Checker;
use crate::defect::Rule;
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// Checks the rules of an image.
pub(super) fn check(source: &Store, checker: &mut Checker) {
    let layout = Layout::read(source);
    let mut header = Header { source, checker };
    header.pre_header(layout);
    header.choices(layout);
    header.geometry(layout);
    header.sizes(layout);
    header.places(layout);
    header.uuids(layout);
    map(source, layout, checker);
}

/// The header while it is checked.
struct Header<'a> {
    source: &'a Store,
    checker: &'a mut Checker,
}

/// The byte offset of a field in the header of version 1 and in that of version 0, where it
/// has it.
type At = (u64, u64);

impl Header<'_> {
    /// The field at `at` must hold a number that is `allowed`, `wanted` in words.
    fn number(
        &mut self,
        (name, offset, rule): (&str, u64, Rule),
        allowed: impl Fn(u64) -> bool,
        wanted: &str,
    ) {
        let is = number(self.source, offset, 4, Little);
        let path = format!("header.{name}");
        self.checker
            .require(allowed(is), (&path, offset, rule), || {
                format!("must be {wanted}, is {is:#x}")
            });
    }

    fn pre_header(&mut self, layout: Layout) {
        let wanted = format!("{SIGNATURE:#x}");
        let signature = ("signature", 64, IS_VDI);
        self.number(signature, |is| is == SIGNATURE.into(), &wanted);
        let version = VERSION.only_if(layout.version >> 16 > 1);
        let known = |is| is == VERSION_1_1 || layout.is_version_0();
        let wanted = "0x10001, or below 0x10000";
        self.number(("version", 68, version), known, wanted);
    }

    fn choices(&mut self, layout: Layout) {
        let at = |(new, old): At| if layout.is_version_0() { old } else { new };
        if !layout.is_version_0() {
            let long = |is| (HEADER_1_LEN..=1 << 16).contains(&is);
            self.number(("header_size", 72, HEADER_SIZE), long, "384 to 65536");
            self.number(("unused1", 364, UNUSED), |is| is == 0, "0");
        }
        let known = |is| (DYNAMIC..=DIFFERENCING).contains(&is);
        let place = ("image_type", at((76, 72)), IMAGE_TYPE);
        self.number(place, known, "1, 2, 3 or 4");
        let place = ("image_flags", at((80, 76)), FLAGS);
        self.number(place, |is| is & !ZERO_EXPAND == 0, "0 or 0x100");
        let description = at((84, 80));
        let text = self.source.read_vec(description, 256);
        let place = ("header.description", description, DESCRIPTION);
        self.checker.require(text.contains(&0), place, || {
            "must be ended by a zero byte".to_owned()
        });
    }

    fn geometry(&mut self, layout: Layout) {
        let first = if layout.is_version_0() { 336 } else { 348 };
        let mut most = |name: &str, offset, most| {
            let wanted = format!("at most {most:#x}");
            self.number((name, offset, GEOMETRY), |is| is <= most, &wanted);
        };
        most("cylinders", first, 0xffff);
        most("heads", first + 4, 255);
        most("sectors", first + 8, 63);
        if layout.is_version_0() || layout.header_size < HEADER_1_PLUS_LEN {
            return;
        }
        most("logical_cylinders", 456, 1024);
        most("logical_heads", 460, 255);
        most("logical_sectors", 464, 63);
        let sector = ("logical_sector_size", 468, GEOMETRY);
        self.number(sector, |is| is == 512 || is == 0, "0x200 or 0");
    }

    fn sizes(&mut self, layout: Layout) {
        let at = |(new, old): At| if layout.is_version_0() { old } else { new };
        let sector = ("sector_size", at((360, 348)), SECTOR_SIZE);
        self.number(sector, |is| is == 512, "0x200");
        let block = ("block_size", at((376, 360)), BLOCK_SIZE);
        let allowed = |is: u64| is.is_power_of_two() && is >= 512;
        self.number(block, allowed, "a power of two, at least 0x200");
        if !layout.is_version_0() {
            let extra = ("block_extra", 380, BLOCK_EXTRA);
            let allowed = |is: u64| is == 0 || is.is_power_of_two();
            self.number(extra, allowed, "0 or a power of two");
        }
        let size = layout.disk_size;
        let disk = ("header.disk_size", at((368, 352)), DISK_SIZE_UNIT);
        self.checker.require(size.is_multiple_of(512), disk, || {
            format!("must be a multiple of 512, is {size}")
        });
        if layout.has_geometry() {
            let most = layout.blocks.saturating_mul(layout.block_size);
            let disk = (disk.0, disk.1, DISK_SIZE);
            self.checker.require(size <= most, disk, || {
                format!("must be at most {most}, which the blocks can hold, is {size}")
            });
        }
    }

    fn places(&mut self, layout: Layout) {
        if layout.is_version_0() {
            let map = ("header.blocks_in_image", 364, MAP_INSIDE);
            let inside = layout.data <= self.source.len();
            self.checker.require(inside, map, || {
                "the block map ends behind the end of the file".to_owned()
            });
            return;
        }
        let aligned = |is: u64| is.is_multiple_of(512);
        let wanted = "a multiple of 0x200";
        self.number(("offset_bmap", 340, MAP_ALIGNED), aligned, wanted);
        self.number(("offset_data", 344, DATA_ALIGNED), aligned, wanted);
        let header = HEADER_AT + HEADER_1_LEN;
        let end = layout.map + layout.blocks * 4;
        let inside = layout.map >= header && end <= self.source.len();
        let map = ("header.offset_bmap", 340, MAP_INSIDE);
        self.checker.require(inside, map, || {
            format!(
                "the block map at {:#x} to {end:#x} is not between the header and the end of \
                 the file",
                layout.map
            )
        });
        let data = ("header.offset_data", 344, DATA_BEHIND);
        let apart = layout.data >= header && layout.data >= end;
        self.checker.require(apart, data, || {
            format!("must be at least {end:#x}, is {:#x}", layout.data)
        });
    }

    fn uuids(&mut self, layout: Layout) {
        let first = if layout.is_version_0() { 372 } else { 392 };
        let mut uuid = |name: &str, offset, rule, fine, text: &str| {
            let path = format!("header.{name}");
            let place = (path.as_str(), offset, rule);
            self.checker.require(fine, place, || text.to_owned());
        };
        let nil = [0; 16];
        uuid("uuid_image", first, UUID, layout.uuid != nil, "is zero");
        let modified = layout.modified != nil;
        uuid("uuid_last_snap", first + 16, UUID, modified, "is zero");
        let text = if layout.has_parent() {
            "is zero in an undo or differencing image"
        } else {
            "must be zero in a dynamic or static image"
        };
        let rule = if layout.has_parent() {
            PARENT
        } else {
            NO_PARENT
        };
        let fits = |uuid: [u8; 16]| (uuid != nil) == layout.has_parent();
        uuid("uuid_link", first + 32, rule, fits(layout.link), text);
        if let Some(parent) = layout.parent {
            uuid("uuid_parent", 440, rule, fits(parent), text);
        }
    }
}

/// Checks the entries of the block map.
fn map(source: &Store, layout: Layout, checker: &mut Checker) {
    if !layout.has_geometry() {
        return;
    }
    let mut users = BTreeMap::new();
    let budget = checker.scope.budget(1 << 20) as usize;
    // What is behind the disk is not looked at: the number of blocks is wrong then.
    let budget = budget.min(layout.blocks_of_disk().unwrap_or(0) as usize);
    let blocks = layout.read_map(source);
    for (index, entry) in blocks.into_iter().enumerate().take(budget) {
        let path = format!("block_map[{index}]");
        let at = layout.map + index as u64 * 4;
        let mut require = |holds, rule, text: String| {
            checker.require(holds, (&path, at, rule), || text);
        };
        if entry >= DISCARDED {
            if layout.image_type == STATIC {
                require(false, STATIC_ALLOCATED, "is not allocated".to_owned());
            }
            continue;
        }
        let end = layout.block_at(entry).saturating_add(layout.block_size);
        if end > source.len() {
            let text = format!("block {entry:#x} ends at {end:#x}, behind the end of the file");
            require(false, BLOCK_INSIDE, text);
        }
        if entry >= layout.blocks {
            let text = format!("must be below {}, the number of blocks", layout.blocks);
            require(false, BLOCK_NUMBER, text);
        }
        if let Some(other) = users.insert(entry, index) {
            let text = format!("block {entry:#x} is that of block_map[{other}] too");
            require(false, ONCE, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use crate::block::{Block, Content};
    use crate::format::{AnyImage, Format};
    use crate::pattern::Pattern;
    use crate::value::Value;
    use crate::vdi::{ImageType, RULES, Spec, build};

    fn image(version: u8, image_type: ImageType) -> AnyImage {
        let block = |index| Block {
            index,
            content: Content::Data(Pattern::Count(index)),
        };
        let differs = image_type == ImageType::Differencing;
        let spec = Spec {
            block_size: 4096,
            virtual_size: 4 * 4096,
            version,
            image_type,
            logical_geometry: version > 0,
            blocks: (0..if differs { 2 } else { 4 }).map(block).collect(),
            parent_seed: differs.then_some(9),
            ..Spec::default()
        };
        let bytes = build(&spec, "i").unwrap().swap_remove(0).bytes;
        AnyImage::open(Arc::new(bytes), Format::Vdi).unwrap()
    }

    fn names(image: &AnyImage) -> BTreeSet<&'static str> {
        let defects = image.defects().unwrap();
        defects.iter().map(|defect| defect.name).collect()
    }

    /// Each rule, broken by one field.
    #[test]
    fn every_rule_is_noticed() {
        let mut all = BTreeSet::new();
        let nil = Value::from(&[0; 16][..]);
        let set = Value::from(&[1; 16][..]);
        let fixed: [(&str, Value, &str); 34] = [
            ("header.signature", 0.into(), "signature"),
            ("header.version", 0x20000.into(), "version"),
            ("header.version", 0x10002.into(), "version"),
            ("header.header_size", 383.into(), "header-size"),
            ("header.header_size", (1 << 20).into(), "header-size"),
            ("header.image_type", 0.into(), "image-type"),
            ("header.image_type", 5.into(), "image-type"),
            ("header.image_flags", 1.into(), "image-flags"),
            (
                "header.description",
                Value::from(&[b'x'; 256][..]),
                "description",
            ),
            ("header.offset_bmap", 1025.into(), "block-map-aligned"),
            ("header.offset_bmap", 0.into(), "block-map-inside-file"),
            (
                "header.offset_bmap",
                (1 << 30).into(),
                "block-map-inside-file",
            ),
            ("header.offset_data", 1025.into(), "data-aligned"),
            ("header.offset_data", 512.into(), "data-behind-block-map"),
            ("header.cylinders", (1 << 16).into(), "geometry"),
            ("header.heads", 256.into(), "geometry"),
            ("header.sectors", 64.into(), "geometry"),
            ("header.logical_cylinders", 1025.into(), "geometry"),
            ("header.logical_heads", 256.into(), "geometry"),
            ("header.logical_sectors", 64.into(), "geometry"),
            ("header.logical_sector_size", 1.into(), "geometry"),
            ("header.sector_size", 4096.into(), "sector-size"),
            ("header.unused1", 1.into(), "unused"),
            ("header.disk_size", 513.into(), "disk-size-unit"),
            ("header.disk_size", (4 * 4096 + 512).into(), "disk-size"),
            ("header.block_size", 0.into(), "block-size"),
            ("header.block_size", 4097.into(), "block-size"),
            ("header.block_extra", 3.into(), "block-extra"),
            // Was no defect.
            ("header.blocks_in_image", 9999.into(), "blocks-in-image"),
            ("header.blocks_allocated", 3.into(), "blocks-allocated"),
            ("header.uuid_image", nil.clone(), "uuid"),
            ("header.uuid_last_snap", nil.clone(), "uuid"),
            ("header.uuid_link", set.clone(), "no-parent"),
            ("header.uuid_parent", set, "no-parent"),
        ];
        let entries: [(&str, Value, &str); 4] = [
            ("block_map[1]", 0xffff_ffff.into(), "static-allocated"),
            ("block_map[1]", 3.into(), "referenced-once"),
            ("block_map[1]", 4.into(), "block-number"),
            ("block_map[1]", 4.into(), "block-inside-file"),
        ];
        let differencing: [(&str, Value, &str); 2] = [
            ("header.uuid_link", nil.clone(), "parent"),
            ("header.uuid_parent", nil.clone(), "parent"),
        ];
        let old: [(&str, Value, &str); 3] = [
            (
                "header.blocks_in_image",
                9999.into(),
                "block-map-inside-file",
            ),
            ("header.uuid_image", nil, "uuid"),
            ("header.image_type", 9.into(), "image-type"),
        ];
        let cases = [
            (1, ImageType::Static, fixed.to_vec()),
            (1, ImageType::Static, entries.to_vec()),
            (1, ImageType::Differencing, differencing.to_vec()),
            (0, ImageType::Dynamic, old.to_vec()),
        ];
        for (version, image_type, broken) in cases {
            let valid = image(version, image_type);
            assert_eq!(valid.defects().unwrap(), []);
            for (path, value, rule) in broken {
                let mut image = valid.clone();
                image.set(path, value.clone()).unwrap();
                let found = names(&image);
                assert!(found.contains(rule), "{path} = {value}: {found:?}");
                all.insert(rule);
            }
        }
        assert_eq!(all, RULES.iter().map(|rule| rule.name).collect());
    }

    #[test]
    fn counts_are_recomputed() {
        let mut image = image(1, ImageType::Static);
        image.set("header.blocks_in_image", 9999).unwrap();
        image.set("block_map[3]", 0xffff_fffe).unwrap();
        image.recompute(&[crate::Derivation::Value]);
        assert_eq!(names(&image), BTreeSet::from(["static-allocated"]));
        let allocated = image.field("header.blocks_allocated").unwrap().value;
        assert_eq!(allocated, 3.into());
    }
}
