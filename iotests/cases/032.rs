//! Committing an image from the middle of a chain brings its data into a smaller
//! base, which grows, and puts the overlay onto that base.
//!
//! group: rw auto quick commit jobs backing
//! supported_fmt: generic
//! needs: rebase resize growing qemu-storage-daemon reopen
//! unsupported_imgopts: data_file

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(2 * MIB).await?;
    t.write(&base, &[(1, 0, 2 * MIB)]).await?;
    let mid = t.image("mid").size(SIZE).backing(&base).await?;
    t.write(&mid, &[(2, MIB, 64 * KIB), (3, 6 * MIB, MIB)]).await?;
    let low = t.image("low").size(SIZE).backing(&mid).await?;
    t.write(&low, &[(0, 512 * KIB, 64 * KIB)]).await?;
    let top = t.image("top").size(SIZE).backing(&low).await?;
    t.write(&top, &[(4, 3 * MIB, 64 * KIB)]).await?;

    let mut qsd = t.qsd("").await?;
    qsd.add_chain(&[(&base, "base"), (&mid, "mid"), (&low, "low"), (&top, "top")]).await?;
    let export = qsd.export_nbd("top").await?;

    t.section("invalid requests");
    let commit = |top: &str, base: &str| json!({"device": "top", "top-node": top, "base-node": base, "job-id": "j"});
    qsd.qmp_fails("block-commit", commit("mid", "low")).await?;
    qsd.qmp_fails("block-commit", commit("mid", "mid")).await?;
    qsd.qmp_fails("block-commit", commit("nowhere", "base")).await?;

    t.section("two images into the base, while the guest writes");
    let args = json!({"device": "top", "top-node": "low", "base-node": "base", "speed": 1,
        "backing-file": base.real()});
    let job = qsd.start_job("block-commit", args).await?;
    t.io(
        &export,
        ["write -P 5 7M 64k", "read -P 3 6M 1M", "read -P 2 1M 64k", "read -P 0 512k 64k"],
    )
    .await?;
    qsd.qmp("block-job-set-speed", json!({"device": job, "speed": 0})).await?;
    qsd.conclude(&job, AtReady::Complete).await?;
    qsd.log_backing("top").await?;
    t.io(
        &export,
        ["read -P 5 7M 64k", "read -P 3 6M 1M", "read -P 0 512k 64k", "read -P 4 3M 64k"],
    )
    .await?;
    for node in ["low", "mid"] {
        qsd.qmp("blockdev-del", json!({"node-name": node})).await?;
    }
    qsd.quit().await?;

    t.section("the base has it all, and not what is in the top");
    t.info(&top).await?;
    t.info(&base).await?;
    t.verify(
        &base,
        &[
            (1, 0, 512 * KIB),
            (0, 512 * KIB, 64 * KIB),
            (1, 576 * KIB, MIB - 576 * KIB),
            (2, MIB, 64 * KIB),
            (1, MIB + 64 * KIB, MIB - 64 * KIB),
            (0, 2 * MIB, 4 * MIB),
            (3, 6 * MIB, MIB),
            (0, 7 * MIB, MIB),
        ],
    )
    .await?;
    t.verify(
        &top,
        &[
            (0, 512 * KIB, 64 * KIB),
            (4, 3 * MIB, 64 * KIB),
            (3, 6 * MIB, MIB),
            (5, 7 * MIB, 64 * KIB),
        ],
    )
    .await?;
    t.check(&base).await?;
    t.check(&top).await
}
