//! A job that is completed, cancelled, or both at once while the guest's writes are
//! in flight ends one way or the other, and the guest's disk shows all of them.
//!
//! group: rw auto quick mirror commit jobs backing
//! supported_fmt: generic
//! unsupported_fmt: qed qcow
//! needs: backing qemu-storage-daemon reopen

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let jobs = [
        ("blockdev-mirror", json!({"device": "top", "target": "target", "sync": "full"})),
        ("block-commit", json!({"device": "top"})),
    ];
    let ends = ["complete, then cancel", "complete, twice"];
    for ((command, arguments), last) in
        jobs.into_iter().flat_map(|job| ends.map(|end| (job.clone(), end)))
    {
        t.section(command);
        let base = t.image("base").size(SIZE).quiet().await?;
        let mut model = t.disk_model(SIZE);
        let fill = [Op::write(99, 0, SIZE)];
        t.apply(&base, &mut model, &fill).await?;
        let top = t.image("top").backing(&base).quiet().await?;
        let target = t.image("target").size(SIZE).quiet().await?;
        let mut qsd = t.qsd("").await?;
        qsd.add_with(&base, "base", json!({"read-only": true})).await?;
        qsd.add_with(&top, "top", json!({"backing": "base"})).await?;
        qsd.add(&target, "target").await?;
        let mut guest = t.guest(qsd.export_nbd("top").await?, model).await?;

        for verb in ["cancel", "cancel by force", last] {
            let job = qsd.start_job(command, arguments.clone()).await?;
            guest.write().await?;
            qsd.await_state(&job, "ready").await?;
            guest.write().await?;
            if verb.starts_with("complete") {
                qsd.run("job-complete", json!({"id": job})).await?;
                guest.write().await?;
                // It may be over by now, or too late for this.
                let id = json!({"id": job});
                let second = if verb.ends_with("twice") { "job-complete" } else { "job-cancel" };
                let _ = qsd.ask(second, id).await?;
            } else {
                qsd.run(
                    "block-job-cancel",
                    json!({"device": job, "force": verb.ends_with("force")}),
                )
                .await?;
            }
            guest.write().await?;
            let end = qsd.conclude_as_told(&job).await?;
            ensure!(end.error.is_none() || verb.contains("cancel"), "{verb}: {:?}", end.error);
            guest.write().await?;
            guest.settle().await?;
            t.log(format!("{verb}: the guest's disk is intact"));
        }
        guest.leave().await?;
        qsd.quit().await?;
        for img in [&base, &top, &target] {
            t.check(img).await?;
        }
    }
    Ok(())
}
