//! Requests in many pieces, of odd lengths and at odd places of the guest's memory, and the
//! longest that a device takes.
//!
//! group: rw device
//! supported_fmt: generic
//! supported_proto: file nbd
//! needs: qtest

use iotests::prelude::*;
use qtest::block::{Request, Status, execute};

pub(crate) async fn run(t: &Test) -> Result<()> {
    let fits = |path: &qtest::graph::Path| path.resizes();
    t.on_each_disk(&Setup::new(2 * MIB), fits, async |disk| {
        disk.needs("scattered requests", |f| f.scatter)?;
        let pieces: [&[u32]; 4] = [
            &[512, 512, 1024, 2048, 4096],
            &[4096, 512, 3584, 4096],
            &[512; 32],
            &[65536, 65536, 4096, 61440],
        ];
        for (n, sizes) in pieces.into_iter().enumerate() {
            let length: u64 = sizes.iter().map(|n| u64::from(*n)).sum();
            if length > disk.features().longest {
                continue;
            }
            let (offset, pattern) = (n as u64 * 256 * KIB + 64 * KIB, n as u8 + 1);
            let buffer = disk.guest.buffer(sizes, 4096)?;
            for &(address, length) in &buffer.pieces {
                disk.guest.fill(address, length.into(), pattern)?;
            }
            let write = Request::Write { offset, buffer: buffer.clone(), fua: false };
            let status = execute(disk.disk.as_mut(), &mut disk.guest, &write)?;
            ensure!(status == Status::Done, "write in {} pieces: {status:?}", sizes.len());
            disk.model.apply(&Op::write(pattern, offset, length));
            for &(address, length) in &buffer.pieces {
                disk.guest.fill(address, length.into(), 0xee)?;
            }
            let read = Request::Read { offset, buffer: buffer.clone() };
            let status = execute(disk.disk.as_mut(), &mut disk.guest, &read)?;
            ensure!(status == Status::Done, "read in {} pieces: {status:?}", sizes.len());
            let bytes = disk.guest.buffer_bytes(&buffer)?;
            disk.compare(offset, &bytes)?;
            disk.guest.free_buffer(&buffer);
        }
        t.log("scattered requests are written and read");
        let longest = disk.features().longest.min(MIB);
        let op = Op::write(9, MIB, longest);
        let pending = disk.start(&op)?.into_iter().collect();
        disk.finish(pending)?;
        t.log("the longest write");
        let read = disk.start(&Op::Read { offset: MIB, length: longest })?;
        disk.finish(read.into_iter().collect())?;
        disk.matches()
    })
    .await
}
