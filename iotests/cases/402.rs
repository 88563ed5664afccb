//! The power fails: of all writes below the format, those after a flush are lost. What the
//! guest knew to be durable by then is there, on a disk and in a file system.
//!
//! group: rw machine guest
//! supported_fmt: generic
//! supported_proto: file
//! supported_aio: threads native
//! supported_cache: none writeback writethrough directsync
//! unsupported_imgopts: data_file
//! needs: guest driver:blklogwrites device:virtio-scsi-pci
//! timeout: 900

use std::fs::File;

use iotests::prelude::*;

const SIZE: &str = "32M";
const POINTS: usize = 3;
const RECORDS: u64 = 20;

/// A node with a log of all writes below its format.
fn logged(t: &Test, img: &Image, id: &str) -> Result<Value> {
    let log = t.path(format!("{id}.log"));
    std::fs::write(&log, b"")?;
    let mut below = img.protocol_node("unused");
    below.as_object_mut().context("a node")?.remove("node-name");
    Ok(
        json!({"file": {"driver": "blklogwrites", "file": below, "log": {"driver": "file", "filename": log}}}),
    )
}

/// The writes up to the last flush, as the log has it now.
fn entries(t: &Test, id: &str) -> Result<WriteLog> {
    let log = std::fs::read(t.path(format!("{id}.log")))?;
    // Its superblock is written by the first flush.
    if log.iter().take(8).all(|b| *b == 0) {
        return Ok(WriteLog { entries: Vec::new() });
    }
    WriteLog::parse(&log)
}

/// What is durable at some time.
struct Point {
    sequence: Sequence,
    /// How many writes there were up to the last flush.
    count: usize,
    /// How long the file was, in bytes, which is not in the log of writes.
    length: u64,
}

/// Runs a sequence, and notes at some points what is durable and how many writes there are
/// up to the last flush.
async fn points(
    t: &Test,
    guest: &mut LinuxGuest,
    (img, id): (&Image, &str),
    file: &str,
) -> Result<Vec<Point>> {
    let mut sequence = Sequence::default();
    let mut points = Vec::new();
    sequence.start(guest, file).await?;
    for _ in 0..POINTS {
        sequence.advance(guest, RECORDS).await?;
        let count = entries(t, id)?.entries.len();
        let length = std::fs::metadata(img.file())?.len();
        points.push(Point { sequence: sequence.clone(), count, length });
    }
    sequence.stop(guest).await?;
    Ok(points)
}

/// An image with the writes of the log up to a point, and `more` after them.
async fn cut(
    t: &Test,
    (before, log): (&[u8], &WriteLog),
    name: &str,
    point: &Point,
    more: usize,
) -> Result<Image> {
    let img = t.image(name).size(SIZE).quiet().await?;
    std::fs::write(img.file(), before)?;
    let file = File::options().write(true).open(img.file())?;
    log.replay(&file, point.count + more)?;
    if file.metadata()?.len() < point.length {
        file.set_len(point.length)?;
    }
    t.settle(&img).await?;
    Ok(img)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let plain = t.image("plain").size(SIZE).await?;
    t.clear(&plain).await?;
    let files = t.image("files").size(SIZE).await?;
    let mut before = Vec::new();
    let mut boot = t.linux();
    for (img, id, bus) in [(&plain, "plain", Bus::VirtioBlk), (&files, "files", Bus::VirtioScsi)] {
        before.push(std::fs::read(img.file())?);
        boot = boot.disk_with(img, id, bus, &logged(t, img, id)?, &json!({}));
    }
    let mut guest = boot.boot().await?;
    let on_disk = points(t, &mut guest, (&plain, "plain"), "/dev/plain").await?;
    guest.make_file_system("files").await?;
    guest.run("dd if=/dev/zero of=/mnt/records bs=1M count=8 2>/dev/null; sync").await?;
    let in_file = points(t, &mut guest, (&files, "files"), "/mnt/records").await?;
    let (plain_log, files_log) = (entries(t, "plain")?, entries(t, "files")?);
    guest.kill().await?;

    t.section("a disk");
    let log = (before[0].as_slice(), &plain_log);
    // vdi writes how many blocks there are before where they are: a check takes it for damage.
    let following = if t.format() == "vdi" { 1 } else { 3 };
    for (n, point) in on_disk.iter().enumerate() {
        // The writes that follow may be done too.
        for more in 0..following {
            let img = cut(t, log, &format!("plain{more}"), point, more).await?;
            let records = point.sequence.is_on(t, &img).await;
            records.with_context(|| format!("point {n}, and {more} writes more"))?;
        }
        t.log(format!("point {n}: all durable records are there"));
    }

    t.section("a file system");
    let results = t.image("results").size(SIZE).await?;
    let mut boot = t.linux().disk(&results, "results", Bus::VirtioBlk);
    let log = (before[1].as_slice(), &files_log);
    for (n, point) in in_file.iter().enumerate() {
        let id = format!("files{n}");
        let img = cut(t, log, &id, point, 0).await?;
        boot = boot.disk(&img, &id, Bus::VirtioScsi);
    }
    let mut guest = boot.boot().await?;
    for (n, point) in in_file.iter().enumerate() {
        let id = format!("files{n}");
        guest.mount(&id).await?;
        guest.run("dd if=/mnt/records of=/dev/results bs=1M conv=fsync 2>/dev/null").await?;
        guest.unmount(&id).await?;
        let bytes = t.disk_bytes(&results, &["-U"]).await?;
        point.sequence.is_in(&bytes).with_context(|| format!("point {n}"))?;
        t.log(format!("point {n}: all durable records are there"));
    }
    guest.shut_down().await
}
