//! Committing an overlay brings its data, and nothing else, into the backing
//! file.
//!
//! group: rw auto quick backing commit
//! supported_fmt: generic
//! needs: backing reopen

use iotests::prelude::*;

/// What the chains are made of. Some formats sync every cluster of 4 KiB.
const UNIT: u64 = 256 * KIB;
const SIZE: u64 = 8 * UNIT;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    t.write(&base, &[(1, 0, 4 * UNIT)]).await?;

    t.section("into the image right below");
    let top = t.image("top").backing(&base).await?;
    t.write(&top, &[(2, UNIT, UNIT), (3, 6 * UNIT, 1536)]).await?;
    t.img(format!("commit {top}")).await?;
    let all = [
        (1, 0, UNIT),
        (2, UNIT, UNIT),
        (1, 2 * UNIT, 2 * UNIT),
        (0, 4 * UNIT, 2 * UNIT),
        (3, 6 * UNIT, 1536),
        (0, 6 * UNIT + 1536, 2 * UNIT - 1536),
    ];
    t.verify(&base, &all).await?;
    if t.format() == "vmdk" {
        // It counts as changed behind its overlay's back.
        t.case_not_run("the overlay of a VMDK image cannot be read after a commit")?;
    } else {
        t.verify_quietly(&top, &all).await?;
    }

    t.section("zeroes are data too");
    let top = t.image("top").backing(&base).await?;
    t.write(&top, &[(0, 0, 64 * KIB)]).await?;
    t.img(format!("commit {top}")).await?;
    t.verify(&base, &[(0, 0, 64 * KIB), (1, 64 * KIB, UNIT - 64 * KIB)]).await?;

    t.section("past the image in the middle");
    let mid = t.image("mid").backing(&base).await?;
    t.write(&mid, &[(4, 2 * UNIT, UNIT)]).await?;
    let top = t.image("top").backing(&mid).await?;
    t.write(&top, &[(5, 2 * UNIT + 512, 512)]).await?;
    t.img(format!("commit -b {base} {top}")).await?;
    t.verify(
        &base,
        &[(4, 2 * UNIT, 512), (5, 2 * UNIT + 512, 512), (4, 2 * UNIT + KIB, UNIT - KIB)],
    )
    .await?;

    t.section("without anything below");
    t.img(format!("commit {base}")).fails().await?;
    t.check(&base).await?;
    t.check(&mid).await?;
    t.check(&top).await
}
