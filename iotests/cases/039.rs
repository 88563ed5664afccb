//! A backup that meets an error on either side follows its policy; where old
//! data cannot be saved, the guest's write fails or the copy does, as
//! configured.
//!
//! group: rw auto quick backup jobs blkdebug
//! supported_fmt: generic
//! needs: qemu-storage-daemon driver:blkdebug qemu>=7.1

use iotests::prelude::*;

const SIZE: u64 = 2 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.filled("src", SIZE, 7).await?;
    let dst = t.image("dst").size(SIZE).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&src, "src").await?;
    t.copy_under_policies(&mut qsd, "blockdev-backup", &dst, AtReady::Return).await?;

    t.section("the target fails under a write of the guest");
    qsd.add(&dst, "dst").await?;
    let fault = json!([{"event": "none", "iotype": "write", "errno": 5}]);
    let bad =
        json!({"driver": "blkdebug", "node-name": "bad", "image": "dst", "inject-error": fault});
    qsd.run("blockdev-add", bad).await?;
    let export = qsd.export_nbd("src").await?;
    let args = json!({"device": "src", "target": "bad", "sync": "none"});
    let job = qsd.start_job("blockdev-backup", args).await?;
    // A backup rather has the guest's write fail than lose what was there.
    t.io(&export, ["write -P 8 0 64k"]).fails().await?;
    t.io(&export, [format!("read -P 7 0 {SIZE}")]).await?;
    qsd.qmp("job-cancel", json!({"id": job})).await?;
    qsd.conclude(&job, AtReady::Pass).await?;
    qsd.unexport("nbd-src").await?;

    t.section("the filter can give up the copy instead");
    let cbw = json!({"driver": "copy-before-write", "node-name": "cbw", "file": "src", "target": "bad",
        "on-cbw-error": "break-snapshot"});
    qsd.run("blockdev-add", cbw).await?;
    qsd.run(
        "blockdev-add",
        json!({"driver": "snapshot-access", "node-name": "then", "file": "cbw"}),
    )
    .await?;
    let export = qsd.export_nbd("cbw").await?;
    let then = qsd.export_nbd_with("then", json!({"writable": false})).await?;
    t.io(&then, ["read -P 7 0 64k"]).options(["-r"]).await?;
    t.io(&export, ["write -P 8 0 64k", "read -P 8 0 64k"]).await?;
    t.io(&then, ["read 1M 64k"]).options(["-r"]).fails().quiet().await?;
    qsd.quit().await?;
    t.verify(&src, &[(8, 0, 64 * KIB), (7, 64 * KIB, SIZE - 64 * KIB)]).await?;
    t.check(&src).await
}
