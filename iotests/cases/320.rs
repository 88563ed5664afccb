//! A backup of a disk that a guest goes on writing to is the disk of the moment when it began.
//!
//! group: rw device backup
//! supported_fmt: generic
//! supported_proto: file
//! needs: qtest

use iotests::job::AtReady;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(
        &Setup::new(2 * MIB),
        |_| true,
        async |disk| {
            disk.run(&[Op::write(1, 0, MIB)])?;
            let copy = disk.add_copy(t).await?;
            let then = disk.model.clone();
            let job = json!({"device": "disk", "target": "copy", "sync": "full"});
            let job = disk.vm.start_job("blockdev-backup", job).await?;
            disk.write_at_once(2)?;
            disk.run(&[Op::write(7, 512 * KIB, 4 * KIB), Op::Flush])?;
            disk.vm.conclude(&job, AtReady::Complete).await?;
            disk.vm.run("blockdev-del", json!({"node-name": "copy"})).await?;
            t.matches(&copy, &then).await?;
            disk.matches()
        },
    )
    .await
}
