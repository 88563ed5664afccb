//! A quorum reads what most of its children return, repairs or reports the
//! others, and fails where too few agree.
//!
//! group: rw auto quick io qmp
//! supported_fmt: generic
//! unsupported_fmt: luks
//! supported_proto: file
//! needs: driver:quorum qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut images = Vec::new();
    for name in ["a", "b", "c"] {
        images.push(t.image(name).size(SIZE).await?);
    }
    let mut qsd = t.qsd("").await?;
    for (img, name) in images.iter().zip(["a", "b", "c"]) {
        qsd.add(img, name).await?;
    }
    let quorum = |rewrite: bool| {
        json!({"driver": "quorum", "node-name": "q", "vote-threshold": 2, "rewrite-corrupted": rewrite,
            "children": ["a", "b", "c"]})
    };

    t.section("all agree");
    qsd.qmp("blockdev-add", quorum(false)).await?;
    let disk = qsd.export_nbd("q").await?;
    t.io(&disk, ["write -P 1 0 128k", "write -P 2 512k 64k", "read -P 1 0 128k", "flush"]).await?;
    qsd.quit().await?;
    for img in &images {
        t.verify(img, &[(1, 0, 128 * KIB), (0, 128 * KIB, 384 * KIB), (2, 512 * KIB, 64 * KIB)])
            .await?;
    }

    t.section("one does not");
    t.write(&images[1], &[(9, 0, 4 * KIB)]).await?;
    for rewrite in [false, true] {
        let mut qsd = t.qsd("").await?;
        for (img, name) in images.iter().zip(["a", "b", "c"]) {
            qsd.add(img, name).await?;
        }
        qsd.qmp("blockdev-add", quorum(rewrite)).await?;
        let disk = qsd.export_nbd("q").await?;
        t.io(&disk, ["read -P 1 0 4k"]).await?;
        let event = qsd.event("QUORUM_REPORT_BAD").await?;
        t.log(format!("reported: {} ({})", event["data"]["node-name"], event["data"]["type"]));
        qsd.quit().await?;
        let now = if rewrite { 1 } else { 9 };
        t.verify(&images[1], &[(now, 0, 4 * KIB), (1, 4 * KIB, 4 * KIB)]).await?;
    }

    t.section("all differ");
    t.write(&images[1], &[(8, 64 * KIB, 512)]).await?;
    t.write(&images[2], &[(9, 64 * KIB, 512)]).await?;
    let mut qsd = t.qsd("").await?;
    for (img, name) in images.iter().zip(["a", "b", "c"]) {
        qsd.add(img, name).await?;
    }
    qsd.qmp("blockdev-add", quorum(true)).await?;
    let disk = qsd.export_nbd("q").await?;
    t.io(&disk, ["read 64k 512"]).fails().await?;
    // The server hangs up on a client whose read failed: this is another one.
    t.io(&disk, ["read -P 1 0 4k"]).await?;
    let event = qsd.event("QUORUM_FAILURE").await?;
    t.log(format!("failed: {}", event["data"]["reference"]));

    t.section("invalid thresholds");
    for (what, threshold) in [("none", 0), ("more than there are", 4)] {
        let mut node = quorum(false);
        node["node-name"] = "q2".into();
        node["vote-threshold"] = threshold.into();
        ensure!(qsd.ask("blockdev-add", node).await?.is_err(), "{what}: taken");
        t.log(format!("{what}: refused"));
    }
    qsd.quit().await
}
