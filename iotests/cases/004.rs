//! Committing an overlay brings its data, and nothing else, into the backing
//! file.
//!
//! group: rw auto quick backing commit
//! supported_fmt: generic
//! needs: backing

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    t.write(&base, &[(1, 0, 4 * MIB)]).await?;

    t.section("into the image right below");
    let top = t.image("top").backing(&base).await?;
    t.write(&top, &[(2, MIB, MIB), (3, 6 * MIB, 1536)]).await?;
    t.img(format!("commit {top}")).await?;
    let all = [
        (1, 0, MIB),
        (2, MIB, MIB),
        (1, 2 * MIB, 2 * MIB),
        (0, 4 * MIB, 2 * MIB),
        (3, 6 * MIB, 1536),
        (0, 6 * MIB + 1536, 2 * MIB - 1536),
    ];
    t.verify(&base, &all).await?;
    t.verify(&top, &all).await?;

    t.section("zeroes are data too");
    t.write(&top, &[(0, 0, 64 * KIB)]).await?;
    t.img(format!("commit {top}")).await?;
    t.verify(&base, &[(0, 0, 64 * KIB), (1, 64 * KIB, MIB - 64 * KIB)]).await?;

    t.section("past the image in the middle");
    let mid = t.image("mid").backing(&base).await?;
    t.write(&mid, &[(4, 2 * MIB, MIB)]).await?;
    let top = t.image("top").backing(&mid).await?;
    t.write(&top, &[(5, 2 * MIB + 512, 512)]).await?;
    t.img(format!("commit -b {base} {top}")).await?;
    t.verify(&base, &[(4, 2 * MIB, 512), (5, 2 * MIB + 512, 512), (4, 2 * MIB + KIB, MIB - KIB)]).await?;

    t.section("without anything below");
    t.img(format!("commit {base}")).fails().await?;
    t.check(&base).await?;
    t.check(&mid).await?;
    t.check(&top).await
}
