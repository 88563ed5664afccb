//! The limits that the sweep tries, one row each: which field of which base image, the values,
//! and the commands that reach it.
//!
//! A new limit is one row. Rows of the first pass are the ones that tell most; within a pass
//! the order is that of the tests.

use super::rule::FILE_LENGTH;
use super::rule::Rule::{
    self, Clusters, Flip, Holding, Is, Itself, L1Entries, LastCluster, Letters, Max, Moved, Of,
    PastEnd, Plus,
};

/// Limits of one field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// What is tried, in a few words.
    pub(super) class: &'static str,
    /// The base image.
    pub(super) base: &'static str,
    /// The field. An extension is named by its type, a refcount by a pointer to the cluster.
    pub(super) path: &'static str,
    /// The values, a test each.
    pub(super) values: &'static [Rule],
    /// What else is changed in each of these tests.
    pub(super) also: &'static [(&'static str, Rule)],
    /// The commands. `$at` is where the change shows in the disk, `$cluster` a cluster,
    /// `$double` two, `$free` a cluster without data that the first L2 table maps, `$last` the
    /// last cluster of the disk.
    pub(super) commands: &'static [&'static str],
}

impl Row {
    const fn also(self, also: &'static [(&'static str, Rule)]) -> Self {
        Self { also, ..self }
    }
}

const fn row(
    class: &'static str,
    base: &'static str,
    path: &'static str,
    values: &'static [Rule],
    commands: &'static [&'static str],
) -> Row {
    Row {
        class,
        base,
        path,
        values,
        also: &[],
        commands,
    }
}

const INFO: &str = "qemu-img info -f qcow2 $test_img";
const CHECK: &str = "qemu-img check -f qcow2 $test_img";
const REPAIR: &str = "qemu-img check -f qcow2 -r all $test_img";
const LEAKS: &str = "qemu-img check -f qcow2 -r leaks $test_img";
const MAP: &str = "qemu-img map -f qcow2 $test_img";
const CONVERT: &str = "qemu-img convert -f qcow2 -O raw $test_img out.img";
const TAKE: &str = "qemu-img snapshot -c new $test_img";
const APPLY: &str = "qemu-img snapshot -a 1 $test_img";
const DELETE: &str = "qemu-img snapshot -d 1 $test_img";
const FROM_SNAPSHOT: &str = "qemu-img convert -f qcow2 -l snapshot -O raw $test_img out.img";
const DOWNGRADE: &str = "qemu-img amend -f qcow2 -o compat=0.10 $test_img";
const WIDTH: &str = "qemu-img amend -f qcow2 -o refcount_bits=64 $test_img";
const GROW: &str = "qemu-img resize -f qcow2 $test_img +64M";
const REBASE: &str = "qemu-img rebase -f qcow2 -u -b '' $test_img";
const BITMAPS: &str = "qemu-img convert -f qcow2 -O qcow2 --bitmaps $test_img out.img";
const ADD_BITMAP: &str = "qemu-img bitmap -f qcow2 --add $test_img new";
const REMOVE_BITMAP: &str = "qemu-img bitmap -f qcow2 --remove $test_img first";
const READ: &str = "qemu-io -f qcow2 -c 'read $at $cluster' $test_img";
const WRITE: &str = "qemu-io -f qcow2 -c 'write -P 85 $at 512' $test_img";
const WRITE_TWO: &str = "qemu-io -f qcow2 -c 'write -P 85 $at $double' $test_img";
const WRITE_LAST: &str = "qemu-io -f qcow2 -c 'write -P 85 $last 512' $test_img";
const WRITE_PACKED: &str = "qemu-io -f qcow2 -c 'write -c -P 85 $free $cluster' $test_img";
const DISCARD: &str = "qemu-io -f qcow2 -c 'discard $at $cluster' $test_img";
const ZERO: &str = "qemu-io -f qcow2 -c 'write -z -u $at $cluster' $test_img";

/// Lengths and sizes in bytes that are allocated before they are used up.
const GIB: u64 = 1 << 30;
const LONG: Rule = Is(GIB + GIB / 2);

/// One or two telling values for each field that is checked.
#[rustfmt::skip]
pub(super) const FIRST: &[Row] = &[
    // What is checked when an image is opened.
    row("refcount order", "plain", "header.refcount_order", &[Is(7)], &[INFO, CHECK]),
    row("cluster size", "plain", "header.cluster_bits", &[Is(32), Is(8), Is(22)], &[INFO, READ]),
    row("refcount table size", "plain", "header.refcount_table_clusters", &[Is(0)], &[INFO, TAKE, WRITE_LAST, WIDTH]),
    row("header length", "plain", "header.header_length", &[LONG, Is(96), Is((1 << 14) + 8)], &[INFO]),
    row("extension length", "features", "ext[unknown].length", &[LONG, Is(0x7fff_ffff)], &[INFO]),
    row("backing format length", "backing", "ext[backing_format].length", &[Is(16), Is(24)], &[INFO]),
    row("encryption header extension", "luks", "ext[encryption].length", &[Is(24), Is(48)], &[INFO]),
    row("bitmaps extension length", "bitmaps", "ext[bitmaps].length", &[Is(1024), Is(32)], &[INFO, CHECK]),
    row("bitmap granularity", "bitmaps", "bitmap[0].granularity_bits", &[Is(32), Is(63), Is(8)], &[CHECK, BITMAPS]),
    row("bitmap table size", "bitmaps", "bitmap[0].table_size", &[Is(1), Plus(1)], &[INFO, READ]),
    row("snapshot table offset", "snapshots", "header.snapshots_offset", &[Plus(-4), Plus(4), Moved(512)], &[INFO]),
    row("snapshot count", "snapshots", "header.nb_snapshots", &[Max, Is(65537)], &[INFO]),
    row("snapshot extra data", "snapshots", "snapshot[0].extra_data_size", &[LONG, Is(1025)], &[INFO, REPAIR]),
    row("L1 table size", "plain", "header.l1_size", &[Is((GIB + GIB / 2) / 8), Is((32 << 20) / 8 + 1)], &[INFO]),
    row("refcount table size", "plain", "header.refcount_table_clusters", &[Holding(GIB + GIB / 2), Holding((8 << 20) + 1)], &[INFO]),
    row("backing file name", "backing", "header.backing_file_size", &[LONG, Is(1024), Max], &[INFO]),
    row("backing file name", "backing", "header.backing_file_offset", &[Clusters(3)], &[INFO]),
    row("disk size", "plain", "header.size", &[L1Entries(1 << 31)], &[INFO, MAP, READ]),
    row("disk size against the L1 table", "plain", "header.l1_size", &[Is(0), Plus(-1)], &[INFO, WRITE_LAST, DISCARD, TAKE]),
    row("subcluster size", "small-clusters", "header.incompatible_features.extended_l2", &[Is(1)], &[INFO, READ, WRITE]),
    row("subcluster size", "extended-l2", "header.cluster_bits", &[Is(13)], &[INFO, READ, WRITE]),
    row("bitmap directory size", "bitmaps", "ext[bitmaps].bitmap_directory_size", &[LONG, Is(1), Is(23), Is((64 << 20) + 8)], &[INFO, CHECK]),
    row("bitmap directory offset", "bitmaps", "ext[bitmaps].bitmap_directory_offset", &[Moved(512)], &[INFO]),
    row("bitmap count", "bitmaps", "ext[bitmaps].nb_bitmaps", &[Is(65536), Is(0), Max], &[INFO]),
    row("bitmap name length", "bitmaps", "bitmap[0].name_size", &[Is(1024)], &[INFO]),
    row("encryption header extension", "luks", "ext[encryption].encryption_offset", &[Moved(512)], &[INFO]),
    row("encryption header extension", "luks", "ext[encryption].encryption_length", &[LONG, Is(16)], &[INFO]),
    row("encryption key length", "luks", "luks.key_bytes", &[Is(65), Is(0)], &[INFO]),
    row("extension length with unknown features", "features", "ext[feature_names].length", &[LONG], &[INFO])
        .also(&[("header.incompatible_features.reserved", Is(1))]),

    // Clusters that are in use and said to be free, the first one among them.
    row("header said to be free", "plain", "refcount_block[0].entry[0]", &[Is(0)], &[WRITE_LAST, WRITE_PACKED, WRITE, TAKE]),
    row("refcount block missing, header said to be free", "plain", "refcount_table[0].offset", &[Is(0)], &[DISCARD, WRITE, TAKE]),
    row("refcount block missing, header said to be free", "wide-refcounts", "refcount_table[1].offset", &[Is(0)], &[DISCARD, WRITE_LAST])
        .also(&[("refcount_block[0].entry[0]", Is(0))]),
    // Data clusters of 'plain' and what is in front of them.
    row("entry that cannot be", "extended-l2", "l2[0].entry[1].subclusters", &[Max], &[WRITE, READ]),
    row("data cluster unaligned", "plain", "l2[0].entry[0].offset", &[Plus(512)], &[CHECK, WRITE_TWO, READ]),
    row("data cluster in front of the first", "plain", "l2[0].entry[0].offset", &[Is(512)], &[TAKE, DISCARD]),
    row("refcount of a data cluster", "plain", "l2[0].entry[0].offset", &[PastEnd(1)], &[DISCARD, WRITE, REPAIR]),
    row("refcount block past the end", "plain", "refcount_table[1].offset", &[LastCluster], &[REPAIR]),
    row("L2 table unaligned", "plain", "l1[0].offset", &[Plus(4096)], &[READ, WRITE, TAKE, DOWNGRADE]),
    row("zero cluster in version 2", "version-2", "l2[0].entry[0].zero", &[Is(1)], &[READ, WRITE]),
    row("refcount of a snapshot's cluster", "snapshots", "l2[0].entry[0].offset", &[PastEnd(0)], &[DELETE, TAKE]),
    row("bitmap table entry", "bitmaps", "bitmap[0].table[0].offset", &[Plus(512), PastEnd(1)], &[BITMAPS, REMOVE_BITMAP]),
    row("bitmap table entry", "bitmaps", "bitmap[0].table[0].reserved_low", &[Is(1)], &[BITMAPS]),
    row("bitmap table entry", "bitmaps", "bitmap[0].table[0].reserved_high", &[Is(1)], &[BITMAPS]),

    // Entries that point to other structures.
    row("data cluster over the refcount block", "plain", "l2[0].entry[0].offset", &[Of("refcount_table[0].offset")], &[DISCARD, WRITE, ZERO]),
    row("data cluster over the L2 table", "plain", "l2[0].entry[0].offset", &[Itself], &[DISCARD, WRITE, ZERO]),
    row("data cluster over the L1 table", "plain", "l2[0].entry[0].offset", &[Of("header.l1_table_offset")], &[DISCARD, WRITE]),
    row("data cluster over the refcount table", "plain", "l2[0].entry[0].offset", &[Of("header.refcount_table_offset")], &[DISCARD, WRITE]),
    row("L2 table over the refcount block", "plain", "l1[0].offset", &[Of("refcount_table[0].offset")], &[READ, WRITE, TAKE]),
    row("L2 table over the L1 table", "plain", "l1[0].offset", &[Itself, Is(0)], &[READ, WRITE, REPAIR]),
    row("refcount block over another", "plain", "refcount_table[0].offset", &[Itself, Of("l1[0].offset"), Plus(512)], &[WRITE, REPAIR, TAKE]),
    row("refcount block past the end", "plain", "refcount_table[1].offset", &[PastEnd(4)], &[REPAIR, WRITE_LAST]),
    row("refcount too high", "small-clusters", "refcount_table[0].offset", &[Of("l2[0].entry[0].offset")], &[WRITE, TAKE]),

    // Refcounts of clusters in use.
    row("refcount of a data cluster", "plain", "refcount(l2[0].entry[0].offset)", &[Is(0)], &[DISCARD, ZERO, WRITE_LAST]),
    row("refcount of a shared cluster", "snapshots", "refcount(l2[0].entry[0].offset)", &[Max, Is(0)], &[TAKE, DELETE, APPLY]),
    row("refcount of tables", "plain", "refcount(header.l1_table_offset)", &[Is(0)], &[WRITE_LAST, TAKE, GROW]),
    row("refcount of tables", "plain", "refcount(l1[0].offset)", &[Is(0), Max], &[WRITE_LAST, TAKE]),
    row("refcount of tables", "plain", "refcount(refcount_table[0].offset)", &[Is(0)], &[WRITE_LAST, DISCARD, REPAIR]),
    row("refcount of tables", "plain", "refcount(header.refcount_table_offset)", &[Is(0)], &[WRITE_LAST, WIDTH]),

    // Snapshots.
    row("snapshot L1 table size", "snapshots", "snapshot[0].l1_size", &[Is(0), LONG, Max], &[APPLY, DELETE, CHECK]),
    row("snapshot L1 table offset", "snapshots", "snapshot[0].l1_table_offset", &[Plus(512), Is(0), PastEnd(1)], &[APPLY, DELETE]),
    row("snapshot disk size", "snapshots", "snapshot[0].disk_size", &[Is(0), Is(513), Max], &[APPLY, FROM_SNAPSHOT]),
    row("snapshot L2 table unaligned", "large-snapshots", "snapshot[0].l1[0].offset", &[Plus(4096), Itself], &[APPLY, DELETE, DOWNGRADE]),
    row("snapshot extra data", "snapshots", "snapshot[0].extra_data_size", &[Is(0), Is(1), Is(15)], &[INFO, TAKE]),
    row("snapshot name length", "snapshots", "snapshot[0].name_size", &[Max], &[INFO, TAKE]),

    // Compressed clusters, the data file, the machine's state.
    row("compressed cluster past the end", "compressed", "l2[0].entry[0].compressed_offset", &[PastEnd(1), Is(0), Max], &[READ, CHECK, TAKE]),
    row("compressed cluster length", "compressed", "l2[0].entry[0].sectors", &[Is(0), Max], &[READ, WRITE]),
    row("data file name length", "data-file", "ext[data_file].text", &[Letters(1023), Letters(257), Letters(0)], &[INFO, READ]),
    row("data file entry", "data-file", "l2[0].entry[0].offset", &[Clusters(1), Plus(512)], &[CHECK, READ, WRITE]),
    row("data file entry", "data-file", "l2[0].entry[0].compressed", &[Is(1)], &[CHECK, READ]),
    row("reserved bits", "plain", "l2[0].entry[0].reserved_low", &[Is(1)], &[CHECK, READ, REPAIR]),
    row("reserved bits", "plain", "l1[0].reserved_low", &[Is(1)], &[CHECK, READ, REPAIR]),
    row("reserved bits", "plain", "refcount_table[0].reserved", &[Is(1)], &[CHECK, WRITE, REPAIR]),
    row("file length", "plain", FILE_LENGTH, &[Is(104), Plus(-512)], &[INFO, CHECK]),
];

/// The other limits.
#[rustfmt::skip]
pub(super) const SECOND: &[Row] = &[
    row("version", "plain", "header.version", &[Is(0), Is(1), Is(4), Max], &[INFO]),
    row("cluster size", "plain", "header.cluster_bits", &[Is(0), Is(9), Is(21), Is(31), Is(63), Max], &[INFO, READ, WRITE]),
    row("refcount order", "plain", "header.refcount_order", &[Is(0), Is(6), Is(8), Is(31), Is(32), Max], &[INFO, WRITE]),
    row("header length", "plain", "header.header_length", &[Is(0), Is(72), Is(103), Is(104), Is(105), Clusters(1), Plus(8), Max, Is(GIB)], &[INFO, REBASE]),
    row("L1 table size", "plain", "header.l1_size", &[Is(1), Is((32 << 20) / 8), Is(0x1000_0000), Is(0x7fff_ffff), Is(0x8000_0000), Max], &[INFO, GROW]),
    row("L1 table offset", "plain", "header.l1_table_offset", &[Moved(512), Moved(8), Is(0), PastEnd(0), PastEnd(1 << 20), LastCluster, Is((1 << 63) - 16384)], &[INFO, READ, WRITE, REPAIR]),
    row("refcount table offset", "plain", "header.refcount_table_offset", &[Moved(512), Is(0), PastEnd(0), LastCluster, Is((1 << 63) - 16384), Of("header.l1_table_offset")], &[INFO, WRITE, REPAIR, WIDTH]),
    row("refcount table size", "wide-refcounts", "header.refcount_table_clusters", &[Is(1), Is(2), Plus(1), Holding(8 << 20), Max, Is(1 << 26)], &[INFO, WRITE_LAST, REPAIR]),
    row("snapshot table offset", "snapshots", "header.snapshots_offset", &[Is(0), PastEnd(0), LastCluster, Is((1 << 63) - 4096), Plus(1), Plus(8), Of("header.l1_table_offset")], &[INFO, TAKE, DELETE]),
    row("snapshot count", "snapshots", "header.nb_snapshots", &[Is(0), Plus(1), Is(40), Is(0x8000_0000), Is(0x0100_0000)], &[INFO, TAKE, REPAIR]),
    row("disk size", "plain", "header.size", &[Is(0), Is(1), Plus(1), Plus(512), Max, Is((1 << 63) - 512), Is(1 << 62), L1Entries((1 << 31) - 1), L1Entries(1 << 32)], &[INFO, MAP, WRITE_LAST, CHECK]),
    row("disk size against bitmaps", "bitmaps", "header.size", &[Is(512), Is(80 << 20), L1Entries(1 << 31), Is(1 << 40)], &[INFO, BITMAPS, ADD_BITMAP]),
    row("encryption method", "plain", "header.crypt_method", &[Is(1), Is(2), Is(3), Max], &[INFO, READ]),
    row("encryption method", "luks", "header.crypt_method", &[Is(0), Is(1), Max], &[INFO, READ]),
    row("compression type", "compressed", "header.compression_type", &[Is(1), Is(2), Max], &[INFO, READ])
        .also(&[("header.incompatible_features.compression", Is(1))]),
    row("compression type", "compressed", "header.compression_type", &[Is(1)], &[INFO, READ]),
    row("feature bits", "plain", "header.incompatible_features.data_file", &[Is(1)], &[INFO, READ]),
    row("feature bits", "plain", "header.incompatible_features.corrupt", &[Is(1)], &[INFO, WRITE, REPAIR]),
    row("feature bits", "plain", "header.incompatible_features.extended_l2", &[Is(1)], &[INFO, READ, WRITE, CHECK]),
    row("feature bits", "plain", "header.incompatible_features.dirty", &[Is(1)], &[INFO, WRITE, TAKE]),
    row("feature bits", "plain", "header.incompatible_features.reserved", &[Is(1), Max], &[INFO]),
    row("feature bits", "extended-l2", "header.incompatible_features.extended_l2", &[Is(0)], &[READ, WRITE, REPAIR]),
    row("feature bits", "data-file", "header.incompatible_features.data_file", &[Is(0)], &[READ, WRITE, REPAIR]),
    row("feature bits", "bitmaps", "header.autoclear_features.bitmaps", &[Is(0)], &[INFO, REPAIR, REMOVE_BITMAP]),
    row("feature bits", "plain", "header.autoclear_features.raw_data_file", &[Is(1)], &[INFO, WRITE]),
    row("backing file name", "backing", "header.backing_file_size", &[Is(0), Is(1023), Is(1022), Is(0x7fff_ffff), Is(GIB)], &[INFO, REBASE]),
    row("backing file name", "backing", "header.backing_file_offset", &[Is(1), Is(112), Clusters(1), Clusters(2), Max, Is(1 << 63)], &[INFO, REBASE]),

    row("extension length", "features", "ext[unknown].length", &[Is(0), Plus(1), Clusters(1), Is(0xffff_fff8), Max, Is(GIB)], &[INFO, REBASE]),
    row("extension length", "features", "ext[feature_names].length", &[Is(0), Is(1), Is(47), Is(49), Clusters(1), LONG, Max], &[INFO]),
    row("extension length", "data-file", "ext[data_file].length", &[Is(0), Is(1), LONG, Max], &[INFO, READ]),
    row("backing format length", "backing", "ext[backing_format].length", &[Is(0), Is(15), Is(17), Is(300), Is(1024), Max, LONG], &[INFO, REBASE]),
    row("bitmaps extension length", "bitmaps", "ext[bitmaps].length", &[Is(0), Is(16), Is(23), Is(25), LONG], &[INFO]),
    row("bitmaps extension", "bitmaps", "ext[bitmaps].reserved", &[Is(1)], &[INFO]),
    row("bitmap count", "bitmaps", "ext[bitmaps].nb_bitmaps", &[Plus(1), Plus(-1), Is(65535), Is(0x8000_0000)], &[INFO, CHECK]),
    row("bitmap directory size", "bitmaps", "ext[bitmaps].bitmap_directory_size", &[
        Is(0), Is(2), Is(7), Is(8), Is(15), Is(16), Is(22), Is(24), Is(25), Is(30), Is(31), Is(32), Plus(8), Plus(-8), Is(64 << 20), Is(GIB), Max], &[INFO, CHECK, ADD_BITMAP]),
    row("bitmap directory offset", "bitmaps", "ext[bitmaps].bitmap_directory_offset", &[Is(0), PastEnd(0), LastCluster, Is((1 << 63) - 4096), Of("header.l1_table_offset")], &[INFO, CHECK, REMOVE_BITMAP]),
    row("bitmap table size", "bitmaps", "bitmap[0].table_size", &[Is(0), Plus(-1), Is(512), Is(0x8000_0000), Is(8 << 20), Max, LONG], &[CHECK, BITMAPS, REMOVE_BITMAP]),
    row("bitmap table size", "bitmaps", "bitmap[0].table_size", &[Is(0), Is(1), Plus(1), Is(8 << 20)], &[CHECK, ADD_BITMAP, REMOVE_BITMAP])
        .also(&[("bitmap[0].flags.in_use", Is(1))]),
    row("bitmap table offset", "bitmaps", "bitmap[0].table_offset", &[Moved(512), Moved(8), Is(0), PastEnd(0), LastCluster, Of("header.l1_table_offset")], &[CHECK, BITMAPS, REMOVE_BITMAP]),
    row("bitmap granularity", "bitmaps", "bitmap[0].granularity_bits", &[Is(0), Is(10), Is(31), Is(64), Max], &[INFO, BITMAPS, ADD_BITMAP]),
    row("bitmap type", "bitmaps", "bitmap[0].type", &[Is(0), Is(2), Max], &[INFO]),
    row("bitmap flags", "bitmaps", "bitmap[0].flags.in_use", &[Is(1)], &[INFO, BITMAPS, REMOVE_BITMAP]),
    row("bitmap flags", "bitmaps", "bitmap[0].flags.reserved", &[Is(1), Max], &[INFO]),
    row("bitmap name length", "bitmaps", "bitmap[0].name_size", &[Is(0), Plus(1), Plus(-1), Is(1023), Is(1024), Max], &[INFO, ADD_BITMAP]),
    row("bitmap extra data", "bitmaps", "bitmap[0].extra_data_size", &[Is(1), Is(8), Max, LONG], &[INFO, CHECK]),
    row("bitmap table entry", "bitmaps", "bitmap[0].table[0].all_ones", &[Is(1)], &[CHECK, BITMAPS]),
    row("bitmap table entry", "bitmaps", "bitmap[0].table[0].offset", &[Is(0), LastCluster, Of("header.l1_table_offset"), Of("refcount_table[0].offset")], &[CHECK, BITMAPS, REMOVE_BITMAP]),

    row("encryption header extension", "luks", "ext[encryption].length", &[Is(0), Is(8), Is(15), Is(17), Is(1024), LONG], &[INFO]),
    row("encryption header extension", "luks", "ext[encryption].encryption_offset", &[Is(0), PastEnd(0), LastCluster, Plus(1)], &[INFO, READ]),
    row("encryption header extension", "luks", "ext[encryption].encryption_length", &[Is(0), Is(1), Is(592), Plus(-1), Max, LONG], &[INFO, READ, CHECK]),
    row("data file name length", "data-file", "ext[data_file].text", &[Letters(0), Letters(1), Letters(256), Letters(255), Letters(1024), Letters(4096)], &[INFO, READ]),

    row("snapshot extra data", "snapshots", "snapshot[0].extra_data_size", &[Is(8), Is(16), Is(23), Is(25), Is(1024), Is(GIB), Is(0x7fff_ffff), Max], &[INFO, TAKE, REPAIR]),
    row("snapshot ID length", "snapshots", "snapshot[0].id_size", &[Is(0), Plus(1), Is(256), Max], &[INFO, TAKE, APPLY]),
    row("snapshot name length", "snapshots", "snapshot[0].name_size", &[Is(0), Plus(1), Is(256)], &[INFO, TAKE]),
    row("snapshot L1 table size", "snapshots", "snapshot[0].l1_size", &[Plus(1), Plus(-1), Is((32 << 20) / 8), Is((32 << 20) / 8 + 1), Is(0x8000_0000)], &[APPLY, DELETE, DOWNGRADE, FROM_SNAPSHOT]),
    row("snapshot L1 table offset", "snapshots", "snapshot[0].l1_table_offset", &[Of("header.l1_table_offset"), Moved(512), Of("l1[0].offset"), Of("refcount_table[0].offset"), Of("header.snapshots_offset"), LastCluster, Is((1 << 63) - 4096)], &[APPLY, DELETE, REPAIR, DOWNGRADE]),
    row("snapshot disk size", "snapshots", "snapshot[0].disk_size", &[Plus(512), Is(512), Is(1 << 40), Is((1 << 63) - 512)], &[APPLY, FROM_SNAPSHOT]),
    row("snapshot machine state size", "snapshots", "snapshot[1].vm_state_size_large", &[Is(0), Is(1 << 40), Max], &[INFO, APPLY]),
    row("snapshot L2 entry", "large-snapshots", "snapshot[0].l2[0].entry[0].offset", &[Is(512), Plus(512), Of("refcount_table[0].offset"), PastEnd(1), Of("header.l1_table_offset")], &[DELETE, APPLY, DOWNGRADE, FROM_SNAPSHOT]),

    row("L2 table unaligned", "plain", "l1[0].offset", &[Plus(512), Plus(8192), PastEnd(0), LastCluster, Is(4096), Of("header.refcount_table_offset"), Of("l2[0].entry[0].offset"), Of("l1[1].offset")], &[READ, WRITE, TAKE, REPAIR]),
    row("L2 table unaligned", "extended-l2", "l1[0].offset", &[Plus(4096), Plus(512)], &[READ, WRITE, ZERO, DISCARD]),
    row("data cluster elsewhere", "plain", "l2[0].entry[0].offset", &[Is(0), Is(1024), PastEnd(0), PastEnd(1 << 20), LastCluster, Of("l2[0].entry[1].offset"), Of("l1[1].offset")], &[READ, WRITE, DISCARD, TAKE]),
    row("preallocated zero cluster elsewhere", "plain", "l2[0].entry[3].offset", &[Plus(512), Is(512), Of("refcount_table[0].offset"), Of("header.l1_table_offset"), PastEnd(1)], &[READ, WRITE, ZERO, DOWNGRADE]),
    row("zero cluster with an offset", "plain", "l2[0].entry[2].offset", &[Is(512), Of("refcount_table[0].offset"), Is(1 << 20)], &[READ, WRITE, DISCARD, DOWNGRADE]),
    row("flag COPIED", "plain", "l2[0].entry[0].copied", &[Is(0)], &[WRITE, DISCARD, REPAIR]),
    row("flag COPIED", "plain", "l1[0].copied", &[Is(0)], &[WRITE, DISCARD, REPAIR]),
    row("flag COPIED", "snapshots", "l2[0].entry[0].copied", &[Is(1)], &[WRITE, REPAIR]),
    row("L2 table without COPIED and unaligned", "plain", "l1[0].offset", &[Plus(4096), Plus(512), Of("refcount_table[0].offset")], &[WRITE, DISCARD])
        .also(&[("l1[0].copied", Is(0))]),
    row("reserved bits", "plain", "l2[0].entry[0].reserved_high", &[Is(1), Max], &[CHECK, READ, WRITE]),
    row("reserved bits", "plain", "l1[0].reserved_high", &[Is(1), Max], &[CHECK, READ, WRITE]),
    row("subclusters", "extended-l2", "l2[0].entry[0].subclusters_zero", &[Is(1), Max], &[READ, WRITE, DISCARD, CHECK]),
    row("subclusters", "extended-l2", "l2[0].entry[2].subclusters_allocated", &[Is(1), Max], &[READ, WRITE, ZERO, CHECK]),
    row("subclusters", "extended-l2", "l2[0].entry[1].offset", &[Is(0), Plus(512), Is(512), PastEnd(1)], &[READ, WRITE, ZERO, TAKE]),
    row("subclusters of a compressed cluster", "extended-l2", "l2[0].entry[4].subclusters", &[Is(1), Is(1 << 32), Max], &[READ, WRITE, CHECK]),
    row("subclusters of a compressed cluster", "extended-l2", "l2[0].entry[1].compressed", &[Is(1)], &[READ, WRITE, DISCARD, CHECK]),
    row("compressed cluster elsewhere", "compressed", "l2[0].entry[0].compressed_offset", &[Plus(1), Plus(-1), PastEnd(0), Of("header.l1_table_offset"), Of("refcount_table[0].offset")], &[READ, DISCARD, REPAIR, TAKE]),
    row("compressed cluster in version 2", "version-2", "l2[0].entry[2].compressed_offset", &[PastEnd(0), Is(0), Max], &[READ, DISCARD, REPAIR]),

    row("refcount block", "plain", "refcount_table[0].offset", &[Of("header.l1_table_offset"), Is(512), Plus(4096), PastEnd(0), PastEnd(1), LastCluster], &[WRITE_LAST, DISCARD, REPAIR, WIDTH]),
    row("refcount block", "wide-refcounts", "refcount_table[1].offset", &[Of("refcount_table[0].offset"), Is(0), Is(512), PastEnd(1), LastCluster], &[WRITE_LAST, DISCARD, REPAIR, LEAKS]),
    row("refcount block", "wide-refcounts", "refcount_table[0].offset", &[Of("refcount_table[1].offset"), Itself, Is(0)], &[WRITE_LAST, DISCARD, REPAIR]),
    row("refcount table entry", "wide-refcounts", "refcount_table[3].offset", &[Is(512), PastEnd(0), LastCluster], &[WRITE_LAST, REPAIR, WIDTH]),
    row("refcount of tables", "wide-refcounts", "refcount_block[0].entry[0]", &[Is(0), Max], &[WRITE_LAST, TAKE, DISCARD]),
    row("refcount of tables", "wide-refcounts", "refcount(header.l1_table_offset)", &[Is(0), Max], &[WRITE_LAST, TAKE]),
    row("refcount of tables", "small-clusters", "refcount_block[0].entry[0]", &[Is(0)], &[WRITE_LAST, TAKE, GROW]),
    row("refcount of tables", "small-clusters", "refcount(header.l1_table_offset)", &[Is(0)], &[WRITE_LAST, WRITE, GROW]),
    row("refcount of tables", "bitmaps", "refcount_block[0].entry[0]", &[Is(0)], &[ADD_BITMAP, WRITE_LAST]),
    row("refcount of tables", "compressed", "refcount_block[0].entry[0]", &[Is(0)], &[WRITE_PACKED, WRITE_LAST, TAKE, GROW]),
    row("refcount of tables", "extended-l2", "refcount_block[0].entry[0]", &[Is(0)], &[WRITE_LAST, WRITE]),
    row("refcount of tables", "version-2", "refcount_block[0].entry[0]", &[Is(0)], &[WRITE_PACKED, WRITE, TAKE]),
    row("refcount of a compressed cluster", "compressed", "refcount(l2[0].entry[0].compressed_offset)", &[Is(0), Max], &[WRITE, DISCARD, TAKE]),

    row("file length", "plain", FILE_LENGTH, &[Is(0), Is(4), Is(103), Is(512), Plus(1), Is(16 << 30)], &[INFO, CHECK, READ]),
    row("more clusters than can be counted", "small-clusters", FILE_LENGTH, &[Is((1 << 40) + 512)], &[CHECK]),
    row("offset bits", "plain", "l2[0].entry[0].offset", &[Flip(1 << 55), Flip(1 << 40), Flip(1 << 47)], &[READ, WRITE, CHECK, CONVERT]),
];

/// The commands that reach the fields of a structure.
pub(super) fn commands_for(structure: &str) -> &'static [&'static str] {
    match structure {
        "header" => &[INFO, READ, WRITE],
        "refcount_table" | "refcount_block" => &[WRITE_LAST, REPAIR],
        "l1" | "l2" => &[READ, WRITE, DISCARD, TAKE],
        "snapshot" => &[INFO, APPLY, DELETE],
        "bitmap" | "bitmap_table" => &[CHECK, BITMAPS, REMOVE_BITMAP],
        _ => &[INFO, READ],
    }
}
