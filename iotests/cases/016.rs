//! Requests of any length at any byte, alone or in vectors, change these bytes
//! only.
//!
//! group: rw auto quick io
//! supported_fmt: generic

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    // Bytes, not sectors, are counted: there must be something in between.
    t.write(&img, &[(0x20, 0, SIZE)]).await?;
    let mut model = t.disk_model(SIZE);
    model.set(0, SIZE, Some(0x20));

    t.section("single bytes around edges");
    let mut ops = Vec::new();
    for (pattern, edge) in (1..).zip([1, 512, 4096, 65536, MIB, 2 * MIB, SIZE]) {
        ops.push(Op::write(pattern, edge - 1, 2.min(SIZE + 1 - edge)));
    }
    ops.push(Op::Zero { offset: 513, length: 1, unmap: false });
    ops.push(Op::Zero { offset: 65535, length: 65539, unmap: true });
    t.apply(&img, &mut model, &ops).await?;
    t.matches(&img, &model).await?;

    t.section("anywhere");
    let plan = Plan { count: 150, align: 1, longest: 70_001, ..Plan::default() };
    let ops = plan.ops(&mut t.rng(), SIZE);
    t.apply(&img, &mut model, &ops).await?;
    t.matches(&img, &model).await?;

    t.section("vectors");
    t.io(
        &img,
        [
            "writev -P 0xa1 1 511 1 513 4097",
            "readv -P 0xa1 1 1 1 5120",
            "writev -P 0xa2 65535 1 65536 1",
            "readv -P 0xa2 65535 65538",
            "writev -P 0xa3 4194301 1 1 1",
        ],
    )
    .await?;
    for (pattern, offset, length) in [(0xa1, 1, 5122), (0xa2, 65535, 65538), (0xa3, SIZE - 3, 3)] {
        model.set(offset, length, Some(pattern));
    }
    t.matches(&img, &model).await?;
    t.check(&img).await
}
