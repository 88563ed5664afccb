//! A disk is taken out of a running machine while requests are on their way, and is plugged in
//! once more with what was written, and the image is whole.
//!
//! group: rw device throttle
//! supported_fmt: generic
//! supported_proto: file
//! needs: qtest driver:throttle

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(&Setup::new(2 * MIB).holds(), fits::plain_unplug, async |disk| {
        disk.run(&[Op::write(1, 0, 512 * KIB), Op::Flush])?;
        let id = disk.path.disk_id();
        for round in 0..2u8 {
            disk.hold().await?;
            disk.run(&[Op::write(2, 0, 4 * KIB)])?;
            let held = disk.start_held(&[Op::write(3 + round, 128 * KIB, 4 * KIB)])?;
            disk.vm.run("device_del", json!({"id": id})).await?;
            disk.vm.event_where("DEVICE_DELETED", |d| d["device"] == id.as_str()).await?;
            t.log("unplugged");
            disk.forget(held);
            disk.release().await?;
            disk.plug("filter").await?;
            t.log("plugged in");
            disk.run(&[Op::write(5 + round, 256 * KIB, 8 * KIB), Op::Flush])?;
            disk.matches()?;
        }
        Ok(())
    })
    .await
}
