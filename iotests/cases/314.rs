//! Limits of a device hold its requests back, and lifting them lets them go on.
//!
//! group: rw device throttle
//! supported_fmt: generic
//! supported_proto: file
//! needs: qtest

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(
        &Setup::new(2 * MIB),
        |p| fits::limits(p) && fits::statistics(p),
        async |disk| {
            disk.run(&[Op::write(1, 0, 512 * KIB)])?;
            for round in 0..2 {
                disk.set_limit(1).await?;
                // The first one is within the limit.
                disk.run(&[Op::write(2, 0, 4 * KIB)])?;
                let held = disk.start_held(&[Op::write(3 + round, 128 * KIB, 8 * KIB)])?;
                disk.set_limit(0).await?;
                disk.finish(held)?;
                t.log("ended");
            }
            disk.run(&[Op::Flush])?;
            disk.matches()
        },
    )
    .await
}
