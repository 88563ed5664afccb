//! Rules of the header.

use super::Checker;
use crate::io::ReadAt as _;
use crate::qcow2::header::{
    Autoclear, COMPRESSION_TYPE_AT, Incompatible, MAGIC, MAX_BACKING_NAME, V2_LENGTH, V3_LENGTH,
};
use crate::qcow2::read::layout::TableAt;
use crate::qcow2::sections::{ADDITIONAL, HEADER};
use crate::qcow2::types::Geometry;

pub(crate) fn check(checker: &mut Checker<'_>) {
    checker.header();
}

impl Checker<'_> {
    fn header(&mut self) {
        let layout = self.layout;
        let header = &layout.header;
        let at = |name, offset| (name, offset, HEADER);
        self.require(header.magic == MAGIC, at("header.magic", 0), || {
            format!("must be {MAGIC:#010x}, is {:#010x}", header.magic)
        });
        let version = header.version;
        self.require(matches!(version, 2 | 3), at("header.version", 4), || {
            format!("must be 2 or 3, is {version}")
        });
        let length = if version >= 3 { V3_LENGTH } else { V2_LENGTH };
        let len = self.source.len();
        self.require(len >= u64::from(length), at("header", 0), || {
            format!("the file has {len} bytes, the header needs {length}")
        });
        let bits = header.cluster_bits;
        let least = if header.incompatible.contains(Incompatible::EXTENDED_L2) {
            14
        } else {
            9
        };
        self.require(bits >= least, at("header.cluster_bits", 20), || {
            format!("must be at least {least}, is {bits}")
        });
        self.require(
            bits <= Geometry::MAX_CLUSTER_BITS,
            at("header.cluster_bits", 20),
            || format!("is {bits}; clusters this large are not checked, and QEMU reads up to 21"),
        );
        self.require(
            header.crypt_method <= 2,
            at("header.crypt_method", 32),
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
            ("header.backing_file_size", 16, HEADER),
            || format!("must be at most {MAX_BACKING_NAME}, is {size}"),
        );
        let cluster = layout.geometry.map_or(512, Geometry::cluster_size);
        let end = offset.saturating_add(size.into());
        let at = ("header.backing_file_offset", 8, HEADER);
        self.require(end <= cluster, at, || {
            format!("the name must be within the first cluster, it ends at {end:#x}")
        });
        self.require(offset >= header.header_length.into(), at, || {
            format!("the name is in the header, at {offset:#x}")
        });
    }

    fn header_tables(&mut self, geometry: Geometry) {
        let layout = self.layout;
        let header = &layout.header;
        let needed = geometry.l1_entries_for(header.size);
        let l1_size = u64::from(header.l1_size);
        self.require(l1_size >= needed, ("header.l1_size", 36, HEADER), || {
            format!("must be at least {needed} for the size, is {l1_size}")
        });
        let outside = |table: TableAt| table.offset == 0 && table.declared > 0;
        let l1 = ("header.l1_table_offset", 40, HEADER);
        self.table(layout.l1, geometry, l1);
        self.require(!outside(layout.l1), l1, || "must not be 0".to_owned());
        let table = ("header.refcount_table_offset", 48, HEADER);
        self.table(layout.refcount_table, geometry, table);
        self.require(header.refcount_table_offset != 0, table, || {
            "must not be 0".to_owned()
        });
        let clusters = ("header.refcount_table_clusters", 56, HEADER);
        self.require(header.refcount_table_clusters != 0, clusters, || {
            "must not be 0".to_owned()
        });
        if header.nb_snapshots > 0 {
            let offset = header.snapshots_offset;
            let at = ("header.snapshots_offset", 64, HEADER);
            self.require(geometry.is_aligned(offset) && offset != 0, at, || {
                format!("must be a multiple of the cluster size and not 0, is {offset:#x}")
            });
            let found = layout.snapshots.len();
            let count = header.nb_snapshots;
            self.require(
                found == count as usize,
                ("header.nb_snapshots", 60, HEADER),
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
        let incompatible = ("header.incompatible_features", 72, HEADER);
        let unknown = header.incompatible.bits() >> 5 << 5;
        self.require(unknown == 0, incompatible, || {
            format!("unknown bits {unknown:#x} are set")
        });
        let corrupt = header.incompatible.contains(Incompatible::CORRUPT);
        self.require(
            !corrupt,
            ("header.incompatible_features.corrupt", 72, HEADER),
            || "the image is marked as corrupt".to_owned(),
        );
        let unknown = header.compatible.bits() >> 1 << 1;
        self.require(
            unknown == 0,
            ("header.compatible_features", 80, HEADER),
            || format!("reserved bits {unknown:#x} are set"),
        );
        let unknown = header.autoclear.bits() >> 2 << 2;
        self.require(
            unknown == 0,
            ("header.autoclear_features", 88, HEADER),
            || format!("reserved bits {unknown:#x} are set"),
        );
        let raw = ("header.autoclear_features.raw_data_file", 88, HEADER);
        if header.autoclear.contains(Autoclear::RAW_DATA_FILE) {
            let external = header.incompatible.contains(Incompatible::DATA_FILE);
            self.require(external, raw, || {
                "is set without an external data file".to_owned()
            });
            self.require(header.backing_file_offset == 0, raw, || {
                "conflicts with the backing file".to_owned()
            });
        }
        let order = header.refcount_order;
        self.require(order <= 6, ("header.refcount_order", 96, HEADER), || {
            format!("must be at most 6, is {order}")
        });
        self.header_length();
        self.compression_type();
    }

    fn header_length(&mut self) {
        let header = &self.layout.header;
        let length = header.header_length;
        let at = ("header.header_length", 100, HEADER);
        self.require(length >= V3_LENGTH && length.is_multiple_of(8), at, || {
            format!("must be a multiple of 8 from {V3_LENGTH} on, is {length}")
        });
        let cluster = self.layout.geometry.map_or(512, Geometry::cluster_size);
        self.require(u64::from(length) <= cluster, at, || {
            format!("must be within the first cluster, is {length}")
        });
    }

    fn compression_type(&mut self) {
        let header = &self.layout.header;
        let number = header.compression_type;
        let flagged = header.incompatible.contains(Incompatible::COMPRESSION);
        let at = ("header.compression_type", COMPRESSION_TYPE_AT, ADDITIONAL);
        self.require(flagged == (number != 0), at, || {
            let not = if flagged { "" } else { "not " };
            format!("is {number}, but the incompatible feature bit is {not}set")
        });
        self.require(number <= 1, at, || format!("must be 0 or 1, is {number}"));
        if header.header_length >= 112 {
            let padding = self.source.read_vec(105, 7);
            let clear = padding.iter().all(|byte| *byte == 0);
            self.require(clear, ("header.padding", 105, "Header padding"), || {
                "must be 0".to_owned()
            });
        }
    }
}
