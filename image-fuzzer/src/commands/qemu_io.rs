//! Random `qemu-io` scripts: the small operations a guest would send.

use super::Command;
use crate::rng::Rng;

/// A script of one to six operations on a disk of `size` bytes with clusters of
/// `cluster` bytes.
pub(super) fn script(size: u64, cluster: u64, rng: &mut Rng) -> Command {
    let mut words = vec![String::from("qemu-io")];
    match rng.below(10) {
        0 => words.extend(["-d", "unmap"].map(String::from)),
        1 => words.push("-n".into()),
        2 if rng.chance(40) => words.push("-r".into()),
        2 => words.push("-C".into()),
        3 if rng.chance(40) => words.push("-s".into()),
        _ => {}
    }
    let options = rng.chance(20).then(|| open_options(rng));
    if options.is_some() {
        words.push("--image-opts".into());
    } else if rng.chance(85) {
        words.extend(["-f", "qcow2"].map(String::from));
    }
    let mut in_flight = false;
    for _ in 0..rng.between(1, 6) {
        let next = operation(size, cluster, rng);
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
    words.push(options.unwrap_or_else(|| "$test_img".into()));
    Command(words)
}

/// The image with an option of the format's that changes what its driver does.
fn open_options(rng: &mut Rng) -> String {
    const OPTIONS: [&str; 25] = [
        // Those that contradict each other or the image must be refused.
        "backing=null-co://",
        "data-file.driver=file,data-file.filename=test.data",
        "cache-size=1M,l2-cache-size=512k",
        "cache-size=1M,refcount-cache-size=2M",
        "l2-cache-size=1M,refcount-cache-size=1M,cache-size=2M",
        "l2-cache-entry-size=100",
        "l2-cache-size=8E",
        "cache-clean-interval=99999999999",
        "overlap-check=some",
        "overlap-check=all,overlap-check.template=none",
        "discard-no-unref=on",
        "encrypt.format=aes,encrypt.key-secret=none",
        "encrypt.format=luks,encrypt.key-secret=none",
        "discard=unmap,detect-zeroes=unmap",
        "discard=unmap,discard-no-unref=on",
        "discard=unmap,pass-discard-other=on,pass-discard-snapshot=off",
        "lazy-refcounts=on",
        "overlap-check=all",
        "overlap-check=none",
        "overlap-check.template=none,overlap-check.inactive-l2=on",
        "l2-cache-size=4096,l2-cache-entry-size=512",
        "l2-cache-entry-size=4096",
        "cache-size=65536",
        "refcount-cache-size=2048",
        "cache-clean-interval=1",
    ];
    let option = rng.pick(&OPTIONS).copied().unwrap_or("discard=unmap");
    format!("driver=qcow2,file.filename=$test_img,{option}")
}

/// One operation.
fn operation(size: u64, cluster: u64, rng: &mut Rng) -> String {
    let (at, len) = range(size, cluster, rng);
    let (whole_at, whole_len) = whole_clusters(size, cluster, rng);
    let pattern = rng.between(1, 255);
    match rng.below(24) {
        0..=2 => format!("read {at} {len}"),
        3 if rng.chance(20) => format!("write -f -P {pattern} {at} {len}"),
        3..=5 => format!("write -P {pattern} {at} {len}"),
        6 => format!("write -z {whole_at} {whole_len}"),
        7 => format!("write -z -u {whole_at} {whole_len}"),
        8 => format!("write -z -n {at} {len}"),
        9 if rng.chance(75) => format!("write -c -P {pattern} {whole_at} {whole_len}"),
        9 => format!("write -c -P {pattern} {at} {len}"),
        10 => format!("discard {whole_at} {whole_len}"),
        11 => format!("discard {at} {len}"),
        12 => format!("aio_read {at} {len}"),
        13 => format!("aio_write -P {pattern} {at} {len}"),
        14 => format!("aio_write -z -u {whole_at} {whole_len}"),
        15 => {
            const MODES: [&str; 5] = ["", "", "metadata", "falloc", "full"];
            let mode = rng.pick(&MODES).copied().unwrap_or("");
            let size = new_size(size, cluster, rng);
            match sparing(mode, size) {
                "" => format!("truncate {size}"),
                mode => format!("truncate -m {mode} {size}"),
            }
        }
        16 => "flush".into(),
        17 => format!("alloc {at} {len}"),
        18 if rng.chance(30) => "info".into(),
        18 => "map".into(),
        19 => match rng.below(4) {
            0 => "reopen -r".into(),
            1 => "reopen -w".into(),
            2 => "reopen -o lazy-refcounts=on".into(),
            _ => "reopen -o overlap-check=all".into(),
        },
        20 => {
            let half = (len / 1024).max(1) * 512;
            format!("writev -P {pattern} {at} {half} {half}")
        }
        21 => format!("write -b -P {pattern} {} 512", at % 65536),
        22 => format!("read -b {} 512", at % 65536),
        _ => "aio_flush".into(),
    }
}

/// A range of sectors, often around a cluster's edge, inside the disk.
fn range(size: u64, cluster: u64, rng: &mut Rng) -> (u64, u64) {
    let sectors = (size / 512).max(1);
    let mut at = rng.below(sectors) * 512;
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
fn whole_clusters(size: u64, cluster: u64, rng: &mut Rng) -> (u64, u64) {
    let clusters = size.div_ceil(cluster).max(1);
    let first = rng.below(clusters);
    let count = rng.between(1, (clusters - first).min(4));
    let at = first * cluster;
    let len = (count * cluster).min(size.saturating_sub(at)).max(512);
    (at, len)
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
            let text = operation(196_608, 65536, &mut rng);
            let words: Vec<&str> = text.split(' ').collect();
            if let ["truncate", "-m", "falloc" | "full", size] = words.as_slice() {
                filled += 1;
                assert!(size.parse::<u64>().unwrap() <= MOST_FILLED, "{text}");
            }
        }
        assert!(filled > 0);
    }
}
