//! Requests past the end of a disk, over its end and of places that no disk has are refused by
//! the device, and harm nothing.
//!
//! group: rw device
//! supported_fmt: generic
//! supported_proto: file nbd
//! needs: qtest

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(&Setup::new(2 * MIB), fits::ends, async |disk| {
        let size = disk.size();
        let block = u64::from(disk.disk.block_size());
        disk.run(&[Op::write(1, 0, 64 * KIB)])?;
        disk.run_quietly(&[Op::write(2, size - 64 * KIB, 64 * KIB)])?;
        let places =
            [("at the end", size), ("over the end", size - block), ("far behind", size + 64 * MIB)];
        for (name, offset) in places {
            for op in [Op::write(0xbd, offset, 2 * block), Op::Read { offset, length: 2 * block }] {
                disk.refuses(&op)?;
            }
            if disk.path.has("sd-card") && offset < size {
                // A card takes a block at a time, up to its end.
                disk.model.set(offset, size - offset, None);
            }
            t.log(format!("{name}: refused"));
        }
        if disk.features().write_zeroes {
            disk.refuses(&Op::Zero { offset: size, length: 4 * KIB, unmap: false })?;
        }
        disk.run(&[Op::write(3, 128 * KIB, 4 * KIB), Op::Flush])?;
        disk.matches()
    })
    .await
}
