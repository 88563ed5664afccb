//! Requests over a throttle's limit wait, and go on when the node is
//! moved to a group without one; limits can be asked for, and wrong ones are
//! refused.
//!
//! group: rw auto quick throttle qmp
//! supported_fmt: generic
//! supported_proto: file
//! needs: driver:throttle qemu-storage-daemon

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(4 * MIB).await?;
    t.write(&img, &[(5, 0, 2 * MIB)]).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&img, "disk").await?;
    let limits = json!({"bps-write": 1, "iops-read": 1000});
    qsd.qmp("object-add", json!({"qom-type": "throttle-group", "id": "tg", "limits": limits}))
        .await?;
    let node =
        json!({"driver": "throttle", "node-name": "slow", "throttle-group": "tg", "file": "disk"});
    qsd.qmp("blockdev-add", node).await?;

    t.section("limits are reported as they were set");
    let reported = qsd.run("qom-get", json!({"path": "/objects/tg", "property": "limits"})).await?;
    t.log_json(&json!({"bps-write": reported["bps-write"], "iops-read": reported["iops-read"], "bps-total": reported["bps-total"]}));

    t.section("a write that waits");
    let disk = qsd.export_nbd("slow").await?;
    let mut session = t.session(&disk).await?;
    session.quiet();
    session.run("write -P 1 0 64k").await?;
    // At a byte a second it would take the best part of a day.
    session.run("aio_write -P 2 1M 64k").await?;
    // A sector is one piece of a reply. One of several pieces, as of an image with small
    // clusters, can hang QEMU's client while another request waits.
    let early = session.run("read -P 5 1M 512").await?;
    t.log(format!("the old data is there meanwhile: {}", !early.contains("failed")));
    qsd.qmp("object-add", json!({"qom-type": "throttle-group", "id": "free"})).await?;
    let node = json!({"driver": "throttle", "node-name": "slow", "throttle-group": "free", "file": "disk"});
    qsd.qmp("blockdev-reopen", json!({"options": [node]})).await?;
    session.run("aio_flush").await?;
    let late = session.run("read -P 2 1M 64k").await?;
    t.log(format!("then the new: {}", !late.contains("failed")));
    session.close().await?;

    t.section("invalid limits");
    for value in [
        json!({"bps-total": 1, "bps-write": 1}),
        json!({"bps-read-max": 10}),
        json!({"iops-total": -1}),
        json!({"bps-read": 100, "bps-read-max": 10}),
    ] {
        let set = json!({"path": "/objects/tg", "property": "limits", "value": value});
        ensure!(qsd.ask("qom-set", set).await?.is_err(), "{value} is taken");
        t.log(format!("{value}: refused"));
    }

    t.section("a group that is in use, and one that is not there");
    qsd.qmp_fails("object-del", json!({"id": "free"})).await?;
    qsd.qmp("object-del", json!({"id": "tg"})).await?;
    let node =
        json!({"driver": "throttle", "node-name": "x", "throttle-group": "none", "file": "disk"});
    qsd.qmp_fails("blockdev-add", node).await?;
    qsd.quit().await?;
    t.verify(&img, &[(1, 0, 64 * KIB), (2, MIB, 64 * KIB)]).await
}
