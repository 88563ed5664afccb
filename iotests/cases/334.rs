//! An encrypted disk through a device.
//!
//! group: rw device crypto
//! supported_fmt: qcow2
//! supported_proto: file
//! needs: qtest luks

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let plan = Plan { count: 16, longest: 64 * KIB, ..Plan::default() };
    t.on_each_disk(&Setup::new(2 * MIB).encrypted(), fits::one_of_each_bus, async |disk| {
        disk.run(&plan.ops(&mut t.rng(), MIB))?;
        disk.run(&[Op::Flush])?;
        disk.matches()
    })
    .await
}
