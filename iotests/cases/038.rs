//! Incremental backups by a dirty bitmap copy all that was written and nothing
//! else; after an error or with another mode the bitmap keeps what it must.
//!
//! group: rw auto quick backup bitmap jobs blkdebug
//! supported_fmt: generic
//! needs: qemu-storage-daemon driver:blkdebug

use iotests::prelude::*;

const SIZE: u64 = 16 * MIB;
/// At least a cluster of every image: what a backup copies at once.
const UNIT: u64 = 2 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.image("src").size(SIZE).await?;
    let dst = t.target("dst", SIZE).await?;
    t.write(&src, &[(1, 0, SIZE)]).await?;
    t.write(&dst, &[(9, 0, SIZE)]).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&src, "src").await?;
    qsd.add(&dst, "dst").await?;
    let export = qsd.export_nbd("src").await?;
    let bitmap = json!({"node": "src", "name": "b", "granularity": UNIT});
    qsd.qmp("block-dirty-bitmap-add", bitmap).await?;

    t.section("what was written since");
    t.io(&export, ["write -P 2 2M 64k", "write -P 3 8388607 2", "read -P 1 0 1M"]).quiet().await?;
    qsd.log_bitmaps("src").await?;
    let inc = json!({"device": "src", "target": "dst", "sync": "incremental", "bitmap": "b"});
    qsd.job("blockdev-backup", inc.clone()).await?;
    qsd.log_bitmaps("src").await?;
    let copy = qsd.export_nbd_with("dst", json!({"writable": false})).await?;
    t.io(
        &copy,
        [
            "read -P 9 0 2M",
            "read -P 2 2M 64k",
            "read -P 1 2162688 2031616",
            "read -P 9 4M 2M",
            "read -P 1 6M 2097151",
            "read -P 3 8388607 2",
            "read -P 1 8388609 2097151",
            "read -P 9 10M 6M",
        ],
    )
    .options(["-r"])
    .await?;

    t.section("while it runs the guest writes: that is for the next one");
    t.io(&export, ["write -P 4 0 64k", "write -P 4 10M 64k"]).quiet().await?;
    let mut slow = inc.clone();
    slow["speed"] = 1.into();
    let job = qsd.start_job("blockdev-backup", slow).await?;
    qsd.qmp_fails("block-dirty-bitmap-clear", json!({"node": "src", "name": "b"})).await?;
    qsd.qmp_fails("block-dirty-bitmap-remove", json!({"node": "src", "name": "b"})).await?;
    t.io(&export, ["write -P 5 10M 64k", "write -P 5 14M 64k"]).quiet().await?;
    qsd.run("block-job-set-speed", json!({"device": job, "speed": 0})).await?;
    qsd.conclude(&job, AtReady::Return).await?;
    t.io(&copy, ["read -P 4 0 64k", "read -P 4 10M 64k", "read -P 9 14M 64k"])
        .options(["-r"])
        .await?;
    qsd.log_bitmaps("src").await?;
    qsd.job("blockdev-backup", inc.clone()).await?;
    t.io(&copy, ["read -P 5 10M 64k", "read -P 5 14M 64k"]).options(["-r"]).await?;
    qsd.unexport("nbd-dst").await?;

    t.section("modes of a bitmap, and a target that fails");
    for (mode, fails) in [
        ("on-success", false),
        ("on-success", true),
        ("never", false),
        ("never", true),
        ("always", false),
        ("always", true),
    ] {
        t.section(format!(
            "{mode}, {}",
            if fails { "fails at the second unit" } else { "succeeds" }
        ));
        let clear = json!({"node": "src", "name": "b"});
        qsd.run("block-dirty-bitmap-clear", clear).await?;
        t.io(&export, [format!("write -P 6 0 {UNIT}"), format!("write -P 7 {} {UNIT}", 2 * UNIT)])
            .quiet()
            .await?;
        let target = if fails {
            let fault =
                json!([{"event": "none", "iotype": "write", "errno": 5, "sector": 2 * UNIT / 512}]);
            let bad = json!({"driver": "blkdebug", "node-name": "bad", "image": "dst", "inject-error": fault});
            qsd.run("blockdev-add", bad).await?;
            "bad"
        } else {
            "dst"
        };
        let mut args = json!({"device": "src", "target": target, "sync": "bitmap", "bitmap": "b", "bitmap-mode": mode});
        // One after the other, so that the first unit is done when the second fails.
        args["x-perf"] = json!({"max-workers": 1});
        let end = qsd.job("blockdev-backup", args).await?;
        ensure!(end.error.is_some() == fails, "the backup ended with {:?}", end.error);
        qsd.log_bitmaps("src").await?;
        if fails {
            qsd.run("blockdev-del", json!({"node-name": "bad"})).await?;
        }
    }
    qsd.quit().await?;
    t.verify(&src, &[(6, 0, UNIT), (7, 2 * UNIT, UNIT), (5, 14 * MIB, 64 * KIB)]).await?;
    t.check(&dst).await
}
