//! An unsafe rebase changes the name and nothing else: the data comes from the
//! new backing file at once.
//!
//! group: rw auto quick backing rebase
//! supported_fmt: generic
//! needs: rebase

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let one = t.filled("one", SIZE, 1).await?;
    let two = t.filled("two", SIZE, 2).await?;
    let top = t.image("top").backing(&one).await?;
    // What a cluster of any size holds is the overlay's own.
    t.write(&top, &[(3, 0, 2 * MIB)]).await?;
    t.verify(&top, &[(3, 0, 2 * MIB), (1, 2 * MIB, 2 * MIB)]).await?;

    t.section("another image");
    t.img(format!("rebase -u -b {two} -F IMGFMT {top}")).await?;
    t.info(&top).await?;
    t.verify(&top, &[(3, 0, 2 * MIB), (2, 2 * MIB, 2 * MIB)]).await?;

    t.section("none");
    t.img(["rebase", "-u", "-b", "", &top.to_string()]).await?;
    t.info(&top).await?;
    t.verify(&top, &[(3, 0, 2 * MIB), (0, 2 * MIB, 2 * MIB)]).await?;

    t.section("one that is not there");
    t.img(format!("rebase -u -b TEST_DIR/none -F IMGFMT {top}")).await?;
    t.info(&top).await?;
    t.io(&top, ["read 0 512"]).fails().quiet().await?;
    t.img(format!("rebase -b {one} -F IMGFMT {top}")).fails().quiet().await?;
    t.log("it is not opened, nor rebased by reading it");

    t.section("and back");
    t.img(format!("rebase -u -b {one} -F IMGFMT {top}")).await?;
    t.verify(&top, &[(3, 0, 2 * MIB), (1, 2 * MIB, 2 * MIB)]).await?;
    t.verify(&one, &[(1, 0, SIZE)]).await?;
    t.verify(&two, &[(2, 0, SIZE)]).await?;
    t.check(&top).await
}
