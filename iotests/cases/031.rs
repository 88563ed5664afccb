//! A stream into the middle of a chain takes out the images between, records the
//! new backing file, and every image still shows what it showed.
//!
//! group: rw auto quick stream jobs backing
//! supported_fmt: generic
//! unsupported_imgopts: cluster_size=2M
//! needs: rebase qemu-storage-daemon reopen

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    t.write(&base, &[(1, 0, 4 * MIB)]).await?;
    let one = t.image("one").backing(&base).await?;
    t.write(&one, &[(2, MIB, MIB)]).await?;
    let two = t.image("two").backing(&one).await?;
    t.write(&two, &[(3, 2 * MIB, MIB), (0, 0, 64 * KIB)]).await?;
    let top = t.image("top").backing(&two).await?;
    t.write(&top, &[(4, 3 * MIB, 64 * KIB)]).await?;
    let seen = [
        (0, 0, 64 * KIB),
        (1, 64 * KIB, MIB - 64 * KIB),
        (2, MIB, MIB),
        (3, 2 * MIB, MIB),
        (4, 3 * MIB, 64 * KIB),
        (1, 3 * MIB + 64 * KIB, MIB - 64 * KIB),
        (0, 4 * MIB, 4 * MIB),
    ];

    let mut qsd = t.qsd("").await?;
    qsd.add_chain(&[(&base, "base"), (&one, "one"), (&two, "two"), (&top, "top")]).await?;
    let export = qsd.export_nbd("top").await?;

    t.section("invalid requests");
    qsd.qmp_fails("block-stream", json!({"device": "two", "base-node": "top", "job-id": "j"}))
        .await?;
    qsd.qmp_fails(
        "block-stream",
        json!({"device": "two", "base-node": "base", "bottom": "one", "job-id": "j"}),
    )
    .await?;
    qsd.qmp_fails(
        "block-stream",
        json!({"device": "two", "base-node": "base", "job-id": "bad id"}),
    )
    .await?;
    qsd.qmp_fails(
        "block-stream",
        json!({"device": "two", "base-node": "base", "job-id": "j", "speed": -1}),
    )
    .await?;

    t.section("the middle image takes in the one below it");
    let name = base.real();
    let args = json!({"device": "two", "base-node": "base", "backing-file": name, "speed": 1});
    let job = qsd.start_job("block-stream", args).await?;
    // The images of the job are its own meanwhile.
    qsd.qmp_fails("block-stream", json!({"device": "two", "job-id": "job1"})).await?;
    qsd.qmp_fails("blockdev-del", json!({"node-name": "one"})).await?;
    t.io(&export, ["read -P 2 1M 1M", "write -P 5 5M 64k"]).await?;
    qsd.qmp("block-job-set-speed", json!({"device": job, "speed": 0})).await?;
    qsd.conclude(&job, AtReady::Complete).await?;
    qsd.log_backing("two").await?;
    t.io(&export, ["read -P 0 0 64k", "read -P 2 1M 1M", "read -P 3 2M 1M", "read -P 5 5M 64k"])
        .await?;
    qsd.qmp("blockdev-del", json!({"node-name": "one"})).await?;

    t.section("a stream that has nothing to do");
    qsd.job("block-stream", json!({"device": "two", "base-node": "base"})).await?;
    qsd.quit().await?;

    t.section("afterwards");
    t.info(&two).await?;
    t.verify(&top, &seen[..6]).await?;
    t.verify(&top, &[(5, 5 * MIB, 64 * KIB)]).await?;
    t.verify(&two, &seen[..4]).await?;
    t.verify(&one, &[(1, 0, MIB), (2, MIB, MIB), (1, 2 * MIB, 2 * MIB)]).await?;
    t.verify(&base, &[(1, 0, 4 * MIB), (0, 4 * MIB, 4 * MIB)]).await?;
    for img in [&base, &one, &two, &top] {
        t.check(img).await?;
    }
    Ok(())
}
