//! Checking the rules.

use std::collections::BTreeMap;

use super::extension::{self, BITMAP_LEN, DIRTY_BITMAP, END, FEATURE_LEN, FeatureAt};
use super::layout::{self, BAT_AT, CLOSED, Layout, MAGIC, MAGIC_EXT, SECTOR};
use super::rules::*;
use crate::checker::{Checker, Scope};
use crate::defect::Rule;
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// Checks the rules of an image.
pub(super) fn check(source: &Store, checker: &mut Checker) {
    let layout = Layout::read(source);
    header(source, layout, checker);
    sizes(source, layout, checker);
    data_area(source, layout, checker);
    if layout.tracks == 0 {
        return;
    }
    let mut clusters = Clusters {
        len: source.len(),
        layout,
        checker,
        users: BTreeMap::new(),
        regular: true,
    };
    let all = clusters.bat(source);
    clusters.extension(source);
    if all {
        clusters.leaks();
    }
}

fn header(source: &Store, layout: Layout, checker: &mut Checker) {
    let at = |offset| number(source, offset, 4, Little);
    let magic = source.read_vec(0, 16);
    let known = magic == MAGIC || magic == MAGIC_EXT;
    checker.require(known, ("header.magic", 0, IS_PARALLELS), || {
        let is = magic.escape_ascii();
        format!("must be WithoutFreeSpace or WithouFreSpacExt, is {is}")
    });
    let version = at(16);
    checker.require(version == 2, ("header.version", 16, VERSION), || {
        format!("must be 2, is {version}")
    });
    let tracks = layout.tracks;
    checker.require(tracks > 0, ("header.tracks", 28, TRACKS), || {
        "must be at least 1, is 0".to_owned()
    });
    let in_use = at(44);
    let known = [0, layout::IN_USE, CLOSED].contains(&in_use);
    checker.require(known, ("header.inuse", 44, IN_USE), || {
        format!("must be 0x746f6e59, 0x312e3276 or 0, is {in_use:#x}")
    });
    let unknown = layout.flags & !layout::EMPTY;
    checker.require(unknown == 0, ("header.flags", 52, FLAGS), || {
        format!("must have bit 0 only, has {unknown:#x}")
    });
}

fn sizes(source: &Store, layout: Layout, checker: &mut Checker) {
    let high = layout.sectors_field >> 32;
    let place = ("header.nb_sectors", 36, DISK_SIZE_HIGH);
    checker.require(high == 0 || layout.ext, place, || {
        let is = layout.sectors_field;
        format!("must be below 0x100000000 with this magic, is {is:#x}")
    });
    let entries = layout.bat_entries;
    let end = BAT_AT + entries * 4;
    let place = ("header.bat_entries", 32, BAT_INSIDE);
    checker.require(end <= source.len(), place, || {
        format!("the BAT ends at {end:#x}, behind the end of the file")
    });
    let Some(wanted) = layout.clusters_of_disk() else {
        return;
    };
    let place = ("header.nb_sectors", 36, DISK_SIZE);
    checker.require(wanted <= entries, place, || {
        let sectors = layout.sectors();
        format!("{sectors} sectors are {wanted} clusters, the BAT has {entries} entries")
    });
    let place = ("header.bat_entries", 32, BAT_ENTRIES);
    checker.require(entries <= wanted, place, || {
        format!("must be {wanted}, the clusters of the disk, is {entries}")
    });
}

fn data_area(source: &Store, layout: Layout, checker: &mut Checker) {
    let (is, first) = (layout.data_field, layout.first_data());
    let place = ("header.data_off", 48, DATA_INSIDE);
    let inside = is >= first && is <= source.len() / SECTOR;
    checker.require(inside || (is == 0 && !layout.ext), place, || {
        let last = source.len() / SECTOR;
        format!("must be {first}, behind the BAT, to {last}, the end of the file, is {is}")
    });
    let aligned = is.checked_rem(layout.tracks).unwrap_or(0) == 0;
    let place = ("header.data_off", 48, DATA_ALIGNED);
    checker.require(aligned || !layout.ext, place, || {
        format!("must be a multiple of {} sectors, is {is}", layout.tracks)
    });
}

/// The clusters of the file, while it is found out what they belong to.
struct Clusters<'a> {
    len: u64,
    layout: Layout,
    checker: &'a mut Checker,
    /// Which field refers to the cluster at a byte offset.
    users: BTreeMap<u64, String>,
    /// Whether all of them are in the data area and aligned.
    regular: bool,
}

impl Clusters<'_> {
    /// Notes that the field at `path` refers to the cluster at byte `offset`; whether that is
    /// within the file.
    fn refer(&mut self, (path, at): (&str, u64), offset: u64, inside: Rule) -> bool {
        let (data, size) = (self.layout.data(), self.layout.cluster_size());
        let end = offset.saturating_add(size);
        let is_inside = end <= self.len;
        self.checker.require(is_inside, (path, at, inside), || {
            format!("the cluster ends at {end:#x}, behind the end of the file")
        });
        let behind = offset >= data;
        let place = (path, at, CLUSTER_IN_DATA);
        self.checker.require(behind, place, || {
            format!("the cluster at {offset:#x} is before the data area at {data:#x}")
        });
        let aligned = offset.saturating_sub(data).is_multiple_of(size);
        let place = (path, at, CLUSTER_ALIGNED);
        self.checker.require(aligned, place, || {
            format!("the cluster at {offset:#x} is no multiple of {size:#x} behind {data:#x}")
        });
        self.regular &= behind && aligned;
        if let Some(other) = self.users.insert(offset, path.to_owned()) {
            self.checker.require(false, (path, at, ONCE), || {
                format!("the cluster at {offset:#x} belongs to {other} too")
            });
        }
        is_inside
    }

    /// Checks the BAT; whether that was all of it.
    fn bat(&mut self, source: &Store) -> bool {
        let bat = self.layout.read_bat(source);
        let empty = self.layout.flags & layout::EMPTY == 0 || bat.iter().all(|e| *e == 0);
        let place = ("header.flags.empty", 52, EMPTY);
        self.checker.require(empty, place, || {
            "the image is marked as empty and has clusters".to_owned()
        });
        // What is behind the disk is not looked at: the number of entries is wrong then.
        let clusters = self.layout.clusters_of_disk().unwrap_or(0);
        let budget = match self.checker.scope {
            Scope::All | Scope::Tables | Scope::Header => clusters,
            Scope::Binding => 0,
        };
        for (index, entry) in (0..budget).zip(&bat) {
            if *entry != 0 {
                let (path, at) = (format!("bat[{index}]"), BAT_AT + index * 4);
                let offset = self.layout.cluster_at(*entry);
                self.refer((&path, at), offset, CLUSTER_INSIDE);
            }
        }
        bat.len() as u64 == clusters && budget == clusters
    }

    fn extension(&mut self, source: &Store) {
        if self.layout.extension == 0 {
            return;
        }
        let offset = self.layout.extension.saturating_mul(SECTOR);
        if !self.refer(("header.ext_off", 56), offset, EXTENSION_INSIDE) {
            return;
        }
        let magic = number(source, offset, 8, Little);
        let place = ("ext.magic", offset, EXTENSION_MAGIC);
        self.checker.require(magic == extension::MAGIC, place, || {
            format!("must be {:#x}, is {magic:#x}", extension::MAGIC)
        });
        let features = extension::features(source, self.layout);
        for (index, feature) in features.iter().enumerate() {
            self.feature(source, &format!("ext.feature[{index}]"), *feature);
        }
        let last = features.last().is_none_or(|feature| feature.magic == END);
        let path = format!("ext.feature[{}].magic", features.len().saturating_sub(1));
        let at = features.last().map_or(offset, |feature| feature.at);
        let fits = features.last().is_some_and(|feature| feature.inside);
        let place = (path.as_str(), at, END_OF_FEATURES);
        self.checker.require(last || !fits, place, || {
            "the features are not ended by one of zeros".to_owned()
        });
    }

    fn feature(&mut self, source: &Store, name: &str, feature: FeatureAt) {
        let at = |offset, bytes| number(source, feature.at + offset, bytes, Little);
        let mut require = |field: &str, offset, rule, holds, text: String| {
            let path = format!("{name}.{field}");
            let place = (path.as_str(), feature.at + offset, rule);
            self.checker.require(holds, place, || text);
        };
        let flags = at(8, 8);
        if feature.magic == END {
            let zeros = flags == 0 && feature.data_size == 0;
            let text = "the feature that ends them must be all zeros".to_owned();
            require("flags", 8, UNUSED, zeros, text);
        }
        let text = format!("must have bits 0 and 1 only, has {flags:#x}");
        require("flags", 8, FEATURE_FLAGS, flags & !3 == 0, text);
        let unused = at(20, 4);
        let text = format!("must be 0, is {unused:#x}");
        require("unused", 20, UNUSED, unused == 0, text);
        let text = format!("{} bytes do not fit into the extension", feature.data_size);
        require("data_size", 16, FEATURE_INSIDE, feature.inside, text);
        if feature.magic == DIRTY_BITMAP && feature.inside {
            self.bitmap(source, name, feature);
        }
    }

    fn bitmap(&mut self, source: &Store, name: &str, feature: FeatureAt) {
        let at = |offset, bytes| number(source, feature.at + offset, bytes, Little);
        let (size, granularity, entries) = (at(24, 8), at(48, 4), at(52, 4));
        let mut require = |field: &str, offset, rule, holds, text: String| {
            let path = format!("{name}.{field}");
            let place = (path.as_str(), feature.at + offset, rule);
            self.checker.require(holds, place, || text);
        };
        let fits = feature.data_size >= BITMAP_LEN + entries * 8;
        let text = format!("a table of {entries} entries does not fit into the feature");
        require("l1_size", 52, BITMAP_TABLE_INSIDE, fits, text);
        if feature.data_size < BITMAP_LEN {
            return;
        }
        let sectors = self.layout.sectors();
        let text = format!("must be {sectors}, the sectors of the disk, is {size}");
        require("size", 24, BITMAP_SIZE, size == sectors, text);
        let power = granularity.is_power_of_two();
        let text = format!("must be a power of two, is {granularity}");
        require("granularity", 48, GRANULARITY, power, text);
        if power {
            let wanted = bitmap_clusters(size, granularity, self.layout.cluster_size());
            let text = format!("must be {wanted}, the clusters of the bitmap, is {entries}");
            require("l1_size", 52, BITMAP_TABLE_SIZE, entries == wanted, text);
        }
        if !fits || self.checker.scope == Scope::Binding {
            return;
        }
        for index in 0..entries {
            let at = feature.at + FEATURE_LEN + BITMAP_LEN + index * 8;
            let entry = number(source, at, 8, Little);
            if entry > 1 {
                let path = format!("{name}.l1[{index}]");
                let offset = entry.saturating_mul(SECTOR);
                self.refer((&path, at), offset, CLUSTER_INSIDE);
            }
        }
    }

    /// Looks for clusters of the data area that nothing refers to.
    fn leaks(&mut self) {
        if !self.regular {
            return;
        }
        let size = self.layout.cluster_size();
        let mut next = self.layout.data();
        let users = std::mem::take(&mut self.users);
        for offset in users.into_keys().chain([self.len]) {
            if offset > next {
                let count = (offset - next).div_ceil(size);
                let place = ("image", next, LEAKED);
                self.checker.require(false, place, || {
                    format!("{count} clusters from {next:#x} on are not referenced")
                });
            }
            next = offset.saturating_add(size);
        }
    }
}

/// Clusters that a bitmap of `size` sectors has.
pub(super) fn bitmap_clusters(size: u64, granularity: u64, cluster_size: u64) -> u64 {
    let bits = size.div_ceil(granularity.max(1));
    bits.div_ceil(8).div_ceil(cluster_size.max(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use crate::block::{Block, Content};
    use crate::format::{AnyImage, Format};
    use crate::parallels::{Bitmap, BitmapCluster, Extension, RULES, Spec, build};
    use crate::pattern::Pattern;
    use crate::value::Value;

    fn image(ext: bool) -> AnyImage {
        let block = |index| Block {
            index,
            content: Content::Data(Pattern::Count(index)),
        };
        let bitmap = Bitmap {
            seed: 1,
            granularity: 1,
            clusters: vec![BitmapCluster::Data(Pattern::Fill(1))],
        };
        let spec = Spec {
            ext,
            tracks: 8,
            virtual_size: 20 * 4096,
            blocks: vec![block(0), block(7)],
            extension: Some(Extension {
                bitmaps: vec![bitmap],
                others: Vec::new(),
            }),
            ..Spec::default()
        };
        let bytes = build(&spec, "i").unwrap().swap_remove(0).bytes;
        AnyImage::open(Arc::new(bytes), Format::Parallels).unwrap()
    }

    fn names(image: &AnyImage) -> BTreeSet<&'static str> {
        let defects = image.defects().unwrap();
        defects.iter().map(|defect| defect.name).collect()
    }

    /// Each rule, broken by one field.
    #[test]
    fn every_rule_is_noticed() {
        let valid = image(false);
        assert_eq!(valid.defects().unwrap(), []);
        let cases: [(&str, Value, &str); 38] = [
            ("header.magic", "WithoutFreeSpacX".into(), "magic"),
            ("header.version", 3.into(), "version"),
            // Past faults of QEMU: clusters of no sectors, a BAT that is too large or too
            // small for the disk, offsets that overflow, clusters used twice or past the end.
            ("header.tracks", 0.into(), "tracks"),
            ("header.bat_entries", 0xffff_ffff.into(), "bat-inside-file"),
            ("header.bat_entries", 19.into(), "disk-size"),
            ("header.nb_sectors", 161.into(), "disk-size"),
            ("header.bat_entries", 21.into(), "bat-entries"),
            ("header.nb_sectors", (1 << 32).into(), "disk-size-high"),
            ("header.inuse", 1.into(), "in-use"),
            ("header.data_off", 0xffff_ffff.into(), "data-inside-file"),
            ("header.data_off", 0.into(), "cluster-aligned"),
            ("header.flags", 2.into(), "flags"),
            ("header.flags.empty", 1.into(), "empty"),
            ("header.ext_off", (1 << 55).into(), "extension-inside-file"),
            ("header.ext_off", u64::MAX.into(), "extension-inside-file"),
            ("header.ext_off", 0.into(), "leaked"),
            ("bat[1]", 1.into(), "cluster-in-data-area"),
            ("bat[1]", 32.into(), "referenced-once"),
            ("bat[1]", 40.into(), "cluster-inside-file"),
            ("bat[1]", 25.into(), "cluster-aligned"),
            ("bat[0]", 0.into(), "leaked"),
            ("bat[7]", 0.into(), "leaked"),
            ("ext.magic", 0.into(), "extension-magic"),
            (
                "ext.checksum",
                Value::from(&[0; 16][..]),
                "extension-checksum",
            ),
            ("ext.feature[0].flags", 4.into(), "feature-flags"),
            (
                "ext.feature[0].data_size",
                4096.into(),
                "feature-inside-extension",
            ),
            (
                "ext.feature[0].data_size",
                31.into(),
                "bitmap-table-inside-feature",
            ),
            ("ext.feature[0].data_size", 4032.into(), "end-of-features"),
            ("ext.feature[0].unused", 1.into(), "unused"),
            ("ext.feature[1].flags", 1.into(), "unused"),
            ("ext.feature[1].data_size", 1.into(), "unused"),
            ("ext.feature[0].size", 1.into(), "bitmap-size"),
            ("ext.feature[0].granularity", 0.into(), "bitmap-granularity"),
            ("ext.feature[0].granularity", 3.into(), "bitmap-granularity"),
            (
                "ext.feature[0].l1_size",
                2.into(),
                "bitmap-table-inside-feature",
            ),
            ("ext.feature[0].l1_size", 0.into(), "bitmap-table-size"),
            ("ext.feature[0].l1[0]", 32.into(), "referenced-once"),
            (
                "ext.feature[0].l1[0]",
                (1 << 60).into(),
                "cluster-inside-file",
            ),
        ];
        let mut all = BTreeSet::from(["data-aligned"]);
        for (path, value, rule) in cases {
            let mut image = valid.clone();
            image.set(path, value.clone()).unwrap();
            let found = names(&image);
            assert!(found.contains(rule), "{path} = {value}: {found:?}");
            all.insert(rule);
        }
        assert_eq!(all, RULES.iter().map(|rule| rule.name).collect());
        let valid = image(true);
        assert_eq!(valid.defects().unwrap(), []);
        for (path, value, rule) in [
            ("header.data_off", 9, "data-aligned"),
            ("header.data_off", 0, "data-inside-file"),
            ("bat[1]", 1 << 20, "cluster-inside-file"),
            ("header.nb_sectors", 1 << 40, "disk-size"),
        ] {
            let mut image = valid.clone();
            image.set(path, value).unwrap();
            let found = names(&image);
            assert!(found.contains(rule), "{path} = {value}: {found:?}");
        }
    }

    #[test]
    fn the_checksum_is_recomputed() {
        let mut image = image(true);
        image.set("ext.feature[0].size", 1).unwrap();
        image.recompute(&[crate::Derivation::Checksum]);
        assert!(!names(&image).contains("extension-checksum"));
        // And where the extension is damaged so that it has no features.
        image
            .set("ext.feature[0].data_size", u64::from(u32::MAX))
            .unwrap();
        image.recompute(&[crate::Derivation::Checksum]);
        assert!(!names(&image).contains("extension-checksum"));
    }
}
