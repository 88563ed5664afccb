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
            let copy = t.image("copy").size(disk.size()).quiet().await?;
            disk.vm.run("blockdev-add", disk.vm.node_with(&copy, "copy", &json!({}))).await?;
            let then = disk.model.clone();
            let job = json!({"device": "disk", "target": "copy", "sync": "full"});
            let job = disk.vm.start_job("blockdev-backup", job).await?;
            let mut pending = Vec::new();
            for n in 0..disk.features().depth.min(4) as u64 {
                pending.extend(disk.start(&Op::write(2 + n as u8, n * 96 * KIB, 64 * KIB))?);
            }
            disk.finish(pending)?;
            disk.run(&[Op::write(7, 512 * KIB, 4 * KIB), Op::Flush])?;
            disk.vm.conclude(&job, AtReady::Complete).await?;
            disk.vm.run("blockdev-del", json!({"node-name": "copy"})).await?;
            t.matches(&copy, &then).await?;
            disk.matches()
        },
    )
    .await
}
