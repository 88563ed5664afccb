//! All queues of a device at once, and in turns.
//!
//! group: rw device quick
//! supported_fmt: raw qcow2
//! supported_proto: file nbd
//! needs: qtest

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(
        &Setup::new(2 * MIB),
        |_| true,
        async |disk| {
            disk.needs("second queue", |f| f.queues > 1)?;
            let queues = disk.features().queues.min(8);
            for round in 0..4u64 {
                let mut pending = Vec::new();
                for queue in 0..queues {
                    let offset = (queue as u64 * 8 + round) * 16 * KIB;
                    let op = Op::write((round * 8) as u8 + queue as u8 + 1, offset, 16 * KIB);
                    pending.extend(disk.start_on(queue, &op)?);
                }
                disk.finish(pending)?;
                // What one queue wrote another one reads.
                let mut pending = Vec::new();
                for queue in 0..queues {
                    let offset = ((queues - 1 - queue) as u64 * 8 + round) * 16 * KIB;
                    pending.extend(disk.start_on(queue, &Op::Read { offset, length: 16 * KIB })?);
                }
                disk.finish(pending)?;
            }
            t.log("four rounds on all queues");
            disk.matches()
        },
    )
    .await
}
