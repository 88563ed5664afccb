//! A request that fails is reported to the guest, and what is asked again works: reads, writes
//! and flushes.
//!
//! group: rw device blkdebug
//! supported_fmt: generic
//! supported_proto: file
//! needs: qtest driver:blkdebug

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let setup =
        Setup::new(2 * MIB).fails_once("write", 256 * KIB, 5).fails_once("read", 512 * KIB, 5);
    t.on_each_disk(&setup, fits::reports_errors, async |disk| {
        disk.run(&[Op::write(1, 0, 128 * KIB), Op::Flush])?;
        for op in
            [Op::write(0xbd, 256 * KIB, 4 * KIB), Op::Read { offset: 512 * KIB, length: 4 * KIB }]
        {
            disk.fails(&op)?;
        }
        disk.run(&[
            Op::write(2, 256 * KIB, 4 * KIB),
            Op::Read { offset: 512 * KIB, length: 4 * KIB },
            Op::Flush,
        ])?;
        disk.matches()
    })
    .await
}
