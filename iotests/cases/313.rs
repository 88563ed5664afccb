//! A full medium stops the machine and another error does not (`werror=enospc`); an ignored error is
//! not reported to the guest (`werror=ignore`).
//!
//! group: rw device blkdebug
//! supported_fmt: raw qcow2
//! supported_proto: file
//! needs: qtest driver:blkdebug

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.section("enospc");
    let setup = Setup::new(2 * MIB)
        .property("werror=enospc")
        .fails_once("write", 256 * KIB, 28)
        .fails_once("write", 512 * KIB, 5);
    t.on_each_disk(&setup, fits::stops_at_errors, async |disk| {
        let full = disk.start(&Op::write(2, 256 * KIB, 4 * KIB))?.context("no request")?;
        disk.wait_for_stop(&full).await?;
        let data = disk.vm.event("BLOCK_IO_ERROR").await?["data"].clone();
        t.log(format!("{} {} {}", data["operation"], data["action"], data["nospace"]));
        disk.vm.qmp("cont", json!({})).await?;
        disk.finish(vec![full])?;
        disk.fails(&Op::write(3, 512 * KIB, 4 * KIB))?;
        disk.run(&[Op::write(4, 512 * KIB, 4 * KIB), Op::Flush])?;
        disk.matches()
    })
    .await?;

    t.section("ignore");
    let setup = Setup::new(2 * MIB).property("werror=ignore").fails_once("write", 256 * KIB, 5);
    t.on_each_disk(&setup, fits::stops_at_errors, async |disk| {
        // It is lost, and was to be.
        let lost = disk.start(&Op::write(2, 256 * KIB, 4 * KIB))?.context("no request")?;
        let status = disk.end_of(lost)?;
        t.log(format!("{status:?}"));
        // A device that writes block by block lost the first one alone.
        disk.model.set(256 * KIB, 4 * KIB, None);
        disk.run(&[Op::write(3, 512 * KIB, 4 * KIB), Op::Flush])?;
        disk.matches()
    })
    .await
}
