//! Committing the active image while the guest writes: nothing written is lost,
//! and the guest ends up on the base.
//!
//! group: rw auto quick commit jobs backing
//! supported_fmt: generic
//! unsupported_fmt: qed
//! needs: backing qemu-storage-daemon reopen

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    let mut seen = t.disk_model(SIZE);
    let plan = Plan { count: 25, align: 4096, longest: 128 * KIB, ..Plan::default() };
    let mut rng = t.rng();
    t.apply(&base, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    let top = t.image("top").backing(&base).await?;
    t.apply(&top, &mut seen, &plan.ops(&mut rng, SIZE)).await?;

    let mut qsd = t.qsd("").await?;
    qsd.add_chain(&[(&base, "base"), (&top, "top")]).await?;
    let export = qsd.export_nbd("top").await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;

    t.section("cancelled when it is ready: the chain stays");
    let args = json!({"device": "top", "base-node": "base"});
    let job = qsd.start_job("block-commit", args.clone()).await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    qsd.conclude(&job, AtReady::Cancel).await?;
    qsd.log_backing("top").await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;

    t.section("completed");
    let job = qsd.start_job("block-commit", args).await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    qsd.await_state(&job, "ready").await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    qsd.qmp("block-job-complete", json!({"device": job})).await?;
    qsd.conclude(&job, AtReady::Complete).await?;

    t.section("the guest is on the base");
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    qsd.qmp("blockdev-del", json!({"node-name": "top"})).await?;
    t.io(&export, seen.reads(0, SIZE)).quiet().await?;
    qsd.quit().await?;
    t.matches(&base, &seen).await?;
    t.check(&base).await?;
    t.check(&top).await
}
