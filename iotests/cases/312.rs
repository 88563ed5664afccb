//! A machine stops at an error (`werror=stop`, `rerror=stop`), and the request is done when it
//! goes on: the guest notices nothing.
//!
//! group: rw device blkdebug
//! supported_fmt: generic
//! supported_proto: file
//! needs: qtest driver:blkdebug

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let setup = Setup::new(2 * MIB)
        .property("werror=stop,rerror=stop")
        .fails_once("write", 256 * KIB, 5)
        .fails_once("read", 512 * KIB, 5);
    t.on_each_disk(&setup, fits::stops_at_errors, async |disk| {
        disk.run(&[Op::write(1, 0, 128 * KIB), Op::Flush])?;
        for op in
            [Op::write(2, 256 * KIB, 4 * KIB), Op::Read { offset: 512 * KIB, length: 4 * KIB }]
        {
            let pending = disk.start(&op)?.context("no request")?;
            disk.wait_for_stop(&pending).await?;
            let data = disk.vm.event("BLOCK_IO_ERROR").await?["data"].clone();
            t.log(format!("{} {}", data["operation"], data["action"]));
            disk.vm.qmp("cont", json!({})).await?;
            disk.finish(vec![pending])?;
        }
        disk.run(&[Op::Flush])?;
        disk.matches()
    })
    .await
}
