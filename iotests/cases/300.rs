//! What a guest writes through a disk device it reads back, on every way from a machine to a
//! disk, and the image holds it.
//!
//! group: rw device slow
//! supported_fmt: generic
//! supported_proto: file nbd
//! needs: qtest

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let plan = Plan { count: 24, longest: 64 * KIB, ..Plan::default() };
    t.on_each_disk(
        &Setup::new(2 * MIB).all_paths(),
        |_| true,
        async |disk| {
            // The same operations for all sizes, so that all log the same.
            let ops = plan.ops(&mut t.rng(), MIB);
            disk.run(&ops)?;
            disk.run(&[Op::write(0x5a, 1023 * KIB, KIB), Op::Flush])?;
            disk.reset()?;
            disk.matches()
        },
    )
    .await
}
