//! A disk that another process serves to a device (vhost-user-blk): requests, and a server that
//! is lost with requests in flight and comes back.
//!
//! group: rw device export
//! supported_fmt: generic
//! supported_proto: file
//! needs: qtest qemu-storage-daemon

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let plan = Plan { count: 40, longest: 64 * KIB, ..Plan::default() };

    t.section("requests");
    t.on_each_disk(
        &Setup::served(2 * MIB),
        |_| true,
        async |disk| {
            disk.run(&plan.ops(&mut t.rng(), MIB))?;
            disk.write_at_once(0x20)?;
            disk.run(&[Op::Flush])?;
            disk.reset()?;
            disk.matches()
        },
    )
    .await?;

    t.section("a server that comes back");
    t.on_each_disk(
        &Setup::served(2 * MIB),
        |_| true,
        async |disk| {
            disk.run(&[Op::write(1, 0, 2 * MIB), Op::Flush])?;
            let image = disk.image.clone();
            for round in 0..3 {
                let mut pending = Vec::new();
                for n in 0..4u64 {
                    let op = Op::write(0x10 + round, n * 96 * KIB, 64 * KIB);
                    pending.extend(disk.start(&op)?);
                }
                if let Some(server) = disk.server.take() {
                    server.kill().await?;
                }
                disk.server = Some(t.serve(&image).await?);
                // What was not done is done by the new one.
                disk.finish(pending)?;
                t.log("the server was lost, and another one did what was left");
            }
            disk.run(&[Op::Flush])?;
            disk.matches()
        },
    )
    .await
}
