//! A mirror copies all of a disk or only what is written from now on, then takes
//! the guest over to the copy; the old image stays as it was at that moment.
//!
//! group: rw auto quick mirror jobs
//! supported_fmt: generic
//! needs: qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;
/// At least a cluster of every image.
const UNIT: u64 = 2 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.image("src").size(SIZE).await?;
    let mut seen = t.disk_model(SIZE);
    let plan = Plan { count: 25, align: 4096, longest: 256 * KIB, ..Plan::default() };
    let mut rng = t.rng();
    t.write(&src, &[(1, 0, SIZE)]).await?;
    seen.set(0, SIZE, Some(1));
    let dst = t.image("dst").size(SIZE).await?;
    t.write(&dst, &[(9, 0, SIZE)]).await?;

    let mut qsd = t.qsd("").await?;
    qsd.add(&src, "src").await?;
    qsd.add(&dst, "dst").await?;
    let export = qsd.export_nbd("src").await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;

    t.section("invalid requests");
    let mirror = |more: Value| {
        let mut args = json!({"device": "src", "target": "dst", "sync": "full", "job-id": "j"});
        if let (Some(args), Some(more)) = (args.as_object_mut(), more.as_object()) {
            args.extend(more.clone());
        }
        args
    };
    qsd.qmp_fails("blockdev-mirror", mirror(json!({"target": "src"}))).await?;
    qsd.qmp_fails("blockdev-mirror", mirror(json!({"granularity": 100}))).await?;
    qsd.qmp_fails("blockdev-mirror", mirror(json!({"granularity": 511}))).await?;
    qsd.qmp_fails("blockdev-mirror", mirror(json!({"granularity": 128 * MIB}))).await?;
    qsd.qmp_fails("blockdev-mirror", mirror(json!({"buf-size": -1}))).await?;
    qsd.qmp_fails("blockdev-mirror", mirror(json!({"sync": "incremental"}))).await?;
    qsd.qmp_fails("blockdev-mirror", mirror(json!({"target": "nowhere"}))).await?;

    t.section("only what is written from now on");
    let args = json!({"device": "src", "target": "dst", "sync": "none", "granularity": 64 * KIB});
    let job = qsd.start_job("blockdev-mirror", args).await?;
    qsd.await_state(&job, "ready").await?;
    t.io(&export, [format!("write -P 5 {UNIT} {UNIT}")]).await?;
    seen.set(UNIT, UNIT, Some(5));
    qsd.qmp("block-job-cancel", json!({"device": job})).await?;
    qsd.conclude(&job, AtReady::Return).await?;
    // Cancelled in good order: what was written is there, and nothing else.
    let copy = qsd.export_nbd("dst").await?;
    t.io(&copy, ["read -P 9 0 2M", "read -P 5 2M 2M", "read -P 9 4M 4M"]).await?;
    qsd.unexport("nbd-dst").await?;

    t.section("all of it, in pieces of a sector and a small buffer");
    let args = json!({"device": "src", "target": "dst", "sync": "full", "granularity": 4 * KIB, "buf-size": 16 * KIB});
    let job = qsd.start_job("blockdev-mirror", args).await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    qsd.await_state(&job, "ready").await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    let then = seen.clone();
    qsd.qmp("job-complete", json!({"id": job})).await?;
    qsd.conclude(&job, AtReady::Return).await?;
    t.section("the guest goes on with the copy");
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    qsd.qmp("blockdev-del", json!({"node-name": "src"})).await?;
    qsd.quit().await?;

    t.matches(&dst, &seen).await?;
    t.matches(&src, &then).await?;
    t.check(&dst).await?;
    t.check(&src).await
}
