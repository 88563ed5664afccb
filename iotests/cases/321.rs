//! Data come up from the backing file while a guest reads and writes (`block-stream`).
//!
//! group: rw device stream backing
//! supported_fmt: qcow2 qed
//! supported_proto: file
//! needs: qtest backing
//! unsupported_imgopts: data_file

use iotests::job::AtReady;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(
        &Setup::new(2 * MIB).backed(),
        |_| true,
        async |disk| {
            disk.run(&[Op::write(1, 64 * KIB, 512), Op::write(2, 200 * KIB + 512, 4 * KIB)])?;
            disk.matches()?;
            let job = disk.vm.start_job("block-stream", json!({"device": "disk"})).await?;
            let mut pending = Vec::new();
            for n in 0..disk.features().depth.min(4) as u64 {
                pending.extend(disk.start(&Op::write(
                    3 + n as u8,
                    n * 96 * KIB + 4 * KIB,
                    4 * KIB,
                ))?);
            }
            disk.finish(pending)?;
            disk.vm.conclude(&job, AtReady::Complete).await?;
            disk.run(&[Op::write(7, 512 * KIB, 4 * KIB), Op::Flush])?;
            disk.matches()
        },
    )
    .await
}
