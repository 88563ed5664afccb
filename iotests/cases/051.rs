//! A storage daemon that is asked to quit with jobs running, paused or ready
//! exits cleanly, and no image is damaged by it.
//!
//! group: rw auto quick jobs mirror backup
//! supported_fmt: generic
//! unsupported_proto: nbd
//! needs: qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;
/// Slow enough to last. A backup that is stopped just when it is about to wait sleeps
/// on until its next request is due: at a byte a second, for weeks.
const SLOW: u64 = 64 * KIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.filled("src", SIZE, 1).await?;
    for (what, command, speed, paused) in [
        ("a backup that runs", "blockdev-backup", SLOW, false),
        ("a backup that is paused", "blockdev-backup", SLOW, true),
        ("a mirror that runs", "blockdev-mirror", 1, false),
        ("a mirror that is paused", "blockdev-mirror", 1, true),
        ("a mirror that is ready", "blockdev-mirror", 0, false),
        ("a mirror in standby", "blockdev-mirror", 0, true),
    ] {
        t.section(what);
        let dst = t.target("dst", SIZE).await?;
        let mut qsd = t.qsd("").await?;
        qsd.add(&src, "src").await?;
        qsd.add(&dst, "dst").await?;
        let export = qsd.export_nbd("src").await?;
        let args = json!({"device": "src", "target": "dst", "sync": "full", "speed": speed, "auto-finalize": false});
        let job = qsd.start_job(command, args).await?;
        if speed == 0 {
            qsd.await_state(&job, "ready").await?;
        }
        if paused {
            qsd.pause_job(&job).await?;
        }
        t.io(&export, ["write -P 2 1M 64k", "flush", "write -P 3 2M 64k"]).quiet().await?;
        qsd.quit_quietly().await?;
        t.verify(&src, &[(1, 0, MIB), (2, MIB, 64 * KIB), (3, 2 * MIB, 64 * KIB)]).await?;
        t.check(&src).await?;
        t.check(&dst).await?;
    }
    Ok(())
}
