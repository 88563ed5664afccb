//! Rebasing an image changes its backing file, and not what the guest reads.
//!
//! group: rw auto quick backing rebase
//! supported_fmt: generic
//! needs: rebase

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let old = t.image("old").size(SIZE).await?;
    t.write(&old, &[(1, 0, 2 * MIB)]).await?;
    let new = t.image("new").size(SIZE).await?;
    t.write(&new, &[(1, 0, MIB), (9, MIB, 2 * MIB)]).await?;
    let top = t.image("top").backing(&old).await?;
    t.write(&top, &[(2, 512 * KIB, 64 * KIB)]).await?;
    let shown = [
        (1, 0, 512 * KIB),
        (2, 512 * KIB, 64 * KIB),
        (1, 576 * KIB, 2 * MIB - 576 * KIB),
        (0, 2 * MIB, 2 * MIB),
    ];
    t.verify(&top, &shown).await?;

    t.section("onto another image");
    t.img(format!("rebase -b {new} -F IMGFMT {top}")).await?;
    t.info(&top).await?;
    t.verify(&top, &shown).await?;
    t.check(&top).await?;

    t.section("back, unsafely: what was equal has come from below");
    t.img(format!("rebase -u -b {old} -F IMGFMT {top}")).await?;
    t.info(&top).await?;
    t.verify(&top, &shown).await?;

    t.section("onto nothing");
    t.img(["rebase", "-b", "", &top.to_string()]).await?;
    t.info(&top).await?;
    t.verify(&top, &shown).await?;
    t.check(&top).await?;

    t.section("onto what is not there");
    t.img(format!("rebase -b TEST_DIR/missing -F IMGFMT {top}")).fails().quiet().await?;
    t.verify(&top, &shown).await
}
