//! A machine that moves to another emulator finds its disk as it was, with requests that were on
//! their way, and moves back.
//!
//! group: rw device migration throttle
//! supported_fmt: generic
//! unsupported_fmt: vdi vpc vhdx vmdk qcow qed parallels
//! supported_proto: file
//! needs: qtest driver:throttle

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let setup = Setup::new(2 * MIB).holds();
    t.on_each_disk(
        &setup,
        |p| fits::migration(p) && fits::asynchronous(p) && !p.to_string().contains("megasas"),
        async |disk| {
            let image = disk.image.clone();
            disk.run(&[Op::write(1, 0, 512 * KIB)])?;
            for round in 0..2u8 {
                disk.hold().await?;
                disk.run(&[Op::write(2, 0, 4 * KIB)])?;
                let held = disk.start_held(&[Op::write(3 + round, 128 * KIB, 4 * KIB)])?;
                disk.migrate(t, &setup, &image).await?;
                disk.finish(held)?;
                disk.run(&[Op::write(5 + round, 256 * KIB, 8 * KIB), Op::Flush])?;
                disk.matches()?;
            }
            Ok(())
        },
    )
    .await
}
