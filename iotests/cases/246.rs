//! A write past a threshold is reported once, whichever way it comes, and only
//! while a threshold is set: management that extends a growing image relies on
//! it.
//!
//! group: rw auto quick io qmp
//! supported_fmt: generic
//! supported_proto: file
//! unsupported_imgopts: data_file
//! needs: qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

/// The threshold of a node, as it is shown; once it has been told of it is 0.
async fn threshold(qsd: &mut Daemon, node: &str) -> Result<u64> {
    let nodes = qsd.run("query-named-block-nodes", json!({"flat": true})).await?;
    let found = nodes.as_array().into_iter().flatten().find(|n| n["node-name"] == node);
    found
        .and_then(|n| n["write_threshold"].as_u64())
        .with_context(|| format!("{node} shows no threshold"))
}

async fn set(qsd: &mut Daemon, node: &str, bytes: u64) -> Result<()> {
    qsd.run("block-set-write-threshold", json!({"node-name": node, "write-threshold": bytes}))
        .await?;
    let shown = threshold(qsd, node).await?;
    ensure!(shown == bytes, "{node} shows {shown}, not {bytes}");
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let other = t.image("other").size(SIZE).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&img, "disk").await?;
    qsd.add(&other, "other").await?;
    let disk = qsd.export_nbd("disk").await?;

    t.section("what does not go beyond");
    let quiet = ["write -P 1 0 1M", "write -z 512k 512k", "read 1M 1M", "discard 2M 1M", "flush"];
    set(&mut qsd, "disk", MIB).await?;
    for command in quiet {
        t.io(&disk, [command]).quiet().await?;
        let left = threshold(&mut qsd, "disk").await?;
        t.log(format!("{command}: {}", if left == MIB { "nothing" } else { "reported" }));
    }

    t.section("what does");
    let loud = [
        "write -P 2 1020k 8k",
        "write -P 3 1M 512",
        "write -z 1M 1M",
        "write -P 4 7M 1M",
        "aio_write -P 5 2M 64k",
    ];
    for command in loud {
        set(&mut qsd, "disk", MIB).await?;
        t.io(&disk, [command, "aio_flush"]).quiet().await?;
        let event = qsd.event("BLOCK_WRITE_THRESHOLD").await?;
        qsd.log_event(&event);
        // Told once: it is set no longer.
        ensure!(threshold(&mut qsd, "disk").await? == 0, "it is still set");
        t.io(&disk, [command, "aio_flush"]).quiet().await?;
        ensure!(threshold(&mut qsd, "disk").await? == 0, "it is set again");
    }

    t.section("set again, removed, and of another node");
    set(&mut qsd, "disk", 4 * MIB).await?;
    set(&mut qsd, "disk", 6 * MIB).await?;
    t.io(&disk, ["write -P 6 5M 64k"]).quiet().await?;
    ensure!(threshold(&mut qsd, "disk").await? == 6 * MIB, "the first threshold is not forgotten");
    set(&mut qsd, "disk", 0).await?;
    set(&mut qsd, "other", MIB).await?;
    t.io(&disk, ["write -P 7 6M 1M"]).quiet().await?;
    ensure!(
        threshold(&mut qsd, "other").await? == MIB,
        "a write to another node was taken for one"
    );
    let copy = json!({"device": "disk", "target": "other", "sync": "full"});
    let job = qsd.start_job("blockdev-mirror", copy).await?;
    let event = qsd.event("BLOCK_WRITE_THRESHOLD").await?;
    t.log(format!("a job's writes: reported for {}", event["data"]["node-name"]));
    qsd.conclude(&job, AtReady::Complete).await?;

    t.section("invalid arguments");
    for (node, bytes) in [("nowhere", json!(1)), ("disk", json!("many"))] {
        qsd.qmp_fails(
            "block-set-write-threshold",
            json!({"node-name": node, "write-threshold": bytes}),
        )
        .await?;
    }
    // Nothing is told that was not awaited above.
    let left = qsd.left_events("BLOCK_WRITE_THRESHOLD");
    ensure!(left == 0, "reported {left} times more");
    qsd.quit().await?;
    t.same(&img, &other).await?;
    t.verify(
        &img,
        &[(1, 0, 512 * KIB), (6, 5 * MIB, 64 * KIB), (7, 6 * MIB, MIB), (4, 7 * MIB, MIB)],
    )
    .await?;
    t.check(&img).await
}
