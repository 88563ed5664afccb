//! The commands with which QEMU's tools make an image like a base image.

use image_formats::qcow2::{BitmapCluster, Compression, Content, Pattern, Spec};

use crate::commands::Command;
use image_mutations::base::{BACKING_FILE, DATA_FILE, Qcow2Base};

/// The most clusters of the disk that are written: with more, the bytes say as much.
const MOST_CLUSTERS: usize = 16;

/// How an image is made with QEMU's tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Creation {
    /// The commands, in order.
    pub(super) commands: Vec<Command>,
    /// Fields that no command sets, with their values.
    pub(super) fields: Vec<(String, u64)>,
}

/// Ways to make an image like `base`, the shortest first: without its options and its
/// contents, with its options, and with all of it that the tools can make. None for encrypted
/// images, whose keys are random.
pub(super) fn creations(base: &Qcow2Base) -> Vec<Creation> {
    let spec = &base.image;
    if spec.encryption.is_some() {
        return Vec::new();
    }
    let size = spec.virtual_size;
    let plain = Creation {
        commands: vec![create(&[], None, size)],
        fields: Vec::new(),
    };
    let mut with_options = Creation::default();
    let mut backing = None;
    if let Some(file) = &base.backing {
        with_options.commands = make_backing(file.format(), file.virtual_size);
        backing = Some(file.format());
    }
    let made = create(&options(spec), backing, size);
    with_options.commands.push(made);
    let mut whole = with_options.clone();
    if spec.clusters.len() <= MOST_CLUSTERS {
        whole.commands.extend(contents(spec));
    }
    whole.fields = fields(spec);
    let mut all = vec![plain, with_options, whole];
    all.dedup();
    all
}

/// `qemu-img create` of the image under test.
fn create(options: &[String], backing: Option<&str>, size: u64) -> Command {
    let mut words = ["qemu-img", "create", "-f", "qcow2"]
        .map(String::from)
        .to_vec();
    if !options.is_empty() {
        words.extend(["-o".to_owned(), options.join(",")]);
    }
    if let Some(format) = backing {
        words.extend(["-b", BACKING_FILE, "-F", format].map(String::from));
    }
    words.extend(["$test_img".to_owned(), amount(size)]);
    Command(words)
}

/// The options of `qemu-img create` for what differs from its defaults.
fn options(spec: &Spec) -> Vec<String> {
    let mut options = Vec::new();
    let mut add = |is_set: bool, option: String| {
        if is_set {
            options.push(option);
        }
    };
    let cluster = 1_u64 << spec.cluster_bits;
    add(spec.version == 2, "compat=0.10".into());
    add(spec.cluster_bits != 16, format!("cluster_size={cluster}"));
    let bits = 1 << spec.refcount_order;
    add(spec.refcount_order != 4, format!("refcount_bits={bits}"));
    add(spec.lazy_refcounts, "lazy_refcounts=on".into());
    add(spec.extended_l2, "extended_l2=on".into());
    let zstd = spec.compression == Compression::Zstd;
    add(zstd, "compression_type=zstd".into());
    if let Some(file) = &spec.data_file {
        add(true, format!("data_file={DATA_FILE}"));
        add(file.raw, "data_file_raw=on".into());
    }
    options
}

/// The commands that make the backing file, whose first and last 4 KiB have data.
fn make_backing(format: &str, size: u64) -> Vec<Command> {
    let edge = size.min(4096);
    let mut words = vec!["qemu-img", "create", "-f", format];
    if format == "qcow2" {
        words.extend(["-o", "cluster_size=4096"]);
    }
    let amount = amount(size);
    words.extend([BACKING_FILE, &amount]);
    let create = Command(words.into_iter().map(String::from).collect());
    let write = |offset| format!("write -P 0xbb {offset} {edge}");
    let mut writes = vec![write(0), write(size - edge)];
    writes.dedup();
    vec![create, io(format, BACKING_FILE, &writes)]
}

/// The commands for data, bitmaps and snapshots.
fn contents(spec: &Spec) -> Vec<Command> {
    let mut commands = Vec::new();
    // What is written under a bitmap sets its bits.
    let has_bits = |clusters: &[BitmapCluster]| {
        let mut clusters = clusters.iter();
        clusters.any(|cluster| *cluster != BitmapCluster::Zeros)
    };
    let bitmap = |words: &[&str], name: &str| {
        let words = ["qemu-img", "bitmap"].iter().chain(words);
        let last = ["$test_img", name];
        Command(words.chain(&last).map(|word| (*word).to_owned()).collect())
    };
    let mut after = Vec::new();
    for map in &spec.bitmaps {
        let granularity = (1_u64 << map.granularity_bits).to_string();
        let mut add = vec!["--add", "-g", granularity.as_str()];
        if has_bits(&map.clusters) {
            commands.push(bitmap(&add, &map.name));
            if !map.enabled {
                after.push(bitmap(&["--disable"], &map.name));
            }
        } else {
            if !map.enabled {
                add.push("--disable");
            }
            after.push(bitmap(&add, &map.name));
        }
    }
    let writes: Vec<String> = writes(spec);
    if !writes.is_empty() {
        commands.push(io("qcow2", "$test_img", &writes));
    }
    commands.extend(after);
    for snapshot in &spec.snapshots {
        let words = ["qemu-img", "snapshot", "-c", &snapshot.name, "$test_img"];
        commands.push(Command::new(words));
    }
    commands
}

/// The operations of `qemu-io` that give the disk its contents.
fn writes(spec: &Spec) -> Vec<String> {
    let cluster = 1_u64 << spec.cluster_bits;
    let mut writes = Vec::new();
    for used in &spec.clusters {
        let start = used.index.saturating_mul(cluster);
        let len = spec.virtual_size.saturating_sub(start).min(cluster);
        if len == 0 {
            continue;
        }
        let range = format!("{start} {len}");
        match &used.content {
            Content::Data(pattern) => writes.push(write("", pattern, &range)),
            Content::Compressed(pattern) => writes.push(write("-c ", pattern, &range)),
            Content::Zero => writes.push(format!("write -z {range}")),
            Content::ZeroAllocated(pattern) => {
                writes.push(write("", pattern, &range));
                writes.push(format!("write -z {range}"));
            }
            Content::Subclusters {
                allocated,
                zero,
                pattern,
            } => {
                let unit = cluster / 32;
                for (first, count) in runs(*allocated) {
                    let range = format!("{} {}", start + first * unit, count * unit);
                    let pattern = pattern.as_ref().unwrap_or(&Pattern::Fill(1));
                    writes.push(write("", pattern, &range));
                }
                for (first, count) in runs(*zero) {
                    let (at, len) = (start + first * unit, count * unit);
                    writes.push(format!("write -z {at} {len}"));
                }
            }
            Content::Shared => {}
        }
    }
    writes
}

/// An operation of `qemu-io` that writes the range full of one byte of the pattern.
fn write(options: &str, pattern: &Pattern, range: &str) -> String {
    let bytes = pattern.bytes(8);
    let byte = bytes.into_iter().find(|byte| *byte != 0).unwrap_or(1);
    format!("write {options}-P {byte:#04x} {range}")
}

/// The runs of ones among the bits: where each begins, and how many there are.
fn runs(bits: u32) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for bit in (0..32_u64).filter(|bit| bits >> bit & 1 == 1) {
        match runs
            .last_mut()
            .filter(|(first, count)| first + count == bit)
        {
            Some((_, count)) => *count += 1,
            None => runs.push((bit, 1)),
        }
    }
    runs
}

/// `qemu-io` with these operations on an image.
fn io(format: &str, image: &str, operations: &[String]) -> Command {
    let mut words = ["qemu-io", "-f", format].map(String::from).to_vec();
    for operation in operations {
        words.extend(["-c".to_owned(), operation.clone()]);
    }
    words.push(image.to_owned());
    Command(words)
}

/// The fields of the base that no option sets.
fn fields(spec: &Spec) -> Vec<(String, u64)> {
    let mut fields = Vec::new();
    if spec.dirty {
        fields.push(("header.incompatible_features.dirty".to_owned(), 1));
    }
    if spec.unknown_compatible != 0 {
        let known = u64::from(spec.lazy_refcounts);
        let value = known | spec.unknown_compatible;
        fields.push(("header.compatible_features".to_owned(), value));
    }
    for (index, map) in spec.bitmaps.iter().enumerate() {
        if map.in_use {
            fields.push((format!("bitmap[{index}].flags.in_use"), 1));
        }
    }
    fields
}

/// A number of bytes as `qemu-img` takes it.
fn amount(bytes: u64) -> String {
    let units = [("G", 30), ("M", 20), ("K", 10)];
    let unit = units
        .iter()
        .find(|(_, bits)| bytes != 0 && bytes.is_multiple_of(1 << bits));
    match unit {
        Some((unit, bits)) => format!("{}{unit}", bytes >> bits),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use image_formats::qcow2::{Bitmap, Cluster, Snapshot};

    use super::*;
    use image_mutations::base::BackingFile;

    /// The creations of a base, as lines of a shell.
    fn lines(image: Spec, backing: Option<BackingFile>) -> Vec<Vec<String>> {
        let all = creations(&Qcow2Base { image, backing }).into_iter();
        all.map(|it| it.commands.iter().map(Command::shell).collect())
            .collect()
    }

    #[test]
    fn the_shortest_way_comes_first() {
        assert_eq!(
            lines(Spec::default(), None),
            [["qemu-img create -f qcow2 \"$test_img\" 1M"]]
        );
        let cluster = |index, content| Cluster { index, content };
        let image = Spec {
            version: 2,
            cluster_bits: 12,
            virtual_size: 8192 + 512,
            clusters: vec![
                cluster(0, Content::Compressed(Pattern::Count(0))),
                cluster(2, Content::ZeroAllocated(Pattern::Fill(7))),
            ],
            snapshots: vec![Snapshot::default()],
            bitmaps: vec![Bitmap {
                name: "b".into(),
                granularity_bits: 9,
                enabled: false,
                in_use: true,
                clusters: Vec::new(),
            }],
            ..Spec::default()
        };
        let backing = BackingFile {
            qcow2: false,
            virtual_size: 1024,
        };
        let lines = lines(image, Some(backing));
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], ["qemu-img create -f qcow2 \"$test_img\" 8704"]);
        assert_eq!(
            lines[1],
            [
                "qemu-img create -f raw backing.img 1K",
                "qemu-io -f raw -c 'write -P 0xbb 0 1024' backing.img",
                "qemu-img create -f qcow2 -o compat=0.10,cluster_size=4096 -b backing.img -F raw \
                 \"$test_img\" 8704",
            ]
        );
        assert_eq!(
            lines[2][3..],
            [
                "qemu-io -f qcow2 -c 'write -c -P 0x01 0 4096' -c 'write -P 0x07 8192 512' \
                 -c 'write -z 8192 512' \"$test_img\"",
                "qemu-img bitmap --add -g 512 --disable \"$test_img\" b",
                "qemu-img snapshot -c snapshot \"$test_img\"",
            ]
        );
    }

    #[test]
    fn subclusters_are_written_in_runs() {
        assert_eq!(runs(0), []);
        assert_eq!(runs(0b1011), [(0, 2), (3, 1)]);
        assert_eq!(runs(u32::MAX), [(0, 32)]);
    }
}
