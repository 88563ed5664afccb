//! Flushes reach the file behind the data that they are for, and a write with FUA (Force Unit
//! Access) ends when it has been flushed.
//!
//! group: device
//! supported_fmt: raw qcow2
//! supported_proto: file
//! supported_cache: writeback none
//! needs: qtest driver:blklogwrites
//! unsupported_imgopts: data_file

use iotests::device::fits;
use iotests::prelude::*;
use qtest::block::{Request, Status, execute};

pub(crate) async fn run(t: &Test) -> Result<()> {
    const OFFSET: u64 = MIB;
    let setup = Setup::new(2 * MIB).write_log();
    t.on_each_disk(
        &setup,
        |_| true,
        async |disk| {
            disk.needs("flush", |f| f.flush)?;
            disk.run(&[Op::write(1, OFFSET, 4 * KIB), Op::Flush])?;
            let log = disk.write_log(t)?;
            ensure!(log.flushed_after(1), "no flush behind the data");
            t.log("a flush is behind the data");
            if disk.features().fua && fits::forces_access(&disk.path) {
                let buffer = disk.guest.buffer(&[4096], 4096)?;
                disk.guest.fill(buffer.pieces[0].0, 4096, 2)?;
                let write = Request::Write { offset: OFFSET + 64 * KIB, buffer, fua: true };
                let status = execute(disk.disk.as_mut(), &mut disk.guest, &write)?;
                ensure!(status == Status::Done, "write with FUA: {status:?}");
                disk.model.apply(&Op::write(2, OFFSET + 64 * KIB, 4 * KIB));
                let log = disk.write_log(t)?;
                ensure!(log.flushed_after(2), "a write with FUA ended before it was flushed");
            }
            disk.matches()
        },
    )
    .await
}
