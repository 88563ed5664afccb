//! A stream job in the storage daemon brings a whole backing chain into the top
//! image while the guest writes to it.
//!
//! group: rw auto quick stream jobs backing
//! supported_fmt: generic
//! needs: rebase qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    t.write(&base, &[(1, 0, 4 * MIB)]).await?;
    let mid = t.image("mid").backing(&base).await?;
    t.write(&mid, &[(2, MIB, MIB), (5, 5 * MIB, 64 * KIB)]).await?;
    let top = t.image("top").backing(&mid).await?;
    t.write(&top, &[(3, 0, 64 * KIB)]).await?;

    let mut qsd = t.qsd("").await?;
    qsd.add_chain(&[(&base, "base"), (&mid, "mid"), (&top, "top")]).await?;

    t.section("the middle image first");
    let export = qsd.export_nbd("top").await?;
    // At a byte a second it waits after the first of the two ranges.
    let args = json!({"device": "top", "base-node": "base", "speed": 1});
    let job = qsd.start_job("block-stream", args).await?;
    qsd.await_state(&job, "running").await?;
    t.io(&export, ["write -P 4 6M 64k", "read -P 2 1M 1M"]).await?;
    qsd.qmp("block-job-set-speed", json!({"device": job, "speed": 0})).await?;
    qsd.conclude(&job, AtReady::Complete).await?;

    t.section("then all the rest");
    qsd.job("block-stream", json!({"device": "top"})).await?;
    t.io(&export, ["read -P 4 6M 64k", "read -P 1 2M 2M", "read -P 0 4M 1M", "read -P 5 5M 64k"])
        .await?;

    t.section("a job on what is not there");
    qsd.qmp_fails("block-stream", json!({"device": "missing", "job-id": "job1"})).await?;
    qsd.quit().await?;

    t.section("the top stands alone");
    t.info(&top).await?;
    t.verify(
        &top,
        &[
            (3, 0, 64 * KIB),
            (1, 64 * KIB, MIB - 64 * KIB),
            (2, MIB, MIB),
            (1, 2 * MIB, 2 * MIB),
            (0, 4 * MIB, MIB),
            (5, 5 * MIB, 64 * KIB),
            (0, 5 * MIB + 64 * KIB, MIB - 64 * KIB),
            (4, 6 * MIB, 64 * KIB),
            (0, 6 * MIB + 64 * KIB, 2 * MIB - 64 * KIB),
        ],
    )
    .await?;
    t.check(&top).await
}
