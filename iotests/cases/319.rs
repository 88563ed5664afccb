//! A guest writes while its disk is mirrored, and goes on upon the copy when the job has ended,
//! with nothing lost.
//!
//! group: rw device mirror throttle
//! supported_fmt: generic
//! supported_proto: file
//! needs: qtest driver:throttle

use iotests::job::AtReady;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(
        &Setup::new(2 * MIB),
        |_| true,
        async |disk| {
            disk.run(&[Op::write(1, 0, MIB)])?;
            let copy = disk.add_copy(t).await?;
            let job = json!({"device": "disk", "target": "copy", "sync": "full"});
            let job = disk.vm.start_job("blockdev-mirror", job).await?;
            disk.write_at_once(2)?;
            disk.vm.conclude(&job, AtReady::Complete).await?;
            disk.run(&[Op::write(7, 512 * KIB, 4 * KIB), Op::Flush])?;
            disk.matches()?;
            disk.image = copy;
            Ok(())
        },
    )
    .await
}
