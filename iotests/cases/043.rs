//! Jobs that were started together end together: where one fails, the others are
//! cancelled and no bitmap forgets what is not in a backup.
//!
//! group: rw auto quick backup transaction bitmap jobs blkdebug
//! supported_fmt: generic
//! unsupported_proto: nbd
//! needs: qemu-storage-daemon driver:blkdebug

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut qsd = t.qsd("").await?;
    let mut disks = Vec::new();
    for n in 1u8..=2 {
        let src = t.image(&format!("src{n}")).size(SIZE).await?;
        t.write(&src, &[(n, 0, SIZE)]).await?;
        let dst = t.target(&format!("dst{n}"), SIZE).await?;
        qsd.add(&src, &format!("src{n}")).await?;
        qsd.add(&dst, &format!("dst{n}")).await?;
        let bitmap = json!({"node": format!("src{n}"), "name": "b", "granularity": 64 * KIB});
        qsd.qmp("block-dirty-bitmap-add", bitmap).await?;
        let export = qsd.export_nbd(&format!("src{n}")).await?;
        t.io(&export, ["write -P 5 1M 64k"]).quiet().await?;
        disks.push((src, dst));
    }
    let fault = json!([{"event": "none", "iotype": "write", "errno": 5}]);
    let bad =
        json!({"driver": "blkdebug", "node-name": "bad", "image": "dst2", "inject-error": fault});
    let backup = |n: u8, target: &str| {
        let data = json!({"job-id": format!("job{n}"), "device": format!("src{n}"), "target": target,
            "sync": "incremental", "bitmap": "b", "auto-dismiss": false});
        ("blockdev-backup", data)
    };

    t.section("one of two fails");
    qsd.run("blockdev-add", bad).await?;
    let grouped = json!({"completion-mode": "grouped"});
    qsd.transaction([backup(1, "dst1"), backup(2, "bad")], grouped.clone()).await?;
    // Whether the good one has copied all before the other fails is chance.
    let cancelled = qsd.conclude_quietly("job1").await?;
    t.log(format!("job1: {}", cancelled.error.unwrap_or_default()));
    qsd.conclude("job2", AtReady::Return).await?;
    for node in ["src1", "src2"] {
        qsd.log_bitmaps(node).await?;
    }

    t.section("each for itself");
    qsd.transaction(
        [backup(1, "dst1"), backup(2, "bad")],
        json!({"completion-mode": "individual"}),
    )
    .await?;
    for job in ["job1", "job2"] {
        qsd.conclude(job, AtReady::Return).await?;
    }
    for node in ["src1", "src2"] {
        qsd.log_bitmaps(node).await?;
    }
    qsd.run("blockdev-del", json!({"node-name": "bad"})).await?;

    t.section("one cannot even begin");
    let broken = transaction([backup(1, "dst1"), backup(2, "nowhere")], grouped.clone());
    qsd.qmp_fails("transaction", broken).await?;
    qsd.qmp("query-jobs", json!({})).await?;
    for node in ["src1", "src2"] {
        qsd.log_bitmaps(node).await?;
    }

    t.section("cancelling one cancels both");
    qsd.drop_events();
    let mut slow = backup(2, "dst2");
    // Should it be about to wait just when it is cancelled, it wakes in seconds still.
    slow.1["speed"] = (64 * KIB).into();
    slow.1["sync"] = "full".into();
    if let Some(slow) = slow.1.as_object_mut() {
        slow.remove("bitmap");
    }
    qsd.transaction([backup(1, "dst1"), slow], grouped.clone()).await?;
    qsd.await_state("job1", "waiting").await?;
    qsd.qmp("job-cancel", json!({"id": "job2"})).await?;
    for job in ["job1", "job2"] {
        qsd.conclude(job, AtReady::Return).await?;
    }

    t.section("both succeed");
    qsd.transaction([backup(1, "dst1"), backup(2, "dst2")], grouped).await?;
    for job in ["job1", "job2"] {
        qsd.conclude(job, AtReady::Return).await?;
    }
    for node in ["src1", "src2"] {
        qsd.log_bitmaps(node).await?;
    }
    qsd.quit().await?;
    for (n, (src, dst)) in (1u8..).zip(&disks) {
        t.verify(src, &[(n, 0, MIB), (5, MIB, 64 * KIB)]).await?;
        t.verify(dst, &[(5, MIB, 64 * KIB)]).await?;
        t.check(dst).await?;
    }
    Ok(())
}
