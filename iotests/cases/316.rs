//! A guest writes while a snapshot is taken: what it wrote before is below, what it writes later
//! above, and nothing is lost between.
//!
//! group: rw device snapshot throttle
//! supported_fmt: qcow2 qed
//! supported_proto: file
//! needs: qtest driver:throttle backing
//! unsupported_imgopts: data_file

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(&Setup::new(2 * MIB).holds(), fits::asynchronous, async |disk| {
        disk.run(&[Op::write(1, 0, 512 * KIB)])?;
        let top = t.image("top").size(disk.size()).quiet().without_imgopts().await?;
        let added = json!({"backing": null});
        disk.vm.run("blockdev-add", disk.vm.node_with(&top, "top", &added)).await?;
        disk.hold().await?;
        disk.run(&[Op::write(2, 0, 4 * KIB)])?;
        let held = disk.start_held(&[Op::write(3, 128 * KIB, 4 * KIB)])?;
        // It drains the requests: they end first.
        disk.vm.qmp("blockdev-snapshot", json!({"node": "disk", "overlay": "top"})).await?;
        disk.release().await?;
        disk.finish(held)?;
        disk.run(&[Op::write(4, 256 * KIB, 4 * KIB), Op::Flush])?;
        disk.matches()?;
        let job =
            json!({"device": "filter", "job-id": "commit", "base-node": "disk", "top-node": "top"});
        let job = disk.vm.start_job("block-commit", job).await?;
        disk.run(&[Op::write(5, 384 * KIB, 4 * KIB)])?;
        disk.vm.conclude(&job, iotests::job::AtReady::Complete).await?;
        disk.run(&[Op::write(6, 448 * KIB, 4 * KIB), Op::Flush])?;
        disk.matches()
    })
    .await
}
