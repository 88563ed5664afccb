//! A mirror that meets an error on either side does what its policy says:
//! reports and ends, ignores and tries again, stops and goes on when resumed.
//!
//! group: rw auto quick mirror jobs blkdebug
//! supported_fmt: generic
//! needs: qemu-storage-daemon driver:blkdebug

use iotests::prelude::*;

const SIZE: u64 = 2 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.image("src").size(SIZE).await?;
    t.write(&src, &[(7, 0, SIZE)]).await?;
    let dst = t.image("dst").size(SIZE).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&src, "src").await?;

    for (side, iotype) in [("source", "read"), ("target", "write")] {
        for (policy, errno) in [("report", 5), ("ignore", 5), ("stop", 5), ("enospc", 28), ("enospc", 5)] {
            t.section(format!("on-{side}-error={policy}, errno {errno}"));
            t.io(&dst, [format!("write -P 9 0 {SIZE}")]).quiet().await?;
            qsd.add(&dst, "dst").await?;
            let below = if side == "source" { "src" } else { "dst" };
            let fault = json!([{"event": "none", "iotype": iotype, "errno": errno, "once": true}]);
            let bad = json!({"driver": "blkdebug", "node-name": "bad", "image": below, "inject-error": fault});
            qsd.run("blockdev-add", bad).await?;
            let (from, to) = if side == "source" { ("bad", "dst") } else { ("src", "bad") };
            let mut args = json!({"device": from, "target": to, "sync": "full"});
            args[format!("on-{side}-error")] = policy.into();
            let job = qsd.start_job("blockdev-mirror", args).await?;

            let error = qsd.event("BLOCK_JOB_ERROR").await?;
            qsd.log_event(&error);
            if error["data"]["action"] == "stop" {
                qsd.event_where("JOB_STATUS_CHANGE", |d| d["status"] == "paused").await?;
                let jobs = qsd.run("query-block-jobs", json!({})).await?;
                t.log(format!("io-status {}, status {}", jobs[0]["io-status"], jobs[0]["status"]));
                qsd.qmp("block-job-resume", json!({"device": job})).await?;
            }
            let end = qsd.conclude(&job, AtReady::Cancel).await?;
            for node in ["bad", "dst"] {
                qsd.run("blockdev-del", json!({"node-name": node})).await?;
            }
            if end.error.is_none() {
                t.verify(&dst, &[(7, 0, SIZE)]).await?;
            }
            t.check(&dst).await?;
        }
    }
    qsd.quit().await?;
    t.verify(&src, &[(7, 0, SIZE)]).await
}
