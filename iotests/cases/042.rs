//! Every verb at a job in every state: those that do not fit are refused and
//! change nothing, and cancelling works in all of them.
//!
//! group: auto quick jobs
//! supported_fmt: generic
//! needs: qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;
const VERBS: [&str; 6] =
    ["job-pause", "job-resume", "job-complete", "job-finalize", "job-dismiss", "job-cancel"];

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.filled("src", SIZE, 1).await?;
    let dst = t.target("dst", SIZE).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&src, "src").await?;
    qsd.add(&dst, "dst").await?;
    let backup = json!({"device": "src", "target": "dst", "sync": "full", "auto-finalize": false});
    let mut slow = backup.clone();
    slow["speed"] = 1.into();
    let mirror = json!({"device": "src", "target": "dst", "sync": "full", "auto-finalize": false});

    t.section("a job that is not there");
    for verb in VERBS {
        qsd.qmp_fails(verb, json!({"id": "nowhere"})).await?;
    }

    t.section("running");
    let job = qsd.start_job("blockdev-backup", slow.clone()).await?;
    refused(&mut qsd, &job, &["job-resume", "job-complete", "job-finalize", "job-dismiss"]).await?;
    qsd.qmp_fails(
        "blockdev-backup",
        json!({"device": "dst", "target": "src", "sync": "full", "job-id": job}),
    )
    .await?;
    cancel(&mut qsd, &job).await?;

    t.section("paused");
    let job = qsd.start_job("blockdev-backup", slow).await?;
    qsd.pause_job(&job).await?;
    refused(&mut qsd, &job, &["job-pause", "job-complete", "job-finalize", "job-dismiss"]).await?;
    cancel(&mut qsd, &job).await?;

    t.section("ready");
    let job = qsd.start_job("blockdev-mirror", mirror.clone()).await?;
    qsd.await_state(&job, "ready").await?;
    refused(&mut qsd, &job, &["job-resume", "job-finalize", "job-dismiss"]).await?;
    cancel(&mut qsd, &job).await?;

    t.section("standby");
    let job = qsd.start_job("blockdev-mirror", mirror).await?;
    qsd.await_state(&job, "ready").await?;
    qsd.pause_job(&job).await?;
    refused(&mut qsd, &job, &["job-pause", "job-finalize", "job-dismiss"]).await?;
    cancel(&mut qsd, &job).await?;

    t.section("pending");
    let job = qsd.start_job("blockdev-backup", backup.clone()).await?;
    qsd.await_state(&job, "pending").await?;
    refused(&mut qsd, &job, &["job-pause", "job-resume", "job-complete", "job-dismiss"]).await?;
    cancel(&mut qsd, &job).await?;

    t.section("concluded");
    let job = qsd.start_job("blockdev-backup", backup).await?;
    qsd.await_state(&job, "pending").await?;
    qsd.qmp("job-finalize", json!({"id": job})).await?;
    qsd.await_state(&job, "concluded").await?;
    let others: Vec<&str> = VERBS.into_iter().filter(|v| *v != "job-dismiss").collect();
    refused(&mut qsd, &job, &others).await?;
    qsd.qmp("job-dismiss", json!({"id": job})).await?;
    qsd.qmp_fails("job-dismiss", json!({"id": job})).await?;
    qsd.quit().await?;
    t.same(&src, &dst).await?;
    t.check(&dst).await
}

/// These verbs are refused, and the job stays in its state.
async fn refused(qsd: &mut Daemon, job: &str, verbs: &[&str]) -> Result<()> {
    let before = qsd.query_job(job).await?.context("the job has gone")?;
    for verb in verbs {
        qsd.qmp_fails(verb, json!({"id": job})).await?;
    }
    let after = qsd.query_job(job).await?.context("the job has gone")?;
    ensure!(
        before["status"] == after["status"],
        "from {} to {}",
        before["status"],
        after["status"]
    );
    Ok(())
}

/// Cancels the job and follows it to its end.
async fn cancel(qsd: &mut Daemon, job: &str) -> Result<()> {
    qsd.drop_events();
    qsd.qmp("job-cancel", json!({"id": job})).await?;
    qsd.conclude(job, AtReady::Pass).await?;
    Ok(())
}
