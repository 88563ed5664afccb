//! Clusters that nothing refers to any more are leaks, to the number; repair gives
//! them back, and what was still referred to stays.
//!
//! group: rw auto quick qcow2 damage repair
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file

use iotests::prelude::*;

const SIZE: u64 = GIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).without_imgopts().options("cluster_size=64k").await?;
    t.write(&img, &[(1, 0, MIB), (2, 512 * MIB, MIB)]).await?;

    t.section("three clusters");
    for n in [1, 2, 9] {
        t.poke(&img, &format!("l2[0].entry[{n}]"), 0)?;
    }
    t.check_counts(&img, &[]).await?;
    let length = std::fs::metadata(img.file())?.len();
    t.check_counts(&img, &["-r", "leaks"]).await?;
    t.check(&img).await?;
    t.sound(&img)?;
    t.verify(
        &img,
        &[
            (1, 0, 64 * KIB),
            (0, 64 * KIB, 128 * KIB),
            (1, 192 * KIB, 384 * KIB),
            (0, 576 * KIB, 64 * KIB),
            (1, 640 * KIB, 384 * KIB),
        ],
    )
    .await?;
    t.write(&img, &[(3, 64 * KIB, 128 * KIB), (3, 576 * KIB, 64 * KIB)]).await?;
    t.log(format!("their place is used again: {}", std::fs::metadata(img.file())?.len() == length));
    t.sound(&img)?;

    t.section("a table with all below it");
    t.poke(&img, "l1[1]", 0)?;
    t.check_counts(&img, &[]).await?;
    t.check_counts(&img, &["-r", "all"]).await?;
    t.sound(&img)?;
    t.verify(&img, &[(3, 64 * KIB, 128 * KIB), (0, 512 * MIB, MIB)]).await?;

    t.section("all of it");
    t.poke(&img, "l1[0]", 0)?;
    t.check_counts(&img, &["-r", "leaks"]).await?;
    t.verify(&img, &[(0, 0, MIB), (0, 512 * MIB, MIB)]).await?;
    t.write(&img, &[(4, 0, MIB)]).await?;
    t.check(&img).await?;
    t.sound(&img)
}
