//! Zeroes written over data and over unallocated ranges read as zeroes, and
//! what is beside them stays.
//!
//! group: rw auto quick io zero
//! supported_fmt: generic

use iotests::prelude::*;

/// More than one L2 table with small clusters, several with large blocks.
const SIZE: u64 = 12 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut model = t.disk_model(SIZE);
    let fill = Op::write(0x5a, 0, 8 * MIB);
    t.apply(&img, &mut model, &[fill]).await?;

    for (way, unmap) in [("kept allocated", false), ("given back", true)] {
        t.section(format!("at every likely edge, {way}"));
        let shift = if unmap { 4 * MIB } else { 0 };
        let spans = [
            (0, 512),
            (4 * KIB, 4 * KIB),
            (64 * KIB - 512, KIB),
            (128 * KIB, 64 * KIB),
            (256 * KIB - KIB, 64 * KIB + 2 * KIB),
            (MIB, MIB),
            (3 * MIB - 512, MIB - 512),
        ];
        let ops: Vec<Op> =
            spans.map(|(offset, length)| Op::Zero { offset: offset + shift, length, unmap }).into();
        t.apply(&img, &mut model, &ops).await?;
        t.matches(&img, &model).await?;
    }

    t.section("where nothing was, up to the end");
    let ops = [
        Op::Zero { offset: 9 * MIB, length: 512, unmap: false },
        Op::Zero { offset: 10 * MIB, length: 2 * MIB, unmap: true },
        Op::write(0x77, 11 * MIB + 512, 512),
        Op::Zero { offset: SIZE - 512, length: 512, unmap: false },
    ];
    t.apply(&img, &mut model, &ops).await?;
    t.matches(&img, &model).await?;

    t.section("written again");
    let ops = [
        Op::write(0x11, MIB + 512, 3 * KIB),
        Op::write(0x22, 5 * MIB + 512, 3 * KIB),
        Op::Zero { offset: MIB, length: KIB, unmap: true },
    ];
    t.apply(&img, &mut model, &ops).await?;
    t.matches(&img, &model).await?;
    t.check(&img).await
}
