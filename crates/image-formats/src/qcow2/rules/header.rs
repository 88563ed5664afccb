//! Rules of the header.

use super::{Checker, table};
use crate::io::ReadAt as _;
use crate::qcow2::header::{
    Autoclear, COMPRESSION_TYPE_AT, Incompatible, MAGIC, MAX_BACKING_NAME, V2_LENGTH, V3_LENGTH,
};
use crate::qcow2::read::layout::TableAt;
use crate::qcow2::types::Geometry;

pub(crate) fn check(checker: &mut Checker<'_>) {
    checker.header();
}

impl Checker<'_> {
    fn header(&mut self) {
        let layout = self.layout;
        let header = &layout.header;
        self.require(
            header.magic == MAGIC,
            ("header.magic", 0, table::MAGIC),
            || format!("must be {MAGIC:#010x}, is {:#010x}", header.magic),
        );
        let version = header.version;
        self.require(
            matches!(version, 2 | 3),
            ("header.version", 4, table::VERSION),
            || format!("must be 2 or 3, is {version}"),
        );
        let length = if version >= 3 { V3_LENGTH } else { V2_LENGTH };
        let len = self.source.len();
        self.require(
            len >= u64::from(length),
            ("header", 0, table::HEADER_INSIDE),
            || format!("the file has {len} bytes, the header needs {length}"),
        );
        let bits = header.cluster_bits;
        let at = |rule| ("header.cluster_bits", 20, rule);
        self.require(bits >= 9, at(table::CLUSTER_BITS), || {
            format!("must be at least 9, is {bits}")
        });
        let extended = header.incompatible.contains(Incompatible::EXTENDED_L2);
        self.require(!extended || bits >= 14, at(table::SUBCLUSTER_SIZE), || {
            format!("must be at least 14 with extended L2 entries, is {bits}")
        });
        self.require(
            bits <= Geometry::MAX_CLUSTER_BITS,
            at(table::CLUSTER_LIMIT),
            || format!("is {bits}; clusters this large are not checked, and QEMU reads up to 21"),
        );
        self.require(
            header.crypt_method <= 2,
            ("header.crypt_method", 32, table::CRYPT_METHOD),
            || format!("must be 0, 1 or 2, is {}", header.crypt_method),
        );
        self.backing();
        if let Some(geometry) = layout.geometry {
            self.header_tables(geometry);
        }
        if version >= 3 {
            self.header_v3();
        }
    }

    fn backing(&mut self) {
        let layout = self.layout;
        let header = &layout.header;
        let (offset, size) = (header.backing_file_offset, header.backing_file_size);
        if offset == 0 {
            return;
        }
        self.require(
            size <= MAX_BACKING_NAME,
            ("header.backing_file_size", 16, table::BACKING_NAME_SIZE),
            || format!("must be at most {MAX_BACKING_NAME}, is {size}"),
        );
        let cluster = layout.geometry.map_or(512, Geometry::cluster_size);
        let end = offset.saturating_add(size.into());
        let at = |rule| ("header.backing_file_offset", 8, rule);
        self.require(end <= cluster, at(table::BACKING_NAME_END), || {
            format!("the name must be within the first cluster, it ends at {end:#x}")
        });
        let behind = offset >= header.header_length.into();
        self.require(behind, at(table::BACKING_NAME_START), || {
            format!("the name is in the header, at {offset:#x}")
        });
    }

    fn header_tables(&mut self, geometry: Geometry) {
        let layout = self.layout;
        let header = &layout.header;
        let needed = geometry.l1_entries_for(header.size);
        let l1_size = u64::from(header.l1_size);
        let at = ("header.l1_size", 36, table::L1_SIZE);
        self.require(l1_size >= needed, at, || {
            format!("must be at least {needed} for the size, is {l1_size}")
        });
        let outside = |table: TableAt| table.offset == 0 && table.declared > 0;
        let (path, at) = ("header.l1_table_offset", 40);
        let rules = [table::L1_TABLE, table::L1_TABLE_INSIDE];
        self.table(layout.l1, geometry, (path, at), rules);
        self.require(!outside(layout.l1), (path, at, rules[1]), || {
            "must not be 0".to_owned()
        });
        let (path, at) = ("header.refcount_table_offset", 48);
        let rules = [table::REFCOUNT_TABLE, table::REFCOUNT_TABLE_INSIDE];
        self.table(layout.refcount_table, geometry, (path, at), rules);
        let somewhere = header.refcount_table_offset != 0;
        self.require(somewhere, (path, at, rules[1]), || {
            "must not be 0".to_owned()
        });
        let rule = table::REFCOUNT_TABLE_CLUSTERS;
        let clusters = ("header.refcount_table_clusters", 56, rule);
        self.require(header.refcount_table_clusters != 0, clusters, || {
            "must not be 0".to_owned()
        });
        if header.nb_snapshots > 0 {
            let offset = header.snapshots_offset;
            let at = |rule| ("header.snapshots_offset", 64, rule);
            let aligned = geometry.is_aligned(offset);
            self.require(aligned, at(table::SNAPSHOTS_OFFSET), || {
                format!("must be a multiple of the cluster size, is {offset:#x}")
            });
            self.require(offset != 0, at(table::SNAPSHOTS_INSIDE), || {
                "must not be 0".to_owned()
            });
            let found = layout.snapshots.len();
            let count = header.nb_snapshots;
            self.require(
                found == count as usize,
                ("header.nb_snapshots", 60, table::SNAPSHOTS_INSIDE),
                || {
                    format!(
                        "is {count}, but only {found} entries are within the file and the limits"
                    )
                },
            );
        }
    }

    fn header_v3(&mut self) {
        let layout = self.layout;
        let header = &layout.header;
        let rule = table::INCOMPATIBLE;
        let incompatible = ("header.incompatible_features", 72, rule);
        let unknown = header.incompatible.bits() >> 5 << 5;
        self.require(unknown == 0, incompatible, || {
            format!("unknown bits {unknown:#x} are set")
        });
        let corrupt = header.incompatible.contains(Incompatible::CORRUPT);
        self.require(
            !corrupt,
            ("header.incompatible_features.corrupt", 72, table::CORRUPT),
            || "the image is marked as corrupt".to_owned(),
        );
        let unknown = header.compatible.bits() >> 1 << 1;
        self.require(
            unknown == 0,
            ("header.compatible_features", 80, table::COMPATIBLE),
            || format!("reserved bits {unknown:#x} are set"),
        );
        let unknown = header.autoclear.bits() >> 2 << 2;
        self.require(
            unknown == 0,
            ("header.autoclear_features", 88, table::AUTOCLEAR),
            || format!("reserved bits {unknown:#x} are set"),
        );
        let raw = |rule| ("header.autoclear_features.raw_data_file", 88, rule);
        if header.autoclear.contains(Autoclear::RAW_DATA_FILE) {
            let external = header.incompatible.contains(Incompatible::DATA_FILE);
            self.require(external, raw(table::RAW_WITHOUT_DATA_FILE), || {
                "is set without an external data file".to_owned()
            });
            let alone = header.backing_file_offset == 0;
            self.require(alone, raw(table::RAW_WITH_BACKING), || {
                "conflicts with the backing file".to_owned()
            });
        }
        let order = header.refcount_order;
        let at = ("header.refcount_order", 96, table::REFCOUNT_ORDER);
        self.require(order <= 6, at, || format!("must be at most 6, is {order}"));
        self.header_length();
        self.compression_type();
    }

    fn header_length(&mut self) {
        let header = &self.layout.header;
        let length = header.header_length;
        let at = |rule| ("header.header_length", 100, rule);
        self.require(length >= V3_LENGTH, at(table::HEADER_LENGTH), || {
            format!("must be at least {V3_LENGTH}, is {length}")
        });
        let whole = length.is_multiple_of(8);
        self.require(whole, at(table::HEADER_LENGTH_UNIT), || {
            format!("must be a multiple of 8, is {length}")
        });
        let cluster = self.layout.geometry.map_or(512, Geometry::cluster_size);
        let inside = u64::from(length) <= cluster;
        self.require(inside, at(table::HEADER_LENGTH_END), || {
            format!("must be within the first cluster, is {length}")
        });
    }

    fn compression_type(&mut self) {
        let header = &self.layout.header;
        let number = header.compression_type;
        let flagged = header.incompatible.contains(Incompatible::COMPRESSION);
        let at = |rule| ("header.compression_type", COMPRESSION_TYPE_AT, rule);
        let agree = flagged == (number != 0);
        self.require(agree, at(table::COMPRESSION_BIT), || {
            let not = if flagged { "" } else { "not " };
            format!("is {number}, but the incompatible feature bit is {not}set")
        });
        self.require(number <= 1, at(table::COMPRESSION_TYPE), || {
            format!("must be 0 or 1, is {number}")
        });
        if header.header_length >= 112 {
            let padding = self.source.read_vec(105, 7);
            let clear = padding.iter().all(|byte| *byte == 0);
            self.require(clear, ("header.padding", 105, table::PADDING), || {
                "must be 0".to_owned()
            });
        }
    }
}
