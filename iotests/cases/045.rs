//! Dirty bitmaps count exactly what is written, by granularity, while they
//! record; merged ones hold both; the verbs that cannot be are refused.
//!
//! group: rw auto quick bitmap qmp
//! supported_fmt: generic
//! needs: qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&img, "img").await?;
    let export = qsd.export_nbd("img").await?;

    t.section("invalid requests");
    let on = |name: &str| json!({"node": "img", "name": name});
    for granularity in [0u64, 3, 256, 1000, 1 << 31] {
        let add = json!({"node": "img", "name": "x", "granularity": granularity});
        let refused = qsd.ask("block-dirty-bitmap-add", add).await?.is_err();
        t.log(format!("granularity {granularity}: {}", if refused { "refused" } else { "taken" }));
        if !refused {
            qsd.run("block-dirty-bitmap-remove", on("x")).await?;
        }
    }
    qsd.qmp_fails("block-dirty-bitmap-add", json!({"node": "nowhere", "name": "x"})).await?;
    qsd.qmp_fails("block-dirty-bitmap-clear", on("nowhere")).await?;
    qsd.qmp_fails("block-dirty-bitmap-remove", on("nowhere")).await?;

    t.section("each granularity");
    for granularity in [512u64, 4 * KIB, 64 * KIB, MIB, 8 * MIB] {
        let add =
            json!({"node": "img", "name": format!("g{granularity}"), "granularity": granularity});
        qsd.run("block-dirty-bitmap-add", add).await?;
    }
    qsd.qmp_fails("block-dirty-bitmap-add", on("g512")).await?;
    for command in [
        "write -P 1 4095 2",
        "read 1M 1M",
        &format!("write -P 2 {} 512", SIZE - 512),
        "write -z 2M 4k",
    ] {
        t.io(&export, [command]).quiet().await?;
        t.log(format!("after {command}"));
        qsd.log_bitmaps("img").await?;
    }

    t.section("a bitmap that does not record");
    qsd.qmp("block-dirty-bitmap-disable", on("g4096")).await?;
    t.io(&export, ["write -P 3 3M 64k"]).quiet().await?;
    qsd.log_bitmaps("img").await?;
    qsd.qmp("block-dirty-bitmap-enable", on("g4096")).await?;
    qsd.qmp("block-dirty-bitmap-clear", on("g65536")).await?;
    t.io(&export, ["write -P 4 3145728 512"]).quiet().await?;
    qsd.log_bitmaps("img").await?;

    t.section("merged, finer into coarser and back");
    for (target, sources) in [("g65536", ["g512", "g4096"]), ("g512", ["g1048576", "g512"])] {
        let merge = json!({"node": "img", "target": target, "bitmaps": sources});
        qsd.qmp("block-dirty-bitmap-merge", merge).await?;
        qsd.log_bitmaps("img").await?;
    }
    qsd.qmp_fails(
        "block-dirty-bitmap-merge",
        json!({"node": "img", "target": "g512", "bitmaps": ["nowhere"]}),
    )
    .await?;

    t.section("those that are not persistent are gone with the node");
    qsd.unexport("nbd-img").await?;
    qsd.run("blockdev-del", json!({"node-name": "img"})).await?;
    qsd.add(&img, "img").await?;
    qsd.log_bitmaps("img").await?;
    qsd.quit().await?;
    t.check(&img).await
}
