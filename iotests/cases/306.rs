//! A machine that is reset while requests are on their way finds its disk again, and what was
//! not being written is as it was.
//!
//! group: rw device throttle
//! supported_fmt: generic
//! supported_proto: file
//! needs: qtest driver:throttle

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(
        &Setup::new(2 * MIB).holds(),
        |p| fits::asynchronous(p) && fits::drops_requests(p),
        async |disk| {
            disk.run(&[Op::write(1, 0, 512 * KIB), Op::Flush])?;
            disk.hold().await?;
            disk.run(&[Op::write(2, 0, 4 * KIB)])?;
            let held = disk.start_held(&[Op::write(3, 128 * KIB, 4 * KIB)])?;
            disk.vm.run("system_reset", json!({})).await?;
            disk.vm.event("RESET").await?;
            t.log("reset");
            disk.forget(held);
            disk.release().await?;
            disk.reopen()?;
            disk.run(&[Op::write(4, 256 * KIB, 8 * KIB), Op::Flush])?;
            disk.matches()
        },
    )
    .await
}
