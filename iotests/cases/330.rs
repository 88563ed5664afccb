//! A guest and a client of an export use one disk at once: what one writes the other one reads.
//!
//! group: rw device export nbd
//! supported_fmt: generic
//! supported_proto: file
//! needs: qtest

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let setup = Setup::new(2 * MIB).property("share-rw=on");
    t.on_each_disk(&setup, fits::block_properties, async |disk| {
        let url = disk.vm.export_nbd("disk").await?;
        let mut client = t.session(&url).await?;
        for n in 0..4u64 {
            let (guest, other) = (n as u8 * 2 + 1, n as u8 * 2 + 2);
            disk.run(&[Op::write(guest, n * 128 * KIB, 64 * KIB)])?;
            client.run(&format!("read -P {guest} {} 64k", n * 128 * KIB)).await?;
            client.run(&format!("write -P {other} {} 4k", n * 128 * KIB + 32 * KIB)).await?;
            disk.model.apply(&Op::write(other, n * 128 * KIB + 32 * KIB, 4 * KIB));
            disk.run(&[Op::Read { offset: n * 128 * KIB, length: 64 * KIB }])?;
        }
        client.close().await?;
        disk.vm.unexport("nbd-disk").await?;
        disk.matches()
    })
    .await
}
