//! A device that is reset while requests are on their way works afterwards, and what they did
//! not write is as it was.
//!
//! group: rw device throttle
//! supported_fmt: generic
//! supported_proto: file
//! needs: qtest driver:throttle

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(&Setup::new(2 * MIB).holds(), fits::drops_requests, async |disk| {
        disk.needs("queue", |f| f.depth >= 4)?;
        disk.run(&[Op::write(1, 0, MIB), Op::Flush])?;
        disk.hold().await?;
        disk.run(&[Op::write(2, 0, 4 * KIB)])?;
        let held = disk.start_held(&[
            Op::write(3, 64 * KIB, 4 * KIB),
            Op::write(4, 128 * KIB, 64 * KIB),
            Op::Read { offset: 512 * KIB, length: 4 * KIB },
        ])?;
        disk.reset()?;
        t.log("reset");
        disk.forget(held);
        disk.release().await?;
        disk.run(&[Op::write(5, 256 * KIB, 8 * KIB), Op::Flush])?;
        disk.matches()
    })
    .await
}
