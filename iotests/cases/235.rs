//! A disk that is served by a thread of its own: jobs, snapshots and reopening from
//! the monitor's thread meet its requests, and none is lost.
//!
//! group: rw auto quick nbd jobs mirror stream backup backing
//! supported_fmt: generic
//! unsupported_imgopts: data_file
//! unsupported_fmt: qed
//! needs: rebase qemu-storage-daemon qemu>=9.0 reopen

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    let top = t.image("top").backing(&base).await?;
    let over = t.image("over").backing(&top).await?;
    let copy = t.image("copy").size(SIZE).await?;
    let saved = t.image("saved").size(SIZE).await?;
    let mut seen = t.disk_model(SIZE);
    let plan = Plan { count: 30, align: 4096, longest: 128 * KIB, ..Plan::default() };
    let mut rng = t.rng();
    t.apply(&base, &mut seen, &plan.ops(&mut rng, SIZE)).await?;

    let mut qsd = t.qsd("--object iothread,id=disks --object iothread,id=other").await?;
    qsd.add_with(&base, "base", json!({"read-only": true})).await?;
    qsd.add_with(&top, "top", json!({"backing": "base"})).await?;
    for name in ["copy", "saved"] {
        let img = if name == "copy" { &copy } else { &saved };
        qsd.add(img, name).await?;
    }
    let served =
        |thread: &str| json!({"writable": true, "iothread": thread, "fixed-iothread": true});
    let disk = qsd.export_nbd_with("top", served("disks")).await?;
    t.apply(&disk, &mut seen, &plan.ops(&mut rng, SIZE)).await?;

    t.section("a backup");
    let then = seen.clone();
    let job = qsd
        .start_job(
            "blockdev-backup",
            json!({"device": "top", "target": "saved", "sync": "full", "speed": 65536}),
        )
        .await?;
    t.apply(&disk, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    qsd.run("block-job-set-speed", json!({"device": job, "speed": 0})).await?;
    qsd.conclude(&job, AtReady::Complete).await?;

    t.section("a snapshot, reopened, and streamed away");
    qsd.add_with(&over, "over", json!({"backing": null})).await?;
    qsd.qmp("blockdev-snapshot", json!({"node": "top", "overlay": "over"})).await?;
    t.apply(&disk, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    let options = qsd.node_with(&over, "over", &json!({"backing": "top", "detect-zeroes": "on"}));
    qsd.run("blockdev-reopen", json!({"options": [options]})).await?;
    t.apply(&disk, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    let job = qsd.start_job("block-stream", json!({"device": "over", "base-node": "base"})).await?;
    t.apply(&disk, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    qsd.conclude(&job, AtReady::Complete).await?;
    qsd.log_backing("over").await?;

    t.section("a mirror, and the guest goes over to it");
    let job = qsd
        .start_job("blockdev-mirror", json!({"device": "over", "target": "copy", "sync": "full"}))
        .await?;
    t.apply(&disk, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    qsd.await_state(&job, "ready").await?;
    t.apply(&disk, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    qsd.run("job-complete", json!({"id": job})).await?;
    qsd.conclude(&job, AtReady::Pass).await?;
    t.apply(&disk, &mut seen, &plan.ops(&mut rng, SIZE)).await?;

    t.section("another thread takes it over");
    qsd.unexport("nbd-top").await?;
    let disk = qsd.export_nbd_with("copy", served("other")).await?;
    t.apply(&disk, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    qsd.unexport("nbd-copy").await?;
    qsd.quit().await?;
    t.matches(&copy, &seen).await?;
    t.matches(&saved, &then).await?;
    for img in [&copy, &saved, &over, &top] {
        t.check(img).await?;
    }
    Ok(())
}
