//! A copy-before-write filter that keeps only what a bitmap marks, or waits no
//! longer than its timeout: the guest's write, or the snapshot, is given up as
//! configured.
//!
//! group: rw auto backup bitmap qmp throttle
//! supported_fmt: generic
//! unsupported_fmt: luks
//! supported_proto: file
//! needs: driver:copy-before-write driver:snapshot-access driver:throttle qemu-storage-daemon qemu>=10.0

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

/// A guest's disk and its past, kept in a node that `target` describes.
async fn fleecing(
    t: &Test,
    img: &Image,
    target: Value,
    options: Value,
) -> Result<(Daemon, String, String)> {
    let mut qsd = t.qsd("").await?;
    qsd.add(img, "disk").await?;
    let limits = json!({"qom-type": "throttle-group", "id": "slow", "limits": {"bps-write": 1}});
    qsd.run("object-add", limits).await?;
    qsd.run("blockdev-add", target).await?;
    if options.get("bitmap").is_some() {
        let add = json!({"node": "disk", "name": "marks", "granularity": 65536});
        qsd.run("block-dirty-bitmap-add", add).await?;
        let url = qsd.export_nbd("disk").await?;
        t.io(url, ["write -P 2 1M 1M"]).quiet().await?;
        qsd.unexport("nbd-disk").await?;
        qsd.run("block-dirty-bitmap-disable", json!({"node": "disk", "name": "marks"})).await?;
    }
    let (guest, past) = qsd.fleece("disk", "tmp", "past", &options).await?;
    Ok((qsd, guest, past))
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.write(&img, &[(1, 0, SIZE)]).await?;
    let tmp = t.image("tmp").format("raw").size(SIZE).quiet().await?;
    let past_io = |past: &str, commands: &[&str]| t.io(past, commands).options(["-r"]);

    t.section("only what the bitmap marks");
    let bitmap = json!({"bitmap": {"node": "disk", "name": "marks"}});
    let (qsd, guest, past) = fleecing(t, &img, tmp.node("tmp"), bitmap).await?;
    past_io(&past, &["read -P 2 1M 1M"]).await?;
    past_io(&past, &["read 0 512"]).fails().await?;
    t.io(&guest, ["write -P 3 512k 1M", "read -P 3 512k 1M"]).await?;
    past_io(&past, &["read -P 2 1M 1M"]).await?;
    past_io(&past, &["read 512k 512"]).fails().await?;
    qsd.quit().await?;
    let kept = std::fs::read(tmp.file())?;
    let place = |at: u64| usize::try_from(at).map(|at| kept.get(at).copied());
    t.log(format!("kept: {:?} outside, {:?} inside", place(600 * KIB)?, place(MIB)?));

    let slow = || json!({"driver": "throttle", "node-name": "tmp", "throttle-group": "slow", "file": tmp.protocol_node("under")});
    t.write(&img, &[(1, 0, SIZE)]).await?;
    t.section("the copy takes too long: the guest's write fails");
    let options = json!({"cbw-timeout": 1, "on-cbw-error": "break-guest-write"});
    let (qsd, guest, past) = fleecing(t, &img, slow(), options).await?;
    // The first is let through by the throttle, and leaves it nothing for long.
    t.io(&guest, ["write -P 4 0 64k"]).any_status().quiet().await?;
    t.io(&guest, ["write -P 4 1M 64k"]).fails().quiet().await?;
    past_io(&past, &["read -P 1 1M 64k"]).await?;
    t.io(&guest, ["read -P 1 1M 64k"]).await?;
    qsd.quit_quietly().await?;

    t.section("the copy takes too long: the snapshot is given up");
    t.write(&img, &[(1, 0, SIZE)]).await?;
    let options = json!({"cbw-timeout": 1, "on-cbw-error": "break-snapshot"});
    let (qsd, guest, past) = fleecing(t, &img, slow(), options).await?;
    t.io(&guest, ["write -P 4 0 64k", "write -P 5 1M 64k", "read -P 5 1M 64k"]).await?;
    past_io(&past, &["read 1M 64k"]).fails().quiet().await?;
    t.log("its reads fail");
    qsd.quit_quietly().await?;
    t.verify(&img, &[(4, 0, 64 * KIB), (5, MIB, 64 * KIB), (1, 2 * MIB, 2 * MIB)]).await?;
    t.check(&img).await
}
