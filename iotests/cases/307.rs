//! A machine that is stopped while requests are on their way ends them first, and goes on where
//! it was.
//!
//! group: rw device throttle
//! supported_fmt: generic
//! supported_proto: file
//! needs: qtest driver:throttle

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(&Setup::new(2 * MIB).holds(), fits::asynchronous, async |disk| {
        disk.run(&[Op::write(1, 0, 512 * KIB)])?;
        disk.hold().await?;
        disk.run(&[Op::write(2, 0, 4 * KIB)])?;
        let held = disk.start_held(&[Op::write(3, 128 * KIB, 4 * KIB)])?;
        disk.vm.qmp("stop", json!({})).await?;
        disk.vm.event("STOP").await?;
        disk.release().await?;
        disk.vm.qmp("cont", json!({})).await?;
        disk.finish(held)?;
        t.log("ended");
        disk.run(&[Op::write(4, 256 * KIB, 8 * KIB), Op::Flush])?;
        disk.matches()
    })
    .await
}
