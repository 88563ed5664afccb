//! A machine is saved with its disk while a request is on its way, goes on, and is loaded: the
//! guest finds the disk of then.
//!
//! group: rw device snapshot
//! supported_fmt: qcow2
//! supported_proto: file
//! needs: qtest snapshots

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(&Setup::new(2 * MIB), fits::migration, async |disk| {
        disk.run(&[Op::write(1, 0, 512 * KIB), Op::Flush])?;
        let then = disk.model.clone();
        let names =
            json!({"job-id": "save", "tag": "then", "vmstate": "disk", "devices": ["disk"]});
        disk.vm.job("snapshot-save", names.clone()).await?;
        disk.run(&[Op::write(2, 128 * KIB, 512 * KIB), Op::Flush])?;
        disk.matches()?;
        let mut load = names;
        load["job-id"] = "load".into();
        disk.vm.job("snapshot-load", load).await?;
        disk.model = then;
        // The guest's memory went back too, so its driver starts anew.
        disk.reopen()?;
        disk.matches()?;
        disk.run(&[Op::write(3, 64 * KIB, 64 * KIB), Op::Flush])?;
        disk.matches()
    })
    .await
}
