//! A device in an iothread: requests, a reset, and a machine that is stopped and goes on.
//!
//! group: rw device
//! supported_fmt: raw qcow2 qed
//! supported_proto: file nbd
//! needs: qtest

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let plan = Plan { count: 16, longest: 64 * KIB, ..Plan::default() };
    let setup = Setup::new(2 * MIB)
        .options(["-object", "iothread,id=thread"])
        .virtio_property("iothread=thread");
    t.on_each_disk(
        &setup,
        |p| fits::virtio(p) && !p.has("microvm"),
        async |disk| {
            let ops = plan.ops(&mut t.rng(), MIB);
            disk.run(&ops)?;
            let pending = disk.start(&Op::write(9, MIB, 64 * KIB))?;
            disk.vm.qmp("stop", json!({})).await?;
            disk.vm.qmp("cont", json!({})).await?;
            disk.finish(pending.into_iter().collect())?;
            disk.reset()?;
            disk.run(&ops)?;
            disk.matches()
        },
    )
    .await
}
