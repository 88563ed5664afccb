//! Rules of the L1 and L2 tables.

use super::{Checker, table};
use crate::checker::Scope;
use crate::defect::Rule;
use crate::qcow2::compression::Compression;
use crate::qcow2::compression::expand;
use crate::qcow2::entries::{
    COMPRESSED, COPIED, CompressedDescriptor, L2Entry, OFFSET_MASK, Subclusters, ZERO,
};
use crate::qcow2::header::Incompatible;
use crate::qcow2::read::layout::Disk;
use crate::qcow2::read::node::Node;
use crate::qcow2::read::scan::{Budget, EntryAt, l2_entries, used_entries};
use crate::qcow2::types::{Geometry, HostOffset};

/// Most entries that are checked.
const ENTRIES: u64 = 4 << 20;
/// Most bytes that are expanded to check compressed clusters.
const EXPANDED: u64 = 16 << 20;

pub(crate) fn check(checker: &mut Checker<'_>, geometry: Geometry) {
    let snapshots = (0..checker.layout.snapshots.len()).map(Disk::Snapshot);
    let mut budget = Budget::new(checker.notes.scope.budget(ENTRIES));
    let mut expanded = checker.notes.scope.budget(EXPANDED);
    for disk in std::iter::once(Disk::Active).chain(snapshots) {
        l1(checker, geometry, disk, &mut budget);
        let (source, layout) = (checker.source, checker.layout);
        l2_entries(source, layout, disk, &mut budget, &mut |entry| {
            let mut check = EntryCheck {
                checker,
                geometry,
                disk,
                entry,
            };
            check.run(&mut expanded);
        });
    }
    if budget.spent() && checker.notes.scope == Scope::All {
        let text = format!("has more than {ENTRIES} entries; the others were not checked");
        checker
            .notes
            .defects
            .add("l2", 0, table::MAPPING_LIMIT, text);
    }
}

fn l1(checker: &mut Checker<'_>, geometry: Geometry, disk: Disk, budget: &mut Budget) {
    let layout = checker.layout;
    let Some(l1) = layout.l1_of(disk) else {
        return;
    };
    for index in used_entries(checker.source, l1) {
        let Some(offset) = l1.entry(index).filter(|_| budget.take()) else {
            return;
        };
        let word = checker.source.read_u64(offset);
        let path = Node::L1(disk, index).path();
        let at = |rule| (path.as_str(), offset, rule);
        let reserved = word & !(OFFSET_MASK | COPIED);
        checker.require(reserved == 0, at(table::L1_RESERVED), || {
            format!("reserved bits {reserved:#x} are set")
        });
        let target = word & OFFSET_MASK;
        let aligned = geometry.is_aligned(target);
        checker.require(aligned, at(table::L2_TABLE), || {
            format!("the L2 table at {target:#x} is not cluster aligned")
        });
        checker.require(target < layout.end, at(table::L2_TABLE_INSIDE), || {
            format!("the L2 table at {target:#x} is past the end of the file")
        });
        let counted = word & COPIED == 0 || target != 0;
        checker.require(counted, at(table::L1_COPIED), || {
            "COPIED is set without an L2 table".to_owned()
        });
    }
}

/// An L2 entry that is checked.
struct EntryCheck<'c, 'a> {
    checker: &'c mut Checker<'a>,
    geometry: Geometry,
    disk: Disk,
    entry: EntryAt,
}

impl EntryCheck<'_, '_> {
    fn run(&mut self, expanded: &mut u64) {
        match L2Entry::from_word(self.entry.word, self.geometry) {
            L2Entry::Compressed(descriptor) => self.compressed(descriptor, expanded),
            L2Entry::Standard { host, .. } => self.standard(host),
        }
        if self.geometry.extended_l2() {
            self.subclusters();
        }
    }

    fn require(&mut self, holds: bool, rule: Rule, text: impl FnOnce() -> String) {
        if !holds {
            let path = Node::L2(self.disk, self.entry.l1, self.entry.l2).path();
            self.checker
                .require(false, (&path, self.entry.offset, rule), text);
        }
    }

    fn external(&self) -> bool {
        self.checker
            .layout
            .header
            .incompatible
            .contains(Incompatible::DATA_FILE)
    }

    fn standard(&mut self, host: HostOffset) {
        let word = self.entry.word;
        // With subclusters the bit has no meaning.
        let zero = if self.geometry.extended_l2() { 0 } else { ZERO };
        let reserved = word & !(OFFSET_MASK | COPIED | COMPRESSED | zero);
        self.require(reserved == 0, table::L2_RESERVED, || {
            format!("reserved bits {reserved:#x} are set")
        });
        let allowed = self.checker.layout.header.version >= 3;
        self.require(word & zero == 0 || allowed, table::L2_ZERO_FLAG, || {
            "the zero flag is set in an image of version 2".to_owned()
        });
        let aligned = self.geometry.is_aligned(host.0);
        self.require(aligned, table::CLUSTER, || {
            format!("the cluster at {host} is not cluster aligned")
        });
        if self.external() {
            let cluster = self
                .entry
                .l1
                .saturating_mul(self.geometry.l2_entries())
                .saturating_add(self.entry.l2);
            let guest = cluster.saturating_mul(self.geometry.cluster_size());
            // A zero cluster need not have a place, and offset 0 is taken for none.
            let stored = host.0 != 0 || word & COPIED != 0 && word & zero == 0;
            let same = !stored || host.0 == guest;
            self.require(same, table::CLUSTER_EXTERNAL, || {
                format!("the offset {host} in the data file must be the guest offset {guest:#x}")
            });
        } else {
            let end = self.checker.layout.end;
            self.require(host.0 < end, table::CLUSTER_INSIDE, || {
                format!("the cluster at {host} is past the end of the file")
            });
            let counted = word & COPIED == 0 || host.0 != 0;
            self.require(counted, table::L2_COPIED, || {
                "COPIED is set without a cluster".to_owned()
            });
        }
    }

    fn compressed(&mut self, descriptor: CompressedDescriptor, expanded: &mut u64) {
        let word = self.entry.word;
        self.require(word & COPIED == 0, table::COMPRESSED_COPIED, || {
            "COPIED is set on a compressed cluster".to_owned()
        });
        let external = self.external();
        self.require(!external, table::COMPRESSED_EXTERNAL, || {
            "is compressed, in an image with an external data file".to_owned()
        });
        let high = descriptor.host.0 >> 56;
        self.require(high == 0, table::COMPRESSED_OFFSET, || {
            format!("offset bits above 55 are set ({})", descriptor.host)
        });
        let end = self.checker.layout.end;
        let inside = descriptor.host.0 < end;
        self.require(inside, table::COMPRESSED_INSIDE, || {
            format!(
                "the data at {} is past the end of the file",
                descriptor.host
            )
        });
        let size = self.geometry.cluster_size();
        let known = Compression::from_number(self.checker.layout.header.compression_type);
        if let Some(compression) = known.filter(|_| inside && *expanded >= size) {
            *expanded -= size;
            let len = descriptor.len().min(2 * size) as usize;
            let packed = self.checker.source.read_vec(descriptor.host.0, len);
            if let Err(problem) = expand(&packed, size as usize, compression) {
                self.require(false, table::COMPRESSED_DATA, || problem.to_string());
            }
        }
    }

    fn subclusters(&mut self) {
        let bits = Subclusters::from_word(self.entry.second);
        if self.entry.word & COMPRESSED != 0 {
            let clear = self.entry.second == 0;
            self.require(clear, table::SUBCLUSTERS_COMPRESSED, || {
                "the subcluster bitmap of a compressed cluster must be 0".to_owned()
            });
            return;
        }
        let both = bits.allocated & bits.zero;
        self.require(both == 0, table::SUBCLUSTERS_BOTH, || {
            format!("subclusters {both:#x} are both allocated and zero")
        });
        let stored = self.entry.word & OFFSET_MASK != 0
            || (self.external() && self.entry.word & COPIED != 0);
        let placed = bits.allocated == 0 || stored;
        self.require(placed, table::SUBCLUSTERS_STORED, || {
            format!(
                "subclusters {:#x} are allocated without a cluster",
                bits.allocated
            )
        });
    }
}
