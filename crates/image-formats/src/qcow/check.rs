//! Checking the rules.

use std::collections::BTreeMap;

use super::layout::{AES, Cluster, HEADER_LEN, LONGEST_NAME, Layout, MAGIC};
use super::rules::*;
use crate::checker::Checker;
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Big;

/// The most entries of tables that are looked at.
const ENTRIES: u64 = 1 << 20;

/// Checks the rules of an image.
pub(super) fn check(source: &Store, checker: &mut Checker) {
    let layout = Layout::read(source);
    header(source, layout, checker);
    backing(source, layout, checker);
    if layout.has_geometry() {
        let mut tables = Tables {
            source,
            layout,
            checker,
            users: BTreeMap::new(),
        };
        tables.check();
    }
}

fn header(source: &Store, layout: Layout, checker: &mut Checker) {
    let at = |offset, bytes| number(source, offset, bytes, Big);
    let magic = at(0, 4);
    let place = ("header.magic", 0, IS_QCOW);
    checker.require(magic == MAGIC.into(), place, || {
        format!("must be {MAGIC:#x}, is {magic:#x}")
    });
    let version = at(4, 4);
    checker.require(version == 1, ("header.version", 4, VERSION), || {
        format!("must be 1, is {version}")
    });
    let size = layout.size;
    checker.require(size > 1, ("header.size", 24, SIZE), || {
        format!("must be at least 2, is {size}")
    });
    let place = ("header.size", 24, SIZE_UNIT);
    checker.require(size.is_multiple_of(512), place, || {
        format!("must be a multiple of 512, is {size}")
    });
    let bits = layout.cluster_bits;
    let allowed = layout.cluster_size().is_some();
    checker.require(allowed, ("header.cluster_bits", 32, CLUSTER_BITS), || {
        format!("must be 9 to 16, is {bits}")
    });
    let bits = layout.l2_bits;
    let allowed = (6..=13).contains(&bits);
    checker.require(allowed, ("header.l2_bits", 33, L2_BITS), || {
        format!("must be 6 to 13, is {bits}")
    });
    let padding = at(34, 2);
    checker.require(padding == 0, ("header.padding", 34, PADDING), || {
        format!("must be 0, is {padding:#x}")
    });
    let method = layout.crypt_method;
    let place = ("header.crypt_method", 36, CRYPT_METHOD);
    checker.require(method <= AES, place, || {
        format!("must be 0 or 1, is {method}")
    });
}

fn backing(source: &Store, layout: Layout, checker: &mut Checker) {
    let (at, len) = (layout.name_at, layout.name_len);
    if at == 0 {
        let place = ("header.backing_file_size", 16, NO_NAME);
        checker.require(len == 0, place, || {
            format!("must be 0 without a backing file, is {len}")
        });
        return;
    }
    let place = ("header.backing_file_size", 16, NAME_LENGTH);
    checker.require(len <= LONGEST_NAME, place, || {
        format!("must be at most {LONGEST_NAME}, is {len}")
    });
    let place = ("header.backing_file_offset", 8, NAME_INSIDE);
    let end = at.checked_add(len);
    let inside = at >= HEADER_LEN && end.is_some_and(|end| end <= source.len());
    checker.require(inside, place, || {
        format!(
            "the name of {len} bytes at {at:#x} is not between the header and the end of the file"
        )
    });
}

/// The tables, while it is found out what the bytes of the file belong to.
struct Tables<'a> {
    source: &'a Store,
    layout: Layout,
    checker: &'a mut Checker,
    /// Where each part of the file ends, and which field refers to it, by where it begins.
    users: BTreeMap<u64, (u64, String)>,
}

impl Tables<'_> {
    fn check(&mut self) {
        let (layout, source) = (self.layout, self.source);
        self.add(0, HEADER_LEN, "header", 0);
        if layout.name_at >= HEADER_LEN {
            let (path, len) = ("header.backing_file_offset", layout.name_len);
            self.add(layout.name_at, len, path, 8);
        }
        let (l1, entries) = (layout.l1, layout.l1_entries());
        let end = entries.checked_mul(8).and_then(|len| l1.checked_add(len));
        let inside = l1 >= HEADER_LEN && end.is_some_and(|end| end <= source.len());
        let path = "header.l1_table_offset";
        self.checker.require(inside, (path, 40, L1_INSIDE), || {
            format!(
                "the table of {entries} entries at {l1:#x} is not between the header and the end \
                 of the file"
            )
        });
        if !inside {
            return;
        }
        self.add(l1, entries * 8, path, 40);
        let mut budget = self.checker.scope.budget(ENTRIES);
        for index in 0..entries {
            if budget == 0 {
                return;
            }
            budget -= 1;
            let at = l1 + index * 8;
            let table = number(source, at, 8, Big);
            if table != 0 && self.table(index, at, table) {
                budget = budget.saturating_sub(layout.l2_entries());
                self.entries(index, table);
            }
        }
    }

    /// Checks where L2 table `index` is; whether it can be read.
    fn table(&mut self, index: u64, at: u64, table: u64) -> bool {
        let path = format!("l1[{index}]");
        let cluster = 1 << self.layout.cluster_bits;
        let aligned = table.is_multiple_of(cluster);
        self.checker.require(aligned, (&path, at, L2_ALIGNED), || {
            format!("must be a multiple of the cluster size, is {table:#x}")
        });
        let end = table.checked_add(self.layout.l2_entries() * 8);
        let inside = end.is_some_and(|end| end <= self.source.len());
        self.checker.require(inside, (&path, at, L2_INSIDE), || {
            format!("the table at {table:#x} ends behind the end of the file")
        });
        if inside {
            self.add(table, self.layout.l2_entries() * 8, &path, at);
        }
        inside
    }

    fn entries(&mut self, index: u64, table: u64) {
        let len = self.source.len();
        let cluster = 1 << self.layout.cluster_bits;
        for entry in 0..self.layout.l2_entries() {
            let at = table + entry * 8;
            let value = number(self.source, at, 8, Big);
            if value == 0 {
                continue;
            }
            let path = format!("l2[{index}].entry[{entry}]");
            match self.layout.cluster(value) {
                Cluster::Unallocated => {}
                Cluster::Plain(host) => {
                    let aligned = host.is_multiple_of(cluster);
                    let place = (path.as_str(), at, CLUSTER_ALIGNED);
                    self.checker.require(aligned, place, || {
                        format!("must be a multiple of the cluster size, is {host:#x}")
                    });
                    let inside = host.checked_add(cluster).is_some_and(|end| end <= len);
                    let place = (path.as_str(), at, CLUSTER_INSIDE);
                    self.checker.require(inside, place, || {
                        format!("the cluster at {host:#x} ends behind the end of the file")
                    });
                    self.add(host, cluster, &path, at);
                }
                Cluster::Compressed(host, bytes) => {
                    let inside = bytes > 0 && host + bytes <= len;
                    let place = (path.as_str(), at, COMPRESSED_INSIDE);
                    self.checker.require(inside, place, || {
                        format!("{bytes} compressed bytes at {host:#x}, the file has {len}")
                    });
                    self.add(host, bytes, &path, at);
                }
            }
        }
    }

    /// Notes that the field at `path`, at byte `at`, refers to `len` bytes from `from` on.
    fn add(&mut self, from: u64, len: u64, path: &str, at: u64) {
        let end = from.saturating_add(len);
        let before = self.users.range(..end).next_back();
        if let Some((_, (until, other))) = before.filter(|(_, (until, _))| *until > from) {
            let (until, other) = (*until, other.clone());
            self.checker.require(false, (path, at, OVERLAP), || {
                format!("{from:#x} to {end:#x} belongs to {other} too, up to {until:#x}")
            });
        } else if len > 0 {
            self.users.insert(from, (end, path.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use crate::block::{Block, Content};
    use crate::format::{AnyImage, Format};
    use crate::io::ReadAt as _;
    use crate::pattern::Pattern;
    use crate::qcow::{RULES, Spec, build};

    fn image(backing: bool) -> AnyImage {
        let block = |index, content| Block { index, content };
        let spec = Spec {
            cluster_bits: 12,
            l2_bits: 9,
            virtual_size: 5 << 20,
            blocks: vec![
                block(0, Content::Data(Pattern::Count(1))),
                block(1, Content::Data(Pattern::Count(2))),
                block(700, Content::Compressed(Pattern::Fill(2))),
            ],
            backing: backing.then(|| "base.img".to_owned()),
            ..Spec::default()
        };
        let bytes = build(&spec, "i").unwrap().swap_remove(0).bytes;
        AnyImage::open(Arc::new(bytes), Format::Qcow).unwrap()
    }

    /// Each rule, broken by one field.
    #[test]
    fn every_rule_is_noticed() {
        let end = image(true).bytes().len();
        let mut all = BTreeSet::new();
        for (backing, path, value, rule) in [
            (true, "header.magic", 0, "magic"),
            (true, "header.version", 2, "version"),
            (true, "header.size", 1, "size"),
            (true, "header.size", 513, "size-unit"),
            (true, "header.size", u64::MAX, "l1-table-inside-file"),
            (true, "header.cluster_bits", 8, "cluster-bits"),
            // Was no defect.
            (true, "header.cluster_bits", 40, "cluster-bits"),
            (true, "header.l2_bits", 5, "l2-bits"),
            (true, "header.l2_bits", 14, "l2-bits"),
            (true, "header.padding", 1, "padding"),
            (true, "header.crypt_method", 2, "crypt-method"),
            (true, "header.l1_table_offset", 40, "l1-table-inside-file"),
            (true, "header.l1_table_offset", end, "l1-table-inside-file"),
            (
                true,
                "header.l1_table_offset",
                u64::MAX,
                "l1-table-inside-file",
            ),
            (true, "header.l1_table_offset", 50, "overlap"),
            (
                true,
                "header.backing_file_size",
                1024,
                "backing-name-length",
            ),
            (
                true,
                "header.backing_file_offset",
                8,
                "backing-name-inside-file",
            ),
            (
                true,
                "header.backing_file_offset",
                end,
                "backing-name-inside-file",
            ),
            (
                true,
                "header.backing_file_offset",
                u64::MAX,
                "backing-name-inside-file",
            ),
            (false, "header.backing_file_size", 1, "no-backing-name"),
            (false, "l1[0]", 8, "l2-table-aligned"),
            (false, "l1[0]", end, "l2-table-inside-file"),
            (false, "l1[0]", u64::MAX, "l2-table-inside-file"),
            (false, "l2[0].entry[0]", 4100, "cluster-aligned"),
            (false, "l2[0].entry[0]", 1 << 40, "cluster-inside-file"),
            (
                false,
                "l2[0].entry[0]",
                (1 << 63) - 1,
                "cluster-inside-file",
            ),
            (false, "l2[0].entry[0]", 4096, "overlap"),
            (
                false,
                "l2[1].entry[188].compressed_size",
                0,
                "compressed-inside-file",
            ),
            (
                false,
                "l2[1].entry[188].compressed_offset",
                end,
                "compressed-inside-file",
            ),
        ] {
            let mut image = image(backing);
            assert_eq!(image.defects().unwrap(), []);
            image.set(path, value).unwrap();
            let defects = image.defects().unwrap();
            let found = defects.iter().any(|defect| defect.name == rule);
            assert!(found, "{path} = {value}: {defects:?}");
            all.insert(rule);
        }
        assert_eq!(all, RULES.iter().map(|rule| rule.name).collect());
    }
}
