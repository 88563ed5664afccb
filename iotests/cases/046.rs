//! Persistent bitmaps live through the end of the process, reopening, snapshots,
//! commit and mirror, with exactly what was written in them.
//!
//! group: rw auto quick bitmap commit mirror snapshot jobs
//! supported_fmt: qcow2
//! unsupported_imgopts: data_file cluster_size=2M
//! needs: bitmaps qemu-storage-daemon reopen

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&base, "base").await?;
    let on = |node: &str, name: &str| json!({"node": node, "name": name, "granularity": 64 * KIB, "persistent": true});
    for name in ["kept", "off", "gone"] {
        qsd.run("block-dirty-bitmap-add", on("base", name)).await?;
    }
    let export = qsd.export_nbd("base").await?;
    t.io(&export, ["write -P 1 0 64k"]).quiet().await?;
    qsd.qmp("block-dirty-bitmap-disable", json!({"node": "base", "name": "off"})).await?;
    qsd.qmp("block-dirty-bitmap-remove", json!({"node": "base", "name": "gone"})).await?;
    t.io(&export, ["write -P 1 128k 64k"]).quiet().await?;
    qsd.log_bitmaps("base").await?;
    qsd.quit().await?;
    t.check(&base).await?;

    t.section("in another process, read-only and then not");
    let mut qsd = t.qsd("").await?;
    qsd.add_with(&base, "base", json!({"read-only": true})).await?;
    qsd.log_bitmaps("base").await?;
    for verb in ["block-dirty-bitmap-clear", "block-dirty-bitmap-remove"] {
        let refused = qsd.ask(verb, json!({"node": "base", "name": "off"})).await?.is_err();
        t.log(format!("{verb}: {}", if refused { "refused" } else { "done" }));
    }
    let writable = qsd.node_with(&base, "base", &json!({"read-only": false}));
    qsd.run("blockdev-reopen", json!({"options": [writable]})).await?;
    let export = qsd.export_nbd("base").await?;
    t.io(&export, ["write -P 2 1M 64k"]).quiet().await?;
    qsd.log_bitmaps("base").await?;

    t.section("an overlay has its own");
    let top = t.image("top").backing(&base).await?;
    qsd.add_with(&top, "top", json!({"backing": Value::Null})).await?;
    qsd.qmp("blockdev-snapshot", json!({"node": "base", "overlay": "top"})).await?;
    qsd.run("block-dirty-bitmap-add", on("top", "kept")).await?;
    t.io(&export, ["write -P 3 2M 64k"]).quiet().await?;
    qsd.log_bitmaps("base").await?;
    qsd.log_bitmaps("top").await?;

    t.section("what a commit brings down is dirty in the base");
    qsd.job("block-commit", json!({"device": "top"})).await?;
    qsd.log_bitmaps("base").await?;
    let source = json!([{"node": "top", "name": "kept"}]);
    qsd.qmp(
        "block-dirty-bitmap-merge",
        json!({"node": "base", "target": "off", "bitmaps": source}),
    )
    .await?;
    qsd.run("blockdev-del", json!({"node-name": "top"})).await?;
    qsd.log_bitmaps("base").await?;

    t.section("a mirror's target records what the job writes");
    let dst = t.image("dst").size(SIZE).await?;
    qsd.add(&dst, "dst").await?;
    qsd.run("block-dirty-bitmap-add", on("dst", "m")).await?;
    let mirror = json!({"device": "base", "target": "dst", "sync": "full"});
    let job = qsd.start_job("blockdev-mirror", mirror).await?;
    t.io(&export, ["write -P 4 3M 64k"]).quiet().await?;
    qsd.conclude(&job, AtReady::Complete).await?;
    t.io(&export, ["write -P 5 3211264 64k"]).quiet().await?;
    qsd.log_bitmaps("base").await?;
    let found = qsd.bitmap("dst", "m").await?.context("no bitmap m")?;
    let count = found["count"].as_u64().unwrap_or_default();
    t.log(format!("the copy's bitmap has what was copied: {}", count >= 6 * 64 * KIB));
    qsd.quit().await?;
    for img in [&base, &top, &dst] {
        t.check(img).await?;
    }
    t.verify(
        &dst,
        &[(1, 0, 64 * KIB), (2, MIB, 64 * KIB), (3, 2 * MIB, 64 * KIB), (4, 3 * MIB, 64 * KIB)],
    )
    .await?;

    t.section("at the end");
    let mut qsd = t.qsd("").await?;
    qsd.add_with(&base, "base", json!({"read-only": true})).await?;
    qsd.log_bitmaps("base").await?;
    qsd.quit().await
}
