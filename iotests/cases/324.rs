//! A disk that is read-only refuses what would change it, and can be read.
//!
//! group: rw device quick
//! supported_fmt: generic
//! supported_proto: file nbd
//! needs: qtest

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let setup = Setup::new(2 * MIB).node(json!({"read-only": true}));
    t.on_each_disk(&setup, fits::read_only, async |disk| {
        disk.run(&[Op::Read { offset: 0, length: 64 * KIB }])?;
        disk.fails(&Op::write(0xbd, 64 * KIB, 4 * KIB))?;
        disk.run(&[Op::Read { offset: 0, length: 128 * KIB }])
    })
    .await
}
