//! A disk without a write cache (`write-cache=off`): each write is flushed before it ends.
//!
//! group: device
//! supported_fmt: raw qcow2
//! supported_proto: file
//! supported_cache: writeback none
//! needs: qtest driver:blklogwrites
//! unsupported_imgopts: data_file

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let setup = Setup::new(2 * MIB).write_log().property("write-cache=off");
    t.on_each_disk(&setup, fits::block_properties, async |disk| {
        for pattern in 1..4u8 {
            disk.run(&[Op::write(pattern, u64::from(pattern) * 64 * KIB, 4 * KIB)])?;
            let log = disk.write_log(t)?;
            ensure!(log.flushed_after(pattern), "write {pattern} ended before it was flushed");
            t.log("flushed");
        }
        disk.matches()
    })
    .await
}
