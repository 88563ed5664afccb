//! Zeroes that a guest writes as data are found and given up (`detect-zeroes=unmap`), and read
//! as zeroes.
//!
//! group: rw device zero
//! supported_fmt: raw qcow2
//! supported_proto: file
//! supported_cache: writeback none
//! needs: qtest sparse
//! unsupported_imgopts: preallocation data_file

use std::os::unix::fs::MetadataExt as _;

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let setup = Setup::new(2 * MIB)
        .node(json!({"discard": "unmap", "detect-zeroes": "unmap", "file": {"discard": "unmap"}}));
    t.on_each_disk(&setup, fits::statistics, async |disk| {
        let file = t.path(format!("t.{}", t.format()));
        let used = || Ok::<_, anyhow::Error>(std::fs::metadata(&file)?.blocks() * 512);
        disk.run(&[Op::write(1, 0, 2 * MIB), Op::Flush])?;
        let before = used()?;
        disk.run(&[Op::write(0, 512 * KIB, MIB), Op::write(2, MIB + 4 * KIB, 512), Op::Flush])?;
        let after = used()?;
        ensure!(after + 512 * KIB < before, "{before} bytes before, {after} after zeroes");
        t.log("the file takes less");
        disk.matches()
    })
    .await
}
