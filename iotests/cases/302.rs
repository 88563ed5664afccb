//! What a guest discards through a device is given up where the format can, and nothing beside
//! it changes.
//!
//! group: rw device
//! supported_fmt: raw qcow2
//! supported_proto: file
//! supported_cache: writeback none
//! needs: qtest sparse
//! unsupported_imgopts: preallocation data_file

use std::os::unix::fs::MetadataExt as _;

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let setup = Setup::new(2 * MIB).node(json!({"discard": "unmap", "file": {"discard": "unmap"}}));
    // Cards of QEMU write what is erased.
    let fits = |path: &qtest::graph::Path| !path.has("sd-card");
    t.on_each_disk(&setup, fits, async |disk| {
        disk.needs("command that discards", |f| f.discard)?;
        let file = t.path(format!("t.{}", t.format()));
        let used = || Ok::<_, anyhow::Error>(std::fs::metadata(&file)?.blocks() * 512);
        disk.run(&[Op::write(1, 0, 2 * MIB), Op::Flush])?;
        let before = used()?;
        disk.run(&[Op::Discard { offset: 512 * KIB, length: MIB }, Op::Flush])?;
        let after = used()?;
        ensure!(after + 512 * KIB < before, "{before} bytes before, {after} after the discard");
        t.log("the file takes less");
        disk.run(&[Op::write(2, MIB + 64 * KIB, 64 * KIB)])?;
        disk.matches()
    })
    .await
}
