//! A mirror that is switched to write-blocking while it runs: from then on each of
//! the guest's writes is in the copy once it is done, and there is no way back.
//!
//! group: rw auto quick mirror jobs
//! supported_fmt: generic
//! unsupported_fmt: qed
//! needs: qemu-storage-daemon qemu>=8.2

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

async fn synced(qsd: &mut Daemon) -> Result<bool> {
    let jobs = qsd.run("query-block-jobs", json!({})).await?;
    Ok(jobs[0]["actively-synced"] == true)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.image("src").size(SIZE).await?;
    let dst = t.target("dst", SIZE).await?;
    let mut model = t.disk_model(SIZE);
    let plan = Plan { count: 25, align: 4096, longest: 200 * KIB, ..Plan::default() };
    let mut rng = t.rng();
    t.apply(&src, &mut model, &[Op::write(77, 0, SIZE)]).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&src, "src").await?;
    qsd.add(&dst, "dst").await?;
    let disk = qsd.export_nbd("src").await?;
    let change = |mode: &str| json!({"id": "job0", "type": "mirror", "copy-mode": mode});

    t.section("while it copies");
    let job = qsd
        .start_job("blockdev-mirror", json!({"device": "src", "target": "dst", "sync": "full", "copy-mode": "background", "speed": 65536}))
        .await?;
    t.apply(&disk, &mut model, &plan.ops(&mut rng, SIZE)).await?;
    qsd.qmp("block-job-change", change("background")).await?;
    qsd.qmp("block-job-change", change("write-blocking")).await?;
    t.apply(&disk, &mut model, &plan.ops(&mut rng, SIZE)).await?;
    qsd.qmp("block-job-change", change("write-blocking")).await?;
    ensure!(qsd.ask("block-job-change", change("background")).await?.is_err(), "it went back");
    ensure!(
        qsd.ask(
            "block-job-change",
            json!({"id": "none", "type": "mirror", "copy-mode": "background"})
        )
        .await?
        .is_err(),
        "no such job"
    );
    ensure!(qsd.ask("block-job-change", change("both")).await?.is_err(), "no such mode");
    t.log("back, another job, another mode: refused");
    qsd.run("block-job-set-speed", json!({"device": job, "speed": 0})).await?;
    qsd.await_state(&job, "ready").await?;

    t.section("once it is ready");
    for _ in 0..3 {
        t.apply(&disk, &mut model, &plan.ops(&mut rng, SIZE)).await?;
    }
    // What was dirty from before is copied meanwhile.
    while !synced(&mut qsd).await? {}
    t.apply(&disk, &mut model, &plan.ops(&mut rng, SIZE)).await?;
    t.log(format!("still synchronised: {}", synced(&mut qsd).await?));
    // Nothing is copied after this.
    qsd.run("block-job-cancel", json!({"device": job, "force": true})).await?;
    qsd.conclude_as_told(&job).await?;
    qsd.quit().await?;
    t.matches(&src, &model).await?;
    t.matches(&dst, &model).await?;
    t.check(&dst).await
}
