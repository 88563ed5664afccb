//! Statistics of a disk count what its guest asked for: reads, writes and flushes, and bytes.
//!
//! group: device qmp quick
//! supported_fmt: raw qcow2
//! supported_proto: file
//! needs: qtest

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(&Setup::new(2 * MIB), fits::statistics, async |disk| {
        let before = disk.statistics().await?;
        let mut ops: Vec<Op> = (0..5).map(|n| Op::write(1, n * 64 * KIB, 4 * KIB)).collect();
        ops.extend((0..3).map(|n| Op::Read { offset: n * 64 * KIB, length: 8 * KIB }));
        disk.run(&ops)?;
        let after = disk.statistics().await?;
        for key in
            ["wr_operations", "wr_bytes", "rd_operations", "rd_bytes", "failed_wr_operations"]
        {
            let count = after[key].as_u64().unwrap_or(0) - before[key].as_u64().unwrap_or(0);
            t.log(format!("{key}: {count}"));
        }
        Ok(())
    })
    .await
}
