//! The latency histograms of a disk count each of its guest's requests once.
//!
//! group: device qmp quick
//! supported_fmt: raw qcow2
//! supported_proto: file
//! needs: qtest

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(
        &Setup::new(2 * MIB),
        |p| fits::limits(p) && fits::statistics(p),
        async |disk| {
            let id = disk.backend_id();
            let bounds = json!({"id": id, "boundaries": [1000, 1_000_000, 1_000_000_000]});
            disk.vm.run("block-latency-histogram-set", bounds).await?;
            let mut ops: Vec<Op> = (0..5).map(|n| Op::write(1, n * 64 * KIB, 4 * KIB)).collect();
            ops.extend((0..3).map(|n| Op::Read { offset: n * 64 * KIB, length: 4 * KIB }));
            ops.push(Op::Flush);
            disk.run(&ops)?;
            let stats = disk.statistics().await?;
            for kind in ["wr", "rd", "flush"] {
                let bins = stats[format!("{kind}_latency_histogram")]["bins"].as_array();
                let count: u64 = bins.context("no bins")?.iter().filter_map(Value::as_u64).sum();
                t.log(format!("{kind}: {count}"));
            }
            Ok(())
        },
    )
    .await
}
