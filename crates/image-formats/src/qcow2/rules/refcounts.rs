//! Rules of the reference counts, and of clusters used twice.

use super::{Checker, table as rules};
use crate::checker::Scope;
use crate::qcow2::entries::refcount_place;
use crate::qcow2::entries::{COPIED, L2Entry, OFFSET_MASK, REFCOUNT_OFFSET_MASK};
use crate::qcow2::header::Incompatible;
use crate::qcow2::read::layout::Disk;
use crate::qcow2::read::node::Node;
use crate::qcow2::read::references::{Reference, References, Use, place_of};
use crate::qcow2::read::scan::{Budget, l2_entries, used_entries};
use crate::qcow2::types::{ClusterIndex, Geometry, HostOffset};

/// Most stored counts that are checked for clusters without references.
const COUNTS: u64 = 4 << 20;

pub(crate) fn check(checker: &mut Checker<'_>, geometry: Geometry) {
    table(checker, geometry);
    if checker.notes.scope == Scope::Binding {
        return;
    }
    let references = References::count(checker.source, checker.layout);
    if !references.complete {
        let text = format!(
            "more than {} references; counts were not compared",
            References::LIMIT
        );
        checker.notes.defects.add(
            "refcount_table",
            checker.layout.refcount_table.offset,
            rules::REFCOUNT_LIMIT,
            text,
        );
        return;
    }
    for (cluster, reference) in &references.clusters {
        overlap(checker, geometry, *cluster, *reference);
        count(checker, geometry, *cluster, reference.count);
    }
    leaks(checker, geometry, &references);
    copied(checker, geometry);
}

fn table(checker: &mut Checker<'_>, geometry: Geometry) {
    let layout = checker.layout;
    for index in used_entries(checker.source, layout.refcount_table) {
        let Some(offset) = layout.refcount_table.entry(index) else {
            return;
        };
        let word = checker.source.read_u64(offset);
        let reserved = word & !REFCOUNT_OFFSET_MASK;
        let target = word & REFCOUNT_OFFSET_MASK;
        let sound = [
            reserved == 0,
            geometry.is_aligned(target),
            target < layout.end,
        ];
        let broken = sound.into_iter().filter(|holds| !holds).count() as u64;
        if broken == 0 || checker.notes.defects.is_full() {
            checker.notes.defects.leave_out(broken);
            continue;
        }
        let path = Node::RefcountTable(index).path();
        let at = |rule| (path.as_str(), offset, rule);
        checker.require(reserved == 0, at(rules::REFCOUNT_RESERVED), || {
            format!("reserved bits {reserved:#x} are set")
        });
        checker.require(sound[1], at(rules::REFCOUNT_BLOCK), || {
            format!("the refcount block at {target:#x} is not cluster aligned")
        });
        checker.require(sound[2], at(rules::REFCOUNT_BLOCK_INSIDE), || {
            format!("the refcount block at {target:#x} is past the end of the file")
        });
    }
}

fn overlap(
    checker: &mut Checker<'_>,
    geometry: Geometry,
    cluster: ClusterIndex,
    reference: Reference,
) {
    let metadata = reference.uses.difference(Use::DATA | Use::L2);
    let once = Use::HEADER
        | Use::REFCOUNT_TABLE
        | Use::REFCOUNT_BLOCK
        | Use::ACTIVE_L1
        | Use::SNAPSHOT_TABLE;
    let mixed = reference.uses.bits().count_ones() > 1;
    let twice = reference.uses.intersects(once) && reference.count > 1;
    let offset = geometry
        .offset_of(cluster)
        .map_or(u64::MAX, |offset| offset.0);
    if mixed || (twice && !metadata.is_empty()) {
        let uses: Vec<String> = reference
            .uses
            .iter_names()
            .map(|(name, _)| name.to_lowercase())
            .collect();
        let text = format!("is used {} times, as {}", reference.count, uses.join(", "));
        let path = format!("cluster[{cluster}]");
        checker
            .notes
            .defects
            .add(path, offset, rules::OVERLAP, text);
    }
}

fn count(checker: &mut Checker<'_>, geometry: Geometry, cluster: ClusterIndex, wanted: u64) {
    let place = place_of(checker.source, checker.layout, cluster);
    let stored = place
        .and_then(|place| place.get(checker.source).as_uint())
        .unwrap_or(0);
    if stored == wanted {
        return;
    }
    if checker.notes.defects.is_full() {
        return checker.notes.defects.leave_out(1);
    }
    let (table, index) = geometry.refcount_indices(cluster);
    let (path, offset) = match place {
        Some(place) => (Node::Refcount(table.0, index.0).path(), place.offset()),
        None => {
            let offset = checker
                .layout
                .refcount_table
                .offset
                .saturating_add(table.0.saturating_mul(8));
            (Node::RefcountTable(table.0).path(), offset)
        }
    };
    let text = format!("cluster {cluster} has refcount {stored}, but {wanted} references");
    checker
        .notes
        .defects
        .add(path, offset, rules::REFCOUNT, text);
}

/// Counts that are not zero for clusters without references.
fn leaks(checker: &mut Checker<'_>, geometry: Geometry, references: &References) {
    let layout = checker.layout;
    let per_block = geometry.refcount_block_entries();
    let mut budget = Budget::new(COUNTS);
    for table in used_entries(checker.source, layout.refcount_table) {
        let Some(block) = layout.refcount_block(checker.source, table) else {
            continue;
        };
        let first = table.saturating_mul(per_block);
        // Many entries may point to one block, which is checked each time.
        if !budget.take_many(geometry.cluster_size() / 512) {
            return;
        }
        for index in used_counts(checker, geometry, block) {
            if !budget.take() {
                return;
            }
            let cluster = ClusterIndex(first.saturating_add(index));
            if references.clusters.contains_key(&cluster) {
                continue;
            }
            let place = refcount_place(block.0, index, geometry.refcount_bits());
            let stored = place
                .and_then(|place| place.get(checker.source).as_uint())
                .unwrap_or(0);
            if stored != 0 {
                let path = Node::Refcount(table, index).path();
                let offset = place.map_or(block.0, |place| place.offset());
                let text = format!("cluster {cluster} has refcount {stored}, but no references");
                checker
                    .notes
                    .defects
                    .add(path, offset, rules::REFCOUNT, text);
            }
        }
    }
}

/// Indexes of counts in a block that may be more than zero.
fn used_counts(checker: &Checker<'_>, geometry: Geometry, block: HostOffset) -> Vec<u64> {
    let len = geometry.cluster_size() as usize;
    let data = checker.source.read_vec(block.0, len);
    let bits = u64::from(geometry.refcount_bits());
    let (per_byte, bytes) = (8 / bits.min(8), bits.div_ceil(8));
    let used = data
        .chunks(bytes as usize)
        .zip(0_u64..)
        .filter(|(count, _)| count.iter().any(|byte| *byte != 0));
    used.flat_map(|(_, at)| at * per_byte..(at + 1) * per_byte)
        .collect()
}

/// The flag COPIED must be set exactly when the count is one.
fn copied(checker: &mut Checker<'_>, geometry: Geometry) {
    let (source, layout) = (checker.source, checker.layout);
    let is_one = |offset: u64| {
        let place = place_of(source, layout, geometry.cluster_of(HostOffset(offset)));
        place.and_then(|place| place.get(source).as_uint()) == Some(1)
    };
    let wrong = |word: u64, external: bool| {
        let target = word & OFFSET_MASK;
        let one = external || is_one(target);
        (target != 0 && one != (word & COPIED != 0)).then(|| {
            let (set, not) = if one {
                ("not set", "one")
            } else {
                ("set", "not one")
            };
            format!("COPIED is {set}, but the refcount is {not}")
        })
    };
    for index in used_entries(source, layout.l1) {
        let Some(offset) = layout.l1.entry(index) else {
            break;
        };
        if let Some(text) = wrong(source.read_u64(offset), false) {
            let path = Node::L1(Disk::Active, index).path();
            checker
                .notes
                .defects
                .add(path, offset, rules::L1_COPIED, text);
        }
    }
    let external = layout.header.incompatible.contains(Incompatible::DATA_FILE);
    let mut budget = Budget::new(COUNTS);
    l2_entries(source, layout, Disk::Active, &mut budget, &mut |entry| {
        let standard = matches!(
            L2Entry::from_word(entry.word, geometry),
            L2Entry::Standard { .. }
        );
        if let Some(text) = wrong(entry.word, external).filter(|_| standard) {
            let path = Node::L2(Disk::Active, entry.l1, entry.l2).path();
            checker
                .notes
                .defects
                .add(path, entry.offset, rules::L2_COPIED, text);
        }
    });
}
