//! A mirror in either copy mode, cancelled or completed once it is ready, leaves
//! a copy of exactly that moment however much the guest writes meanwhile.
//!
//! group: rw auto quick mirror jobs
//! supported_fmt: generic
//! needs: qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.image("src").size(SIZE).await?;
    let mut seen = t.disk_model(SIZE);
    let mut rng = t.rng();
    let plan = Plan { count: 20, longest: 128 * KIB, ..Plan::default() };
    t.write(&src, &[(1, 0, SIZE)]).await?;
    seen.set(0, SIZE, Some(1));

    let mut qsd = t.qsd("").await?;
    qsd.add(&src, "src").await?;
    let export = qsd.export_nbd("src").await?;
    let mut copies = Vec::new();
    for mode in ["background", "write-blocking"] {
        t.section(mode);
        let dst = t.target(mode, SIZE).await?;
        qsd.add(&dst, "dst").await?;
        let args = json!({"device": "src", "target": "dst", "sync": "full", "copy-mode": mode, "speed": 64 * KIB});
        let job = qsd.start_job("blockdev-mirror", args).await?;
        t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
        qsd.run("block-job-set-speed", json!({"device": job, "speed": 0})).await?;
        t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
        qsd.await_state(&job, "ready").await?;
        t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
        qsd.qmp("block-job-cancel", json!({"device": job})).await?;
        qsd.conclude(&job, AtReady::Return).await?;
        let then = seen.clone();
        t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
        qsd.run("blockdev-del", json!({"node-name": "dst"})).await?;
        t.matches(&dst, &then).await?;
        copies.push(dst);
    }

    t.section("every write is on both sides before the guest hears of it");
    let dst = t.image("dst").size(SIZE).await?;
    qsd.add(&dst, "dst").await?;
    let args =
        json!({"device": "src", "target": "dst", "sync": "full", "copy-mode": "write-blocking"});
    let job = qsd.start_job("blockdev-mirror", args).await?;
    qsd.await_state(&job, "ready").await?;
    qsd.pause_job(&job).await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    // Asked to resume, it has nothing left to copy.
    qsd.qmp("job-resume", json!({"id": job})).await?;
    qsd.qmp("job-complete", json!({"id": job})).await?;
    qsd.conclude(&job, AtReady::Pass).await?;
    qsd.quit().await?;
    t.matches(&dst, &seen).await?;
    t.matches(&src, &seen).await?;
    for img in copies.iter().chain([&src, &dst]) {
        t.check(img).await?;
    }
    Ok(())
}
