//! A preallocate filter whose options or permissions change while it is in use:
//! it preallocates as last configured, and truncates when it loses write
//! permission.
//!
//! group: rw auto quick io qmp
//! supported_fmt: qcow2 qed
//! supported_proto: file
//! unsupported_imgopts: data_file preallocation cluster_size=2M lazy_refcounts
//! needs: driver:preallocate qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 16 * MIB;

/// The chain of nodes, from the file up.
fn nodes(qsd: &Daemon, img: &Image, ahead: u64, read_only: bool) -> [Value; 3] {
    let mut top = qsd.node_with(img, "top", &json!({"read-only": read_only}));
    let mut file = top["file"].take();
    file["node-name"] = json!("file");
    file["read-only"] = json!(read_only);
    top["file"] = json!("pre");
    let mut pre = json!({"driver": "preallocate", "node-name": "pre", "file": "file", "read-only": read_only,
        "prealloc-size": ahead, "prealloc-align": MIB});
    // A cache mode of the disk is one of all that is below it.
    if let Some(cache) = top.get("cache") {
        file["cache"] = cache.clone();
        pre["cache"] = cache.clone();
    }
    [file, pre, top]
}

/// How long the file is: with this much room ahead of its data, or as they are.
fn log_room(t: &Test, img: &Image, ahead: u64) -> Result<()> {
    let length = img.file().metadata()?.len();
    let there = length >= ahead && length % MIB == 0;
    t.log(format!("there is room of {} MiB: {there}", ahead / MIB));
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut qsd = t.qsd("").await?;
    for node in nodes(&qsd, &img, 24 * MIB, false) {
        qsd.run("blockdev-add", node).await?;
    }
    let disk = qsd.export_nbd("top").await?;
    t.io(&disk, ["write -P 1 0 64k"]).quiet().await?;
    log_room(t, &img, 24 * MIB)?;

    t.section("invalid options");
    for (key, value) in [("prealloc-align", 1000), ("prealloc-align", 256), ("prealloc-size", -1)] {
        let mut pre = nodes(&qsd, &img, 24 * MIB, false)[1].clone();
        pre[key] = json!(value);
        ensure!(
            qsd.ask("blockdev-reopen", json!({"options": [pre]})).await?.is_err(),
            "{key}={value} is taken"
        );
        t.log(format!("{key}={value}: refused"));
    }
    t.io(&disk, ["write -P 2 64k 1M", "read -P 1 0 64k"]).quiet().await?;

    t.section("to be read only: what is left is given back");
    qsd.unexport("nbd-top").await?;
    let options = json!({"options": nodes(&qsd, &img, 24 * MIB, true)});
    qsd.run("blockdev-reopen", options).await?;
    log_room(t, &img, 24 * MIB)?;
    t.io(&img, ["read -P 1 0 64k", "read -P 2 64k 1M"]).options(["-r"]).quiet().await?;
    ensure!(qsd.export_nbd("top").await.is_err(), "a read-only node is written to");

    t.section("to be written, with other room ahead");
    qsd.run("blockdev-reopen", json!({"options": nodes(&qsd, &img, 48 * MIB, false)})).await?;
    let disk = qsd.export_nbd("top").await?;
    t.io(&disk, ["write -P 3 8M 1M"]).quiet().await?;
    log_room(t, &img, 48 * MIB)?;

    t.section("without room ahead");
    qsd.unexport("nbd-top").await?;
    for read_only in [true, false] {
        let options = json!({"options": nodes(&qsd, &img, 0, read_only)});
        qsd.run("blockdev-reopen", options).await?;
    }
    let disk = qsd.export_nbd("top").await?;
    t.io(&disk, ["write -P 4 12M 1M", "flush"]).quiet().await?;
    let length = img.file().metadata()?.len();
    t.log(format!("the file is no longer than its data need: {}", length < 12 * MIB));
    qsd.quit().await?;
    t.verify(&img, &[(1, 0, 64 * KIB), (2, 64 * KIB, MIB), (3, 8 * MIB, MIB), (4, 12 * MIB, MIB)])
        .await?;
    t.check(&img).await
}
