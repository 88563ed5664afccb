//! An overlay shows its backing chain where nothing was written to it, and
//! what is written to it changes no image below.
//!
//! group: rw auto quick backing
//! supported_fmt: generic
//! needs: backing

use iotests::prelude::*;

/// What the chains are made of. Some formats sync every cluster of 4 KiB.
const UNIT: u64 = 256 * KIB;
const SIZE: u64 = 8 * UNIT;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    t.write(&base, &[(1, 0, 3 * UNIT)]).await?;
    let mid = t.image("mid").backing(&base).await?;
    t.write(&mid, &[(2, UNIT, UNIT), (3, 5 * UNIT, 512)]).await?;
    let top = t.image("top").backing(&mid).await?;

    t.section("the chain is seen through the top");
    t.info(&top).await?;
    let seen = [
        (1, 0, UNIT),
        (2, UNIT, UNIT),
        (1, 2 * UNIT, UNIT),
        (0, 3 * UNIT, 2 * UNIT),
        (3, 5 * UNIT, 512),
        (0, 5 * UNIT + 512, 3 * UNIT - 512),
    ];
    t.verify(&top, &seen).await?;

    t.section("writes stay in the top");
    t.write(&top, &[(4, UNIT - 512, 1024), (0, 5 * UNIT, 512)]).await?;
    t.verify(
        &top,
        &[
            (1, 0, UNIT - 512),
            (4, UNIT - 512, 1024),
            (2, UNIT + 512, UNIT - 512),
            (0, 5 * UNIT, 512),
        ],
    )
    .await?;
    t.verify(&mid, &seen).await?;
    t.verify(&base, &[(1, 0, 3 * UNIT), (0, 3 * UNIT, 5 * UNIT)]).await?;

    t.section("an overlay that is longer than what it covers");
    let long = t.image("long").size(2 * SIZE).backing(&mid).await?;
    t.verify(&long, &[(3, 5 * UNIT, 512), (0, SIZE - 512, SIZE + 512)]).await?;
    t.write(&long, &[(5, SIZE - 512, 1024)]).await?;
    t.verify(&long, &[(0, SIZE - 1024, 512), (5, SIZE - 512, 1024), (0, SIZE + 512, UNIT)]).await?;

    for img in [&base, &mid, &top, &long] {
        t.check(img).await?;
    }
    Ok(())
}
