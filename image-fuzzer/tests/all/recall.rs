//! Past bugs in the image formats of QEMU: the fuzzer can draw each of their triggers. For every
//! row images are drawn until one has the field, the value and the command. Those of other formats than qcow2 are in `recall/formats.rs`.

mod devices;
mod formats;

use image_formats::Value;
use image_formats::qcow2::Content;
use image_fuzzer::commands::{self, Command};
use image_mutations::base::{self, BACKING_FILE, Qcow2Base};
use image_mutations::case::{Maker, apply};
use image_mutations::edit::{Edit, Extension};
use image_mutations::map::Map;
use image_mutations::mutate::{self, Intensity};
use image_mutations::rng::Rng;

/// What a drawn test consists of.
struct Drawn<'a, B = Qcow2Base> {
    base: &'a B,
    map: &'a Map,
    edits: &'a [Edit],
}

impl<B> Drawn<'_, B> {
    /// Whether a field whose path is like `pattern` (`*` for any index) gets a
    /// value that `wanted` accepts.
    fn sets(&self, pattern: &str, wanted: impl Fn(u64) -> bool) -> bool {
        self.edits.iter().any(|edit| match edit {
            Edit::Set { path, value } => like(path, pattern) && wanted(value.0),
            _ => false,
        })
    }

    /// Whether bytes that are such a text are written.
    fn writes(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.edits.iter().any(|edit| match edit {
            Edit::Bytes { bytes, .. } => wanted(&String::from_utf8_lossy(&bytes.0)),
            _ => false,
        })
    }

    fn number(&self, path: &str) -> u64 {
        self.map.number(path).unwrap_or(0)
    }
}

impl Drawn<'_> {
    /// The lists of header extensions that are written.
    fn extensions(&self) -> impl Iterator<Item = &[Extension]> {
        self.edits.iter().filter_map(|edit| match edit {
            Edit::Extensions { list } => Some(list.as_slice()),
            _ => None,
        })
    }

    /// Whether an extension of that type is written with such data.
    fn names(&self, magic: u64, wanted: impl Fn(&str) -> bool) -> bool {
        self.extensions().flatten().any(|extension| {
            let text = String::from_utf8_lossy(&extension.data.0);
            extension.magic.0 == magic && wanted(&text)
        })
    }

    fn cluster(&self) -> u64 {
        self.map.cluster
    }

    /// Whether a table entry gets an offset that is not aligned to clusters.
    fn unaligned(&self, pattern: &str) -> bool {
        self.sets(pattern, |offset| offset % self.cluster() != 0)
    }
}

/// Whether `path` is `pattern` with an index for each `*`.
fn like(path: &str, pattern: &str) -> bool {
    let mut rest = path;
    let mut parts = pattern.split('*');
    let Some(first) = parts.next() else {
        return false;
    };
    let Some(after) = rest.strip_prefix(first) else {
        return false;
    };
    rest = after;
    for part in parts {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        match rest[digits..].strip_prefix(part) {
            Some(after) if digits > 0 => rest = after,
            _ => return false,
        }
    }
    rest.is_empty()
}

/// A past bug: where it is described, what triggers it, the command that showed it.
struct Row {
    reference: &'static str,
    trigger: &'static str,
    found: fn(&Drawn<'_>) -> bool,
    command: &'static str,
}

const fn row(
    reference: &'static str,
    trigger: &'static str,
    command: &'static str,
    found: fn(&Drawn<'_>) -> bool,
) -> Row {
    Row {
        reference,
        trigger,
        found,
        command,
    }
}

const DATA_FILE: u64 = 0x4441_5441;
const BACKING_FORMAT: u64 = 0xe279_2aca;
const FEATURE_NAMES: u64 = 0x6803_f857;
const INT_MAX: u64 = 0x7fff_ffff;

/// The table. Commands are matched by how they begin; `qemu-io X` by an operation.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("CVE-2014-0144 24342f2cae", "header_length beyond the cluster", "qemu-img info",
        |d| d.sets("header.header_length", |v| v > d.cluster())),
    row("CVE-2014-0144 a1b3955c94", "backing_file_offset beyond the cluster", "qemu-img info",
        |d| d.sets("header.backing_file_offset", |v| v > d.cluster())),
    row("CVE-2014-0144 2ebafc854d", "length of an extension near 2^32", "qemu-img info",
        |d| d.sets("ext[*].length", |v| v >= 0xffff_fff8)
            || d.extensions().flatten().any(|e| e.length.0 >= 0xffff_fff8)),
    row("CVE-2014-0144 5dab2faddc", "refcount table over 8 MiB", "qemu-img info",
        |d| d.sets("header.refcount_table_clusters", |v| v > (8 << 20) / d.cluster())),
    row("8c7de28305", "refcount_table_offset unaligned", "qemu-img info",
        |d| d.unaligned("header.refcount_table_offset")),
    row("8c7de28305", "refcount_table_offset near 2^63", "qemu-img info",
        |d| d.sets("header.refcount_table_offset", |v| v >= i64::MAX as u64 - 4096)),
    row("951053a9ec", "refcount_table_clusters = 0", "qemu-img check -r",
        |d| d.sets("header.refcount_table_clusters", |v| v == 0)),
    row("CVE-2014-0144 ce48f2f441", "nb_snapshots over 65536", "qemu-img info",
        |d| d.sets("header.nb_snapshots", |v| v > 65536)),
    row("CVE-2014-0144 ce48f2f441", "snapshots_offset unaligned", "qemu-img info",
        |d| d.unaligned("header.snapshots_offset")),
    row("CVE-2014-0144 5dae6e30c5", "a snapshot's extra_data_size over 1024", "qemu-img snapshot -l",
        |d| d.sets("snapshot[*].extra_data_size", |v| v > 1024)),
    row("CVE-2014-0144 2d51c32c4b", "l1_size over 32 MiB", "qemu-img info",
        |d| d.sets("header.l1_size", |v| v > (32 << 20) / 8)),
    row("CVE-2014-0144 2d51c32c4b", "l1_table_offset unaligned", "qemu-img info",
        |d| d.unaligned("header.l1_table_offset")),
    row("CVE-2014-0143 db8a31d11d", "host offset far beyond the refcount table", "qemu-io write",
        |d| d.sets("l2[*].entry[*].offset", |v| v >= 1 << 50)),
    row("CVE-2014-0143 cab60de930", "l1_size negative as int", "qemu-img resize",
        |d| d.sets("header.l1_size", |v| v > INT_MAX)),
    row("CVE-2014-0143 6a83f8b5be", "a snapshot's l1_size over 32 MiB", "qemu-img convert",
        |d| d.sets("snapshot[*].l1_size", |v| v > (32 << 20) / 8)),
    row("CVE-2014-0145 c05e4667be", "a snapshot's L1 larger than the active one", "qemu-img snapshot -a",
        |d| d.sets("snapshot[*].l1_size", |v| v > d.number("header.l1_size"))),
    row("CVE-2014-0146 11b128f406", "snapshots claimed where there are none", "qemu-img info",
        |d| d.base.image.snapshots.is_empty() && d.sets("header.nb_snapshots", |v| v > 0)),
    row("CVE-2014-0147 b106ad9185", "L2 entry past the refcount blocks", "qemu-img snapshot -c",
        |d| d.sets("l2[*].entry[*].offset", |v| v > d.map.file_len && v % d.cluster() == 0)),
    row("6d33e8e7dc", "backing_file_size over 1023", "qemu-img info",
        |d| d.sets("header.backing_file_size", |v| v > 1023)),
    row("6d33e8e7dc", "backing_file_size negative as int", "qemu-img info",
        |d| d.sets("header.backing_file_size", |v| v > INT_MAX)),
    row("LP 1728615, 6bf45d59f9", "refcount 0 of a cluster in use", "qemu-io write",
        |d| d.sets("refcount_block[*].entry[*]", |v| v == 0)),
    row("LP 1728635, 9883975050", "refcount 0 of the header's cluster", "qemu-io write",
        |d| d.sets("refcount_block[0].entry[0]", |v| v == 0)),
    row("LP 1728639, 8aa34834d5", "refcount table without its first block", "qemu-io write",
        |d| d.sets("refcount_table[0].offset", |v| v == 0)),
    row("LP 1728643", "refcount too high", "qemu-img check -r",
        |d| d.sets("refcount_block[*].entry[*]", |v| v > 1)),
    row("LP 1728657 LP 1728660", "no cluster counted at all, so that any is handed out", "qemu-io write",
        |d| {
            let zeroed = |edit: &&Edit| matches!(edit, Edit::Set { path, value }
                if like(path, "refcount_block[*].entry[*]") && value.0 == 0);
            d.edits.iter().filter(zeroed).count() >= 4 && d.sets("refcount_block[0].entry[0]", |v| v == 0)
        }),
    row("93bbaf03ff", "allocated zero cluster unaligned", "qemu-io write",
        |d| d.edits.iter().any(|edit| match edit {
            Edit::Set { path, value } => like(path, "l2[*].entry[*].offset")
                && value.0 % d.cluster() != 0
                && d.number(&path.replace(".offset", ".zero")) == 1,
            _ => false,
        })),
    row("4efb1f7c61", "L2 table unaligned", "qemu-io read",
        |d| d.unaligned("l1[*].offset")),
    row("4efb1f7c61 a97c67ee6c", "refcount block unaligned", "qemu-io write",
        |d| d.unaligned("refcount_table[*].offset")),
    row("LP 1728661 23482f8a60", "cluster index beyond the refcount table", "qemu-img check -r",
        |d| d.sets("l1[*].offset", |v| v >= 1 << 48)),
    row("d470ad42ac", "data cluster over the L1 table", "qemu-io write",
        |d| d.sets("l2[*].entry[*].offset", |v| v == d.number("header.l1_table_offset"))),
    row("791fff504c", "dirty bit, then repair", "qemu-img check -r",
        |d| d.sets("header.incompatible_features.dirty", |v| v == 1)),
    row("db5794f1f1", "a snapshot's L1 table unaligned", "qemu-img snapshot -d",
        |d| d.unaligned("snapshot[*].l1_table_offset")),
    row("a8475d7573", "a snapshot's L1 table past the end", "qemu-img snapshot -a",
        |d| d.sets("snapshot[*].l1_table_offset", |v| v > d.map.file_len)),
    row("0c2ada8136", "a snapshot's l1_size wrong", "qemu-img check",
        |d| d.sets("snapshot[*].l1_size", |v| v > 1 << 22)),
    row("099febf3ac", "a snapshot without its extra data", "qemu-img check -r",
        |d| d.sets("snapshot[*].extra_data_size", |v| v < 16)),
    row("d2b1d1ec73 f91f1f159b", "more snapshots than the table has", "qemu-img check -r",
        |d| !d.base.image.snapshots.is_empty()
            && d.sets("header.nb_snapshots", |v| v > d.base.image.snapshots.len() as u64)),
    row("a5fff8d4b4", "reference far past the end of file", "qemu-img check",
        |d| d.sets("l2[*].entry[*].offset", |v| v >= 1 << 40)),
    row("c2551b47c9", "a disk of 2^32 clusters", "qemu-img check",
        |d| d.sets("header.size", |v| v >= d.cluster() << 32)),
    row("2cf7cfa1cd", "size that overflows the L1 index", "qemu-img info",
        |d| d.sets("header.size", |v| v >= 1 << 62)),
    row("33304ec9fa", "cluster_bits over 17", "qemu-io write",
        |d| d.base.image.cluster_bits > 17),
    row("d1b9d19f99", "clusters of 2 MiB over a backing file", "qemu-io write",
        |d| d.base.image.cluster_bits == 21 && d.base.image.backing.is_some()),
    row("348fcc4f7a", "cluster_bits of 31 and more", "qemu-img info",
        |d| d.sets("header.cluster_bits", |v| v >= 31)),
    row("78a52ad5ac", "a normal cluster before a compressed one", "qemu-io read",
        |d| d.base.image.clusters.windows(2).any(|pair| {
            pair[0].index + 1 == pair[1].index
                && matches!(pair[0].content, Content::Data(_))
                && matches!(pair[1].content, Content::Compressed(_))
        })),
    row("77d6a21558", "compressed data at the end of the address space", "qemu-img convert",
        |d| d.sets("l2[*].entry[*].compressed_offset", |v| v >= 1 << 48)),
    row("570542ecb1", "bitmap granularity over 32 KiB, clusters of 2 MiB", "qemu-img info",
        |d| d.base.image.cluster_bits == 21
            && d.base.image.bitmaps.iter().any(|bitmap| bitmap.granularity_bits > 15)),
    row("ff52aab2df", "L1 entry with the flag copied and offset 0", "qemu-img check",
        |d| d.sets("l1[*].offset", |v| v == 0)),
    row("c6d619cc12", "L2 entry with the flag copied and offset 0", "qemu-io read",
        |d| d.sets("l2[*].entry[*].offset", |v| v == 0)),
    row("8e4ffb4ef4", "LUKS without its header extension", "qemu-img info",
        |d| d.sets("header.crypt_method", |v| v == 2)),
    row("38f034e728", "two feature name tables", "qemu-img info",
        |d| d.extensions().any(|list| {
            list.iter().filter(|e| e.magic.0 == FEATURE_NAMES).count() > 1
        })),
    row("CVE-2024-4467 bd385a5298", "data file name that is a json: object", "qemu-img info",
        |d| d.names(DATA_FILE, |name| name.starts_with("json:{"))
            && d.sets("header.incompatible_features.data_file", |v| v == 1)),
    row("CVE-2024-32498", "data file name that is a path", "qemu-img info",
        |d| d.names(DATA_FILE, |name| name.starts_with('/') || name.starts_with("../"))
            && d.sets("header.incompatible_features.data_file", |v| v == 1)),
    row("CVE-2024-4467 7ead946998 2e909d7ca9", "data file name that is a protocol", "qemu-img info",
        |d| d.names(DATA_FILE, |name| name.starts_with("nbd:") || name.starts_with("nbd+unix:"))),
    row("CVE-2024-44082 CVE-2008-2004", "backing format that is not the file's", "qemu-img convert",
        |d| d.base.backing.as_ref().is_some_and(|backing| {
            d.names(BACKING_FORMAT, |name| !name.is_empty() && name != backing.format())
        })),
    row("ddf3b47ef4", "an image that is marked corrupt", "qemu-img check -r",
        |d| d.sets("header.incompatible_features.corrupt", |v| v == 1)),
    row("CVE-2015-5163 CVE-2024-40767", "backing file name that is a path", "qemu-img convert",
        |d| d.writes(|name| name.starts_with('/') || name.starts_with("../"))
            && d.sets("header.backing_file_offset", |_| true)),
    row("CVE-2015-1851 CVE-2022-47951", "backing file name that is a protocol", "qemu-img convert",
        |d| d.writes(|name| name.starts_with("nbd:") || name.starts_with("json:"))),
    row("CVE-2015-5162", "tables as large as readers allow", "qemu-img info",
        |d| d.sets("header.l1_size", |v| v == (32 << 20) / 8)),
    row("9631c7822e", "subclusters both allocated and zero", "qemu-img check",
        |d| d.sets("l2[*].entry[*].subclusters", |v| v & v >> 32 & 0xffff_ffff != 0)),
    row("98bc07d6cd", "reserved bits of an L1 entry", "qemu-img check",
        |d| d.sets("l1[*]", |v| v & 0x1ff != 0)),
    row("289ef5f219", "reserved bits of an L2 entry", "qemu-img check",
        |d| d.sets("l2[*].entry[*]", |v| v & 0x1fe != 0)),
    row("8fba395151", "reserved bits of a refcount table entry", "qemu-img check",
        |d| d.sets("refcount_table[*]", |v| v & 0x1ff != 0)),
    row("6882c8fa78", "L2 table past the end of file", "qemu-img check",
        |d| d.sets("l1[*].offset", |v| v > d.map.file_len)),
    row("0e4e4318ea", "bitmap directory over another structure", "qemu-img bitmap",
        |d| d.sets("ext[*].bitmap_directory_offset", |v| v < d.map.file_len)),
    row("bf5f0cf5d8", "bitmap in use, of a disk that was resized", "qemu-img check",
        |d| d.base.image.bitmaps.iter().any(|bitmap| bitmap.in_use)
            && d.sets("header.size", |_| true)),
    row("b03dd9613b 7eb24009db", "a bitmap's table entry past the end", "qemu-img bitmap",
        |d| d.sets("bitmap[*].table[*].offset", |v| v > d.map.file_len)),
    row("5b84106bd9", "a dirty image with wrong refcounts", "qemu-io write",
        |d| d.sets("header.incompatible_features.dirty", |v| v == 1)),
    row("cf93980e77", "refcount block over the L1 table", "qemu-io write",
        |d| d.sets("refcount_table[*].offset", |v| v == d.number("header.l1_table_offset"))),
    row("c9a442e450", "a snapshot's L1 table unaligned, its zero clusters expanded", "qemu-img amend",
        |d| d.unaligned("snapshot[*].l1_table_offset") && d.base.image.version == 3),
    row("314e8d3928", "a snapshot's L1 table unaligned, read from", "qemu-img convert",
        |d| d.unaligned("snapshot[*].l1_table_offset")),
    row("c7a9d81d70 7cb6d3c9be", "data cluster over a snapshot's L1 table", "qemu-io write",
        |d| d.sets("l2[*].entry[*].offset", |v| {
            v != 0 && v == d.number("snapshot[0].l1_table_offset")
        })),
    row("3cce51c919 7e3e736cbd", "flag copied of an L2 entry wrong", "qemu-img check -r",
        |d| d.sets("l2[*].entry[*].copied", |_| true)),
    row("e1f4a37a49", "compressed data that is no stream", "qemu-img convert",
        |d| d.edits.iter().any(|edit| {
            matches!(edit, Edit::Bytes { bytes, .. } if bytes.0 == [0xff; 16])
        })),
    row("5c3216c046 a2debf6506", "subclusters allocated in no cluster", "qemu-img check -r",
        |d| d.sets("l2[*].entry[*].subclusters", |v| v == 0xffff_ffff)),
    row("e40e6e88f6 fe446b5da2", "a snapshot with half of its extra data", "qemu-img check -r",
        |d| d.sets("snapshot[*].extra_data_size", |v| v == 8)),
    row("b6c147622d", "an unknown version", "qemu-img info",
        |d| d.sets("header.version", |v| v > 3)),
    row("11c89769dc", "refcount table that overflows a signed int", "qemu-img info",
        |d| d.sets("header.refcount_table_clusters", |v| v > INT_MAX)),
    row("b93f995081", "disk that cannot grow its L1 table", "qemu-img resize",
        |d| d.sets("header.l1_size", |v| v == INT_MAX || v == 1 << 31)),
];

/// Where a bug is described, the command that showed it, and how that is recognised.
type CommandRow = (&'static str, &'static str, fn(&Qcow2Base, &Command) -> bool);

/// Bugs that a command on a valid image showed.
const COMMANDS: [CommandRow; 14] = [
    (
        "fb43d2d46e",
        "compressed write of part of a cluster",
        |base, command| {
            command.0.iter().any(|word| {
                let numbers: Vec<u64> = word.split(' ').filter_map(|n| n.parse().ok()).collect();
                word.starts_with("write -c")
                    && numbers.last().is_some_and(|n| n % base.cluster_size() != 0)
            })
        },
    ),
    (
        "f56281abd9",
        "removing a bitmap that is not there",
        |base, command| {
            let absent =
                |name: &String| !base.image.bitmaps.iter().any(|bitmap| bitmap.name == *name);
            command.0.iter().any(|word| word == "--remove") && command.0.last().is_some_and(absent)
        },
    ),
    (
        "8d2497c355, d470ad42ac",
        "discard and zero writes with unmap",
        |_, command| command.0.iter().any(|word| word.starts_with("write -z -u")),
    ),
    (
        "f06033295b, 4096974e18",
        "commit of an image with bitmaps",
        |base, command| {
            command.verb() == "qemu-img commit"
                && !base.image.bitmaps.is_empty()
                && base.backing.is_some()
        },
    ),
    (
        "6b36a57831, 2b689db0be",
        "bench on a probed image",
        |_, command| {
            command.verb() == "qemu-img bench" && !command.0.iter().any(|word| word == "-f")
        },
    ),
    (
        "ff2ab634e4",
        "snapshot applied to an image whose format is probed",
        |_, command| {
            command.verb() == "qemu-img snapshot -a" && !command.0.iter().any(|word| word == "-f")
        },
    ),
    (
        "2d4b5256cf bb9f8dd0e1",
        "write to an encrypted image",
        |base, command| {
            base.image.encryption.is_some()
                && command.program() == "qemu-io"
                && command.0.iter().any(|word| word.starts_with("write -P"))
        },
    ),
    ("e06f4639d8", "copy offloading", |_, command| {
        command.verb() == "qemu-img convert" && command.0.iter().any(|word| word == "-C")
    }),
    (
        "db04524f82",
        "commit of an image with an external data file",
        |base, command| {
            command.verb() == "qemu-img commit"
                && base.image.data_file.is_some()
                && base.backing.is_some()
        },
    ),
    (
        "a5675f3901 e400ad1e1f",
        "preallocation behind a disk that ends within a cluster",
        |base, command| {
            command.verb() == "qemu-img resize"
                && base.image.virtual_size % base.cluster_size() != 0
                && command
                    .0
                    .iter()
                    .any(|word| word.starts_with("--preallocation=f"))
        },
    ),
    (
        "c8bf9a9169",
        "zero writes with unmap on subclusters",
        |base, command| {
            base.image.extended_l2 && command.0.iter().any(|word| word.starts_with("write -z -u"))
        },
    ),
    (
        "e7be13ad3f",
        "header written anew in a cluster of 512 bytes",
        |base, command| command.verb() == "qemu-img amend" && base.image.cluster_bits == 9,
    ),
    (
        "84c26520d3",
        "an L1 table that must grow",
        |base, command| {
            let size = command.0.last().and_then(|word| word.parse::<u64>().ok());
            command.verb() == "qemu-img resize"
                && size.is_some_and(|size| size > base.image.virtual_size * 4)
        },
    ),
    (
        "b11a093c60 bc5ee6da71",
        "rebase to no backing file",
        |_, command| {
            command.verb() == "qemu-img rebase"
                && !command.0.iter().any(|word| word == BACKING_FILE)
        },
    ),
];

/// How many base images are drawn at most, and how many mutations of each.
const BASES: usize = 4000;
const MUTATIONS: usize = 120;

#[test]
fn every_trigger_of_the_past_can_be_drawn() {
    assert!(ROWS.len() >= 40, "{} rows", ROWS.len());
    let mut open: Vec<&Row> = ROWS.iter().collect();
    let mut maker = Maker::default();
    let mut rng = Rng::from_text("recall");
    let weights = mutate::first_weights();
    for _ in 0..BASES {
        if open.is_empty() {
            break;
        }
        let base = base::draw(&mut rng);
        let prepared = maker
            .prepared(&base)
            .expect("a drawn base image can be made");
        let map = &prepared.map;
        for _ in 0..MUTATIONS {
            let mutations = mutate::draw(map, None, Intensity::Mutations(1, 1), &weights, &mut rng);
            let edits: Vec<Edit> = mutations
                .into_iter()
                .map(|mutation| mutation.edit)
                .collect();
            let drawn = Drawn {
                base: base.qcow2().expect("qcow2 images are drawn"),
                map: &prepared.map,
                edits: &edits,
            };
            open.retain(|row| {
                let found = (row.found)(&drawn);
                if found {
                    assert_in_the_bytes(row.reference, &prepared.image, &edits);
                }
                !found
            });
        }
    }
    let missing: Vec<String> = open
        .iter()
        .map(|row| format!("{}: {}", row.reference, row.trigger))
        .collect();
    assert!(missing.is_empty(), "never drawn:\n{}", missing.join("\n"));
}

/// The edits put the trigger into the bytes of the image: each field, read back
/// from what was encoded, has the value.
fn assert_in_the_bytes(reference: &str, image: &image_formats::AnyImage, edits: &[Edit]) {
    let mut mutated = image.clone();
    for edit in edits {
        if apply(&mut mutated, edit).is_err() {
            return;
        }
    }
    if let [Edit::Set { path, value }] = edits {
        let field = image.field(path).expect("the edited field is there");
        let read = field.place.get(mutated.bytes());
        assert_eq!(read, Value::Uint(value.0), "{reference}: {path}");
    }
}

#[test]
fn every_command_of_the_past_can_be_drawn() {
    let mut rng = Rng::from_text("commands");
    let mut verbs: Vec<&str> = ROWS.iter().map(|row| row.command).collect();
    let mut special: Vec<_> = COMMANDS.iter().collect();
    for _ in 0..20_000 {
        let base = base::draw(&mut rng);
        let of_qcow2 = base.qcow2().expect("qcow2 images are drawn");
        for command in commands::sequence(&base, &mut rng) {
            let verb = command.verb();
            verbs.retain(|wanted| match wanted.strip_prefix("qemu-io ") {
                Some(operation) => {
                    let verbs = verb.strip_prefix("qemu-io ").unwrap_or_default();
                    !verbs.split('+').any(|verb| verb == operation)
                }
                None => *wanted != verb,
            });
            special.retain(|(_, _, found)| !found(of_qcow2, &command));
        }
        if verbs.is_empty() && special.is_empty() {
            return;
        }
    }
    let special: Vec<&str> = special.iter().map(|(_, trigger, _)| *trigger).collect();
    panic!("never drawn: {verbs:?} {special:?}");
}
