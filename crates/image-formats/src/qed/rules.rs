//! The rules of the format.

use std::collections::BTreeMap;

use super::layout::{BACKING_FILE, KNOWN_FEATURES, Layout, MAGIC, ZERO, sections};
use crate::checker::{Checker, rules};
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

rules! {
    /// The image begins with the magic bytes.
    IS_QED = Must, sections::HEADER, "magic";
    /// The cluster size is a power of two, 4 KiB to 64 MiB.
    CLUSTER_SIZE = Must, sections::HEADER, "cluster-size";
    /// The tables have 1, 2, 4, 8 or 16 clusters.
    TABLE_SIZE = Must, sections::HEADER, "table-size";
    /// The header has at least one cluster.
    HEADER_SIZE = Should, sections::HEADER, "header-size";
    /// No unknown incompatible feature is set.
    FEATURES = Must, sections::HEADER, "features";
    /// The L1 table begins with a cluster.
    L1_ALIGNED = Must, sections::HEADER, "l1-table-aligned";
    /// The L1 table is within the file, and not in the header.
    L1_INSIDE = Must, sections::CHECKING, "l1-table-inside-file";
    /// The disk consists of sectors.
    IMAGE_SIZE_UNIT = Must, sections::HEADER, "image-size-unit";
    /// The tables can map the disk.
    IMAGE_SIZE = Must, sections::TABLES, "image-size";
    /// The name of the backing file is within the header.
    NAME_INSIDE = Must, sections::HEADER, "backing-name-inside-header";
    /// An L2 table begins with a cluster.
    L2_ALIGNED = Must, sections::TABLES, "l2-table-aligned";
    /// An L2 table is within the file, and not in the header.
    L2_INSIDE = Must, sections::CHECKING, "l2-table-inside-file";
    /// A data cluster begins with a cluster.
    CLUSTER_ALIGNED = Must, sections::TABLES, "cluster-aligned";
    /// A data cluster is within the file.
    CLUSTER_INSIDE = Should, sections::CHECKING, "cluster-inside-file";
    /// A cluster is referenced once.
    ONCE = Should, sections::CHECKING, "referenced-once";
}

/// The most entries of L2 tables that are looked at.
const ENTRIES: u64 = 1 << 20;

/// Checks the rules of an image.
pub(super) fn check(source: &Store, checker: &mut Checker) {
    let layout = Layout::read(source);
    header(source, layout, checker);
    if layout.has_geometry() {
        tables(source, layout, checker);
    }
}

fn header(source: &Store, layout: Layout, checker: &mut Checker) {
    let magic = source.read_vec(0, 4);
    checker.require(magic == MAGIC, ("header.magic", 0, IS_QED), || {
        format!("must be QED and a zero byte, is {}", magic.escape_ascii())
    });
    let size = layout.cluster_size;
    let allowed = size.is_power_of_two() && (1 << 12..=1 << 26).contains(&size);
    checker.require(allowed, ("header.cluster_size", 4, CLUSTER_SIZE), || {
        format!("must be a power of two from 4096 to 67108864, is {size}")
    });
    let tables = layout.table_size;
    let allowed = tables.is_power_of_two() && tables <= 16;
    checker.require(allowed, ("header.table_size", 8, TABLE_SIZE), || {
        format!("must be 1, 2, 4, 8 or 16, is {tables}")
    });
    let at = ("header.header_size", 12, HEADER_SIZE);
    checker.require(layout.header_size > 0, at, || {
        "must be at least 1, is 0".to_owned()
    });
    let unknown = layout.features & !KNOWN_FEATURES;
    checker.require(unknown == 0, ("header.features", 16, FEATURES), || {
        format!("must have bits 0 to 2 only, has {unknown:#x}")
    });
    let image_size = layout.image_size;
    let unit = ("header.image_size", 48, IMAGE_SIZE_UNIT);
    checker.require(image_size.is_multiple_of(512), unit, || {
        format!("must be a multiple of 512, is {image_size}")
    });
    if layout.has_geometry() {
        let most = u128::from(layout.entries()).pow(2) * u128::from(size);
        let at = ("header.image_size", 48, IMAGE_SIZE);
        checker.require(u128::from(image_size) <= most, at, || {
            format!("must be at most {most}, which the tables can map, is {image_size}")
        });
    }
    if layout.features & BACKING_FILE != 0 {
        let end = layout.name_at + layout.name_len;
        let header = size.saturating_mul(layout.header_size);
        let at = ("header.backing_filename_offset", 56, NAME_INSIDE);
        checker.require(end <= header, at, || {
            format!("the name ends at {end}, behind the header of {header} bytes")
        });
    }
}

/// A table at `offset` must be aligned and inside the file; whether it can be read.
fn table(
    source: &Store,
    layout: Layout,
    (path, at, offset): (&str, u64, u64),
    [aligned, inside]: [crate::defect::Rule; 2],
    checker: &mut Checker,
) -> bool {
    let is_aligned = offset.is_multiple_of(layout.cluster_size);
    checker.require(is_aligned, (path, at, aligned), || {
        format!("must be a multiple of the cluster size, is {offset:#x}")
    });
    let header = layout.cluster_size.saturating_mul(layout.header_size);
    let end = offset.checked_add(layout.entries() * 8);
    let is_inside = offset >= header.max(1) && end.is_some_and(|end| end <= source.len());
    checker.require(is_inside || !is_aligned, (path, at, inside), || {
        format!("the table at {offset:#x} is not between the header and the end of the file")
    });
    is_aligned && is_inside
}

fn tables(source: &Store, layout: Layout, checker: &mut Checker) {
    let at = ("header.l1_table_offset", 40, layout.l1);
    if !table(source, layout, at, [L1_ALIGNED, L1_INSIDE], checker) {
        return;
    }
    let mut users = Users::default();
    users.add(
        layout.l1,
        layout.table_size,
        layout,
        "header.l1_table_offset",
        40,
        checker,
    );
    let entries = layout.entries();
    let mut budget = checker.scope.budget(ENTRIES);
    for l1 in 0..entries {
        let at = layout.l1 + l1 * 8;
        let offset = number(source, at, 8, Little);
        if offset == 0 {
            continue;
        }
        let path = format!("l1[{l1}]");
        let rules = [L2_ALIGNED, L2_INSIDE];
        if !table(source, layout, (&path, at, offset), rules, checker) {
            continue;
        }
        users.add(offset, layout.table_size, layout, &path, at, checker);
        for l2 in 0..entries.min(budget) {
            let at = offset + l2 * 8;
            let cluster = number(source, at, 8, Little);
            if cluster != 0 && cluster != ZERO {
                let path = format!("l2[{l1}].entry[{l2}]");
                data(source, layout, (&path, at, cluster), &mut users, checker);
            }
        }
        budget = budget.saturating_sub(entries);
        if budget == 0 {
            return;
        }
    }
}

fn data(
    source: &Store,
    layout: Layout,
    (path, at, offset): (&str, u64, u64),
    users: &mut Users,
    checker: &mut Checker,
) {
    let aligned = offset.is_multiple_of(layout.cluster_size);
    checker.require(aligned, (path, at, CLUSTER_ALIGNED), || {
        format!("must be a multiple of the cluster size, is {offset:#x}")
    });
    let inside = offset < source.len() && offset / layout.cluster_size >= layout.header_size;
    checker.require(inside, (path, at, CLUSTER_INSIDE), || {
        format!("the cluster at {offset:#x} is not between the header and the end of the file")
    });
    if aligned && inside {
        users.add(offset, 1, layout, path, at, checker);
    }
}

/// Which field refers to each cluster.
#[derive(Default)]
struct Users(BTreeMap<u64, String>);

impl Users {
    /// Notes that the field at `path` refers to `count` clusters from byte `offset` on.
    fn add(
        &mut self,
        offset: u64,
        count: u64,
        layout: Layout,
        path: &str,
        at: u64,
        checker: &mut Checker,
    ) {
        let first = offset / layout.cluster_size;
        for cluster in first..first + count {
            match self.0.get(&cluster) {
                Some(other) => checker.require(false, (path, at, ONCE), || {
                    let offset = cluster * layout.cluster_size;
                    format!("the cluster at {offset:#x} belongs to {other} too")
                }),
                None => drop(self.0.insert(cluster, path.to_owned())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::block::{Block, Content};
    use crate::format::{AnyImage, Format};
    use crate::pattern::Pattern;
    use crate::qed::{Backing, Spec, build};

    fn image() -> AnyImage {
        let block = |index| Block {
            index,
            content: Content::Data(Pattern::Count(index)),
        };
        let spec = Spec {
            blocks: vec![block(0), block(5)],
            backing: Some(Backing {
                name: "base.img".into(),
                raw: true,
            }),
            ..Spec::default()
        };
        let bytes = build(&spec, "i").unwrap().swap_remove(0).bytes;
        AnyImage::open(Arc::new(bytes), Format::Qed).unwrap()
    }

    /// Each rule, broken by one field.
    #[test]
    fn every_rule_is_noticed() {
        assert_eq!(image().defects().unwrap(), []);
        let size = image().bytes_mut().clone();
        let end = crate::io::ReadAt::len(&size);
        for (path, value, rule) in [
            ("header.cluster_size", 4097, "cluster-size"),
            ("header.cluster_size", 0, "cluster-size"),
            ("header.table_size", 32, "table-size"),
            ("header.header_size", 0, "header-size"),
            ("header.features", 9, "features"),
            ("header.l1_table_offset", 4100, "l1-table-aligned"),
            ("header.l1_table_offset", end, "l1-table-inside-file"),
            ("header.image_size", 513, "image-size-unit"),
            ("header.image_size", 1 << 50, "image-size"),
            (
                "header.backing_filename_size",
                8192,
                "backing-name-inside-header",
            ),
            ("l1[0]", 4100, "l2-table-aligned"),
            ("l1[0]", end, "l2-table-inside-file"),
            ("l2[0].entry[0]", 4100, "cluster-aligned"),
            ("l2[0].entry[0]", end, "cluster-inside-file"),
            ("l2[0].entry[1]", 4096, "referenced-once"),
        ] {
            let mut image = image();
            image.set(path, value).unwrap();
            let defects = image.defects().unwrap();
            let found = defects.iter().any(|defect| defect.name == rule);
            assert!(found, "{path} = {value}: {defects:?}");
        }
        let mut image = image();
        image.set("header.magic", "QED!").unwrap();
        assert_eq!(image.defects().unwrap()[0].name, "magic");
    }
}
