//! Patterns written across cluster and table edges are read back, and nothing
//! beside them changes.
//!
//! group: rw auto quick io
//! supported_fmt: generic

use iotests::prelude::*;

/// A little more than one L2 table of a qcow2 image with 64 KiB clusters maps.
const SIZE: u64 = 514 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut model = t.disk_model(SIZE);

    t.section("single sectors and odd bytes");
    t.io(
        &img,
        [
            "write -P 0x11 0 512",
            "write -P 0x22 512 1024",
            "write -P 0x33 4095 2",
            "read -P 0x11 0 512",
            "read -P 0x22 512 1024",
            "read -P 0x33 4095 2",
        ],
    )
    .await?;
    for (pattern, offset, length) in [(0x11, 0, 512), (0x22, 512, 1024), (0x33, 4095, 2)] {
        model.set(offset, length, Some(pattern));
    }

    t.section("across every likely edge");
    let edges = [4 * KIB, 64 * KIB, 128 * KIB, MIB, 2 * MIB, 32 * MIB, 128 * MIB, 512 * MIB, SIZE];
    let writes: Vec<Op> = (0x40..)
        .zip(edges)
        .map(|(pattern, edge)| Op::write(pattern, edge - 1536, 3072.min(SIZE + 1536 - edge)))
        .collect();
    t.apply(&img, &mut model, &writes).await?;

    t.section("random writes and zeroes");
    let ops = Plan { count: 120, ..Plan::default() }.ops(&mut t.rng(), SIZE);
    t.apply(&img, &mut model, &ops).await?;
    t.matches(&img, &model).await?;

    t.section("vectors and requests beyond the end");
    t.io(
        &img,
        [
            "writev -P 0x77 8k 512 1024 512",
            "readv -P 0x77 8k 2048",
            &format!("write -P 1 {SIZE} 512"),
            &format!("read {} 1024", SIZE - 512),
        ],
    )
    .fails()
    .await?;
    model.set(8 * KIB, 2048, Some(0x77));
    t.matches(&img, &model).await?;
    t.check(&img).await
}
