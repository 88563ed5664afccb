//! Random `qemu-io` scripts: the small operations a guest would send.

use super::{Command, open_options};
use image_formats::qcow2::Cluster;
use image_mutations::base::Qcow2Base;
use image_mutations::rng::Rng;

/// A script of one to six operations on the disk of `base`.
pub(super) fn script(base: &Qcow2Base, rng: &mut Rng) -> Command {
    let disk = Disk::of(base);
    let mut words = vec![String::from("qemu-io")];
    match rng.below(10) {
        0 => words.extend(["-d", "unmap"].map(String::from)),
        1 => words.push("-n".into()),
        2 if rng.chance(40) => words.push("-r".into()),
        2 => words.push("-C".into()),
        3 if rng.chance(40) => words.push("-s".into()),
        _ => {}
    }
    let options = rng.chance(30).then(|| open_options::one(base, rng));
    if options.is_some() {
        words.push("--image-opts".into());
    } else if rng.chance(85) {
        words.extend(["-f", "qcow2"].map(String::from));
    }
    let operations = operations(base, disk, rng);
    add_operations(&mut words, operations);
    words.push(options.unwrap_or_else(|| "$test_img".into()));
    Command(words)
}

/// What a script does: mostly some of all; what the features of an image are for more often
/// where `base` has them.
fn operations(base: &Qcow2Base, disk: Disk<'_>, rng: &mut Rng) -> Vec<String> {
    let image = &base.image;
    let weights = [
        if image.bitmaps.is_empty() { 5 } else { 40 },
        5,
        if image.lazy_refcounts { 20 } else { 1 },
        if image.cluster_bits <= 12 { 6 } else { 1 },
        90,
    ];
    match rng.weighted(&weights) {
        Some(0) => reopened(disk, rng),
        Some(1) => burst(disk, rng),
        Some(2) => vec![
            Operation::Write.line(disk, rng),
            "reopen -o lazy-refcounts=off".into(),
            Operation::Write.line(disk, rng),
        ],
        Some(3) => stretched(disk, rng),
        _ => (0..rng.between(1, 6))
            .map(|_| Operation::draw(rng).line(disk, rng))
            .collect(),
    }
}

/// A script that does what `first` says, and then perhaps more.
pub(super) fn script_of(first: &[Operation], base: &Qcow2Base, rng: &mut Rng) -> Command {
    let disk = Disk::of(base);
    let mut words = ["qemu-io", "-f", "qcow2"].map(String::from).to_vec();
    if rng.chance(30) {
        words.extend(["-d", "unmap"].map(String::from));
    }
    let mut operations: Vec<String> = first.iter().map(|it| it.line(disk, rng)).collect();
    operations.extend((0..rng.below(3)).map(|_| Operation::draw(rng).line(disk, rng)));
    add_operations(&mut words, operations);
    words.push("$test_img".into());
    Command(words)
}

/// Adds operations as options of the tool.
fn add_operations(words: &mut Vec<String>, operations: Vec<String>) {
    let mut in_flight = false;
    for next in operations {
        // The tool itself does not wait for what is in flight when it reopens an
        // image, changes its size or ends, and no image is to blame for that.
        let waits = ["reopen", "truncate"]
            .iter()
            .any(|verb| next.starts_with(verb));
        if in_flight && waits {
            words.extend(["-c", "aio_flush"].map(String::from));
            in_flight = false;
        }
        in_flight |= next.starts_with("aio_") && next != "aio_flush";
        words.push("-c".into());
        words.push(next);
    }
    if in_flight {
        words.extend(["-c", "aio_flush"].map(String::from));
    }
}

/// Operations before and after the image is opened again, to read it or to write to it.
fn reopened(disk: Disk<'_>, rng: &mut Rng) -> Vec<String> {
    let line = |operation: Operation, rng: &mut Rng| operation.line(disk, rng);
    vec![
        line(Operation::Write, rng),
        "reopen -r".into(),
        line(Operation::Read, rng),
        if rng.chance(50) {
            "reopen -w".into()
        } else {
            line(Operation::Reopen, rng)
        },
        line(Operation::Write, rng),
    ]
}

/// Writes that are in flight at the same time, to clusters next to each other.
fn burst(disk: Disk<'_>, rng: &mut Rng) -> Vec<String> {
    let (at, _) = disk.whole_clusters(rng);
    let part = (disk.cluster / 4).max(512);
    let write = |number: u64, rng: &mut Rng| {
        let at = at + rng.below(6) * part;
        let len = (rng.between(1, 3) * part).min(disk.size.saturating_sub(at));
        match rng.below(6) {
            _ if len < 512 => "aio_read 0 512".into(),
            0 => format!("aio_write -z {at} {len}"),
            1 => format!("aio_read {at} {len}"),
            _ => format!("aio_write -P {} {at} {len}", number + 1),
        }
    };
    (0..rng.between(3, 6))
        .map(|number| write(number, rng))
        .collect()
}

/// The file grows by refcount blocks of its own, which are left without references when it
/// shrinks again.
fn stretched(disk: Disk<'_>, rng: &mut Rng) -> Vec<String> {
    vec![
        Operation::Stretch.line(disk, rng),
        Operation::Shrink.line(disk, rng),
        Operation::Write.line(disk, rng),
    ]
}

/// What an operation of a script does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Write,
    WriteVector,
    WriteThrough,
    Zero,
    ZeroUnmap,
    ZeroSubclusters,
    Compressed,
    Discard,
    AioRead,
    AioWrite,
    AioZero,
    AioFlush,
    Resize,
    Grow,
    Shrink,
    /// Grows the disk and, with all that maps it, the file.
    Stretch,
    Flush,
    Alloc,
    Map,
    Reopen,
    SaveState,
    LoadState,
}

impl Operation {
    /// Each with its weight in scripts.
    const WEIGHTS: [(u64, Self); 23] = [
        (30, Self::Read),
        (34, Self::Write),
        (8, Self::WriteVector),
        (2, Self::WriteThrough),
        (16, Self::Zero),
        (14, Self::ZeroUnmap),
        (8, Self::ZeroSubclusters),
        (14, Self::Compressed),
        (22, Self::Discard),
        (8, Self::AioRead),
        (12, Self::AioWrite),
        (8, Self::AioZero),
        (8, Self::AioFlush),
        (10, Self::Resize),
        (3, Self::Grow),
        (3, Self::Shrink),
        (1, Self::Stretch),
        (10, Self::Flush),
        (6, Self::Alloc),
        (8, Self::Map),
        (14, Self::Reopen),
        (8, Self::SaveState),
        (8, Self::LoadState),
    ];

    /// One of them.
    fn draw(rng: &mut Rng) -> Self {
        let drawn = rng.weighted(&Self::WEIGHTS.map(|(weight, _)| weight));
        Self::WEIGHTS[drawn.unwrap_or(0)].1
    }

    /// The line for the tool.
    fn line(self, disk: Disk<'_>, rng: &mut Rng) -> String {
        let (at, len) = disk.range(rng);
        let (whole_at, whole_len) = disk.whole_clusters(rng);
        let pattern = rng.between(1, 255);
        match self {
            Self::Read => format!("read {at} {len}"),
            Self::Write => format!("write -P {pattern} {at} {len}"),
            Self::WriteVector => {
                let half = (len / 1024).max(1) * 512;
                format!("writev -P {pattern} {at} {half} {half}")
            }
            Self::WriteThrough => format!("write -f -P {pattern} {at} {len}"),
            Self::Zero if rng.chance(50) => format!("write -z -n {at} {len}"),
            Self::Zero => format!("write -z {whole_at} {whole_len}"),
            Self::ZeroUnmap => format!("write -z -u {whole_at} {whole_len}"),
            Self::ZeroSubclusters => {
                let part = (disk.cluster / 32).max(512);
                let at = at - at % part;
                let len = rng.between(1, 40) * part;
                let len = len.min(disk.size.saturating_sub(at)).max(512);
                let unmap = if rng.chance(50) { "-u " } else { "" };
                format!("write -z {unmap}{at} {len}")
            }
            Self::Compressed if rng.chance(75) => {
                format!("write -c -P {pattern} {whole_at} {whole_len}")
            }
            Self::Compressed => format!("write -c -P {pattern} {at} {len}"),
            Self::Discard if rng.chance(50) => format!("discard {whole_at} {whole_len}"),
            Self::Discard => format!("discard {at} {len}"),
            Self::AioRead => format!("aio_read {at} {len}"),
            Self::AioWrite => format!("aio_write -P {pattern} {at} {len}"),
            Self::AioZero => format!("aio_write -z -u {whole_at} {whole_len}"),
            Self::AioFlush => "aio_flush".into(),
            Self::Resize => truncate(new_size(disk.size, disk.cluster, rng), rng),
            Self::Grow => {
                // Past what the present L1 table can map.
                let tables = rng.between(1, 3) * (disk.cluster / 8) * disk.cluster;
                let size = disk.size - disk.size % 512 + tables;
                // Even the metadata of large clusters would take seconds to fill.
                if disk.cluster > 1 << 14 {
                    format!("truncate {size}")
                } else {
                    truncate(size, rng)
                }
            }
            Self::Shrink => truncate((disk.size / rng.between(2, 64) / 512).max(1) * 512, rng),
            Self::Stretch => {
                let by = disk.cluster * rng.between(100, 1000);
                let size = (disk.size + by.min(4 << 20)).next_multiple_of(512);
                format!("truncate -m falloc {size}")
            }
            Self::Flush => "flush".into(),
            Self::Alloc => format!("alloc {at} {len}"),
            Self::Map if rng.chance(15) => "info".into(),
            Self::Map => "map".into(),
            Self::Reopen => open_options::reopen(rng),
            Self::SaveState => format!("write -b -P {pattern} {} 512", at % 65536),
            Self::LoadState => format!("read -b {} 512", at % 65536),
        }
    }
}

/// The line that gives the disk another size.
fn truncate(size: u64, rng: &mut Rng) -> String {
    const MODES: [&str; 5] = ["", "", "metadata", "falloc", "full"];
    let mode = rng.pick(&MODES).copied().unwrap_or("");
    match sparing(mode, size) {
        "" => format!("truncate {size}"),
        mode => format!("truncate -m {mode} {size}"),
    }
}

/// What ranges are drawn from.
#[derive(Clone, Copy, Debug)]
struct Disk<'a> {
    /// Its size in bytes.
    size: u64,
    /// Bytes in a cluster.
    cluster: u64,
    /// Those that the image has an entry for.
    clusters: &'a [Cluster],
}

impl<'a> Disk<'a> {
    fn of(base: &'a Qcow2Base) -> Self {
        Self {
            size: base.image.virtual_size,
            cluster: base.cluster_size(),
            clusters: &base.image.clusters,
        }
    }

    /// The index of a cluster that the image has an entry for, for some operations.
    fn present(self, rng: &mut Rng) -> Option<u64> {
        let drawn = rng.pick(self.clusters).filter(|_| rng.chance(30));
        drawn.map(|cluster| cluster.index)
    }

    /// A range of sectors, often around a cluster's edge, inside the disk.
    fn range(self, rng: &mut Rng) -> (u64, u64) {
        let Self { size, cluster, .. } = self;
        let sectors = (size / 512).max(1);
        let mut at = match self.present(rng) {
            Some(index) => index * cluster + rng.below(cluster / 512) * 512,
            None => rng.below(sectors) * 512,
        };
        at = at.min((sectors - 1) * 512);
        if rng.chance(60) {
            at -= at % cluster;
        }
        let room = size.saturating_sub(at).max(512);
        let len = match rng.below(5) {
            0 => 512,
            1 => cluster,
            2 => 2 * cluster,
            3 => rng.between(1, 8) * 512,
            _ => rng.between(1, (room / 512).max(1)) * 512,
        };
        (at, len.min(room))
    }

    /// A range of whole clusters, the last one perhaps cut by the disk's end.
    fn whole_clusters(self, rng: &mut Rng) -> (u64, u64) {
        let Self { size, cluster, .. } = self;
        let clusters = size.div_ceil(cluster).max(1);
        let first = match self.present(rng) {
            Some(index) => index.min(clusters - 1),
            None => rng.below(clusters),
        };
        let count = rng.between(1, (clusters - first).min(4));
        let at = first * cluster;
        let len = (count * cluster).min(size.saturating_sub(at)).max(512);
        (at, len)
    }
}

/// The most bytes that a command may be asked to fill.
const MOST_FILLED: u64 = 64 << 20;

/// A mode of preallocation for `size` bytes that fills no more than [`MOST_FILLED`]: what
/// a command asks for itself is no growth to wonder about.
pub(super) fn sparing(mode: &str, size: u64) -> &str {
    match mode {
        "falloc" | "full" if size > MOST_FILLED => "metadata",
        mode => mode,
    }
}

/// A size near the present one: longer, shorter, at a cluster's edge.
pub(super) fn new_size(size: u64, cluster: u64, rng: &mut Rng) -> u64 {
    let size = match rng.below(6) {
        0 => size + cluster,
        1 => size.saturating_sub(cluster),
        2 => size * 2 + 512,
        3 => 512,
        4 => size / 2,
        _ => size + cluster * 8193,
    };
    (size - size % 512).max(512)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a gigabyte that a command asked for itself was once held to be out of
    /// proportion to the image.
    #[test]
    fn no_command_asks_to_fill_much() {
        let mut rng = Rng::from_text("fills");
        let mut filled = 0;
        for _ in 0..20_000 {
            let disk = Disk {
                size: 196_608,
                cluster: 65536,
                clusters: &[],
            };
            let text = Operation::draw(&mut rng).line(disk, &mut rng);
            let words: Vec<&str> = text.split(' ').collect();
            if let ["truncate", "-m", "falloc" | "full", size] = words.as_slice() {
                filled += 1;
                assert!(size.parse::<u64>().unwrap() <= MOST_FILLED, "{text}");
            }
        }
        assert!(filled > 0);
    }
}
