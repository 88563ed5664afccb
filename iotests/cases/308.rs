//! As many requests at once as a device takes, to places apart: each is done as if it were
//! alone.
//!
//! group: rw device
//! supported_fmt: generic
//! supported_proto: file nbd
//! needs: qtest

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(
        &Setup::new(2 * MIB),
        |_| true,
        async |disk| {
            disk.needs("queue", |f| f.depth >= 4)?;
            let depth = disk.features().depth.min(64) as u64;
            let place = |n: u64| n * 20 * KIB;
            for round in 0..3 {
                let mut pending = Vec::new();
                for n in 0..depth {
                    let pattern = (round * 64 + n + 1) as u8;
                    pending.extend(disk.start(&Op::write(pattern, place(n), 16 * KIB))?);
                }
                // In the other order.
                pending.reverse();
                disk.finish(pending)?;
                let mut pending = Vec::new();
                for n in 0..depth {
                    pending.extend(disk.start(&Op::Read { offset: place(n), length: 20 * KIB })?);
                }
                disk.finish(pending)?;
            }
            t.log("three rounds of all at once");
            disk.matches()
        },
    )
    .await
}
