//! A disk of large blocks (4 KiB): the device reports it, and smaller requests are refused by nobody,
//! since none can be made.
//!
//! group: rw device
//! supported_fmt: generic
//! supported_proto: file nbd
//! needs: qtest

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let plan = Plan { count: 24, longest: 64 * KIB, align: 4096, ..Plan::default() };
    let setup = Setup::new(2 * MIB).property("logical_block_size=4096,physical_block_size=4096");
    t.on_each_disk(&setup, fits::block_size, async |disk| {
        let reported = disk.disk.block_size();
        ensure!(reported == 4096, "the device reports blocks of {reported} bytes");
        disk.run(&plan.ops(&mut t.rng(), MIB))?;
        disk.run(&[Op::write(1, MIB, 4 * KIB), Op::Flush])?;
        disk.matches()
    })
    .await
}
