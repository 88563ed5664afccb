//! A mirror that starts while a guest's writes are in flight misses none of them, in both ways of
//! copying.
//!
//! group: rw device mirror jobs
//! supported_fmt: generic
//! supported_proto: file
//! needs: qtest

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for mode in ["background", "write-blocking"] {
        t.section(mode);
        t.on_each_disk(
            &Setup::new(2 * MIB),
            // One kind of device is enough for the second way: the job is the same.
            |path| mode == "background" || fits::virtio(path),
            async |disk| {
                disk.run(&[Op::write(1, 0, MIB)])?;
                let copy = disk.add_copy(t).await?;
                let mut pending = Vec::new();
                for (n, pattern) in (0..disk.features().depth.min(4) as u64).zip(0x10..) {
                    pending.extend(disk.start(&Op::write(pattern, n * 96 * KIB, 64 * KIB))?);
                }
                let job = json!({"device": "disk", "target": "copy", "sync": "full",
                    "copy-mode": mode});
                let job = disk.vm.start_job("blockdev-mirror", job).await?;
                disk.finish(pending)?;
                disk.write_at_once(0x20)?;
                disk.vm.await_state(&job, "ready").await?;
                disk.write_at_once(0x30)?;
                disk.vm.run("job-complete", json!({"id": job})).await?;
                let end = disk.vm.conclude_as_told(&job).await?;
                ensure!(end.error.is_none(), "the job failed: {:?}", end.error);
                disk.matches()?;
                disk.image = copy;
                Ok(())
            },
        )
        .await?;
    }
    Ok(())
}
