//! A backup is a copy of the moment it began, whatever the guest writes while it
//! runs; with sync none it keeps just what was overwritten.
//!
//! group: rw auto quick backup jobs
//! supported_fmt: generic
//! needs: qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;
/// At least a cluster of every image: what a backup copies at once.
const UNIT: u64 = 2 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.image("src").size(SIZE).await?;
    let mut seen = t.disk_model(SIZE);
    let mut rng = t.rng();
    let plan = Plan { count: 30, align: 512, longest: 256 * KIB, ..Plan::default() };
    t.write(&src, &[(1, 0, SIZE)]).await?;
    seen.set(0, SIZE, Some(1));
    let mut qsd = t.qsd("").await?;
    qsd.add(&src, "src").await?;
    let export = qsd.export_nbd("src").await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;

    t.section("invalid requests");
    let small = t.image("small").size(SIZE / 2).await?;
    qsd.add(&small, "small").await?;
    let backup = |target: &str, sync: &str| json!({"device": "src", "target": target, "sync": sync, "job-id": "j"});
    qsd.qmp_fails("blockdev-backup", backup("src", "full")).await?;
    qsd.qmp_fails("blockdev-backup", backup("nowhere", "full")).await?;
    qsd.qmp_fails("blockdev-backup", backup("small", "incremental")).await?;
    qsd.qmp_fails("blockdev-backup", backup("small", "bitmap")).await?;
    let refused = qsd.ask("blockdev-backup", backup("small", "full")).await?;
    t.log(format!("onto a smaller disk: {}", if refused.is_err() { "refused" } else { "begun" }));

    t.section("all of it");
    let full = t.target("full", SIZE).await?;
    qsd.add(&full, "full").await?;
    let then = seen.clone();
    let args = json!({"device": "src", "target": "full", "sync": "full", "speed": 64 * KIB});
    let job = qsd.start_job("blockdev-backup", args).await?;
    for _ in 0..3 {
        t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    }
    qsd.qmp("block-job-set-speed", json!({"device": job, "speed": 0})).await?;
    qsd.conclude(&job, AtReady::Return).await?;
    qsd.run("blockdev-del", json!({"node-name": "full"})).await?;
    t.matches(&full, &then).await?;
    t.check(&full).await?;

    t.section("only what is overwritten");
    let none = t.target("none", SIZE).await?;
    t.write(&none, &[(9, 0, SIZE)]).await?;
    qsd.add(&none, "none").await?;
    t.io(&export, ["write -P 3 0 4M"]).quiet().await?;
    seen.set(0, 4 * MIB, Some(3));
    let args = json!({"device": "src", "target": "none", "sync": "none"});
    let job = qsd.start_job("blockdev-backup", args).await?;
    // The second time the old data are in the copy already.
    t.io(&export, [format!("write -P 4 {} 512", UNIT + 512), format!("write -P 5 {UNIT} {UNIT}")])
        .await?;
    seen.set(UNIT, UNIT, Some(5));
    qsd.qmp("job-cancel", json!({"id": job})).await?;
    qsd.conclude(&job, AtReady::Return).await?;
    // Nobody copies any more.
    t.io(&export, ["write -P 6 4M 2M"]).await?;
    seen.set(4 * MIB, 2 * MIB, Some(6));
    qsd.quit().await?;
    t.verify(&none, &[(9, 0, UNIT), (3, UNIT, UNIT), (9, 2 * UNIT, 2 * UNIT)]).await?;
    t.matches(&src, &seen).await?;
    t.check(&none).await?;
    t.check(&src).await
}
