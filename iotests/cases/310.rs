//! A disk that grows and shrinks while it is used: the device reports the new size, and a guest can use
//! all of it and nothing behind it.
//!
//! group: rw device resize
//! supported_fmt: generic
//! supported_proto: file
//! needs: qtest resize
//! unsupported_imgopts: data_file

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(&Setup::new(2 * MIB), fits::resizing, async |disk| {
        disk.run(&[Op::write(1, 0, 2 * MIB)])?;
        let mut sizes = vec![3 * MIB];
        if matches!(t.format(), "raw" | "qcow2") {
            sizes.push(MIB);
        }
        for size in sizes {
            disk.vm.run("block_resize", json!({"node-name": "disk", "size": size})).await?;
            let reported = disk.refresh_size()?;
            ensure!(reported == size, "the device reports {reported} bytes, not {size}");
            disk.model.resize(size);
            disk.run_quietly(&[Op::write(2, size - 64 * KIB, 64 * KIB), Op::Flush])?;
            disk.refuses(&Op::Read { offset: size, length: 4 * KIB })?;
            disk.run_quietly(&[Op::Read { offset: 0, length: size }])?;
        }
        disk.matches()
    })
    .await
}
