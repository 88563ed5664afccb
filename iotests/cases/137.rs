//! Cut off after any of its writes, an image has leaks at worst, and shows all
//! that the guest had flushed by then.
//!
//! group: rw auto qcow2 check
//! supported_aio: threads native
//! supported_fmt: qcow2
//! supported_proto: file
//! unsupported_imgopts: data_file lazy_refcounts cluster_size=512
//! needs: driver:blklogwrites not-wrapped

use std::fs::File;

use iotests::prelude::*;

const SIZE: u64 = 64 * MIB;
const ROUNDS: u64 = 6;

/// What one round does: its own clusters are never written again, the first MiB
/// is written over, zeroed and given back by every round.
fn round(n: u64) -> (Vec<Patch>, Vec<String>) {
    let pattern = u8::try_from(n + 1).unwrap_or(u8::MAX);
    let at = (n + 1) * 8 * MIB;
    let patches = vec![
        (pattern, at, 200 * KIB),
        (pattern, at + MIB + 512, 70 * KIB),
        (pattern, at + 5 * MIB, 512),
    ];
    let noise = [
        format!("write -P {} 0 300k", pattern + 100),
        format!("write -z {}k 64k", n * 64),
        format!("write -z -u {}k 128k", n * 32),
        format!("discard {}k 192k", n * 64 + 64),
        format!("write -P {} {}k 100k", pattern + 50, n * 100),
    ];
    let writes = patches.iter().map(|(p, at, len)| format!("write -P {p} {at} {len}"));
    let commands = writes.chain(noise).collect();
    (patches, commands)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let copy = t.image("copy").size(SIZE).quiet().await?;
    let before = std::fs::read(img.file())?;
    let path = t.path("log");
    std::fs::write(&path, b"")?;
    let mut node = img.node("disk");
    let below = node["file"].take();
    node["discard"] = "unmap".into();
    node["file"] = json!({"driver": "blklogwrites", "file": below, "log": {"driver": "file", "filename": path}});

    let mut flushed: Vec<(usize, Vec<Patch>)> = Vec::new();
    let mut guest = t.session(format!("json:{node}")).await?;
    guest.quiet();
    for n in 0..ROUNDS {
        let (patches, commands) = round(n);
        for command in commands.iter().map(String::as_str).chain(["flush"]) {
            let printed = guest.run(command).await?;
            ensure!(!printed.contains("failed"), "{command}: {printed}");
        }
        let log = WriteLog::parse(&std::fs::read(&path)?)?;
        flushed.push((log.entries.len(), patches));
    }
    guest.close().await?;
    let log = WriteLog::parse(&std::fs::read(&path)?)?;
    let all = log.entries.len();
    t.log(format!("more than one write a round: {}", all > flushed.len()));

    // Every cut at a flush and just before it, and some in between.
    let chosen = |n: &usize| {
        let flush = |n: usize| log.entries.get(n).is_some_and(|e| e.flush);
        *n == all || flush(*n) || n.checked_sub(1).is_some_and(flush) || n.is_multiple_of(7)
    };
    let mut cuts = 0;
    for count in (0..=all).filter(chosen) {
        std::fs::write(copy.file(), &before)?;
        log.replay(&File::options().write(true).open(copy.file())?, count)?;
        let found = t.img(format!("check --output=json {copy}")).quiet().any_status().await?;
        let report = found.json()?;
        let bad = report["corruptions"].as_u64().unwrap_or(0)
            + report["check-errors"].as_u64().unwrap_or(0);
        ensure!(bad == 0, "after {count} of {all} writes: {}", found.text());
        let safe: Vec<Patch> =
            flushed.iter().filter(|(at, _)| *at <= count).flat_map(|(_, p)| p.clone()).collect();
        t.verify_quietly(&copy, &safe)
            .await
            .with_context(|| format!("after {count} of {all} writes"))?;
        cuts += 1;
    }
    t.log(format!("enough cuts: {}", cuts >= 2 * ROUNDS));
    t.check(&img).await?;
    Ok(std::fs::remove_file(path)?)
}
