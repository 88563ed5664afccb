//! Zeroes that a guest asks a device to write are read as zeroes, with and without leave to
//! give the place up, and nothing else changes.
//!
//! group: rw device zero
//! supported_fmt: generic
//! supported_proto: file nbd
//! needs: qtest

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let zero = |offset, length, unmap| Op::Zero { offset, length, unmap };
    let setup = Setup::new(2 * MIB).node(json!({"discard": "unmap"}));
    t.on_each_disk(
        &setup,
        |_| true,
        async |disk| {
            disk.needs("command that writes zeroes", |f| f.write_zeroes)?;
            disk.run(&[Op::write(1, 0, MIB + 512 * KIB)])?;
            for unmap in [false, true] {
                t.log(format!("unmap: {unmap}"));
                disk.run(&[
                    zero(64 * KIB, 64 * KIB, unmap),
                    zero(200 * KIB, 4 * KIB, unmap),
                    zero(MIB - 512, KIB, unmap),
                    zero(MIB + 256 * KIB, 512 * KIB, unmap),
                ])?;
                disk.run(&[Op::write(2, 96 * KIB, 8 * KIB), Op::Flush])?;
                disk.matches()?;
            }
            Ok(())
        },
    )
    .await
}
