//! An image with lazy refcounts whose program was killed is dirty, loses nothing
//! that was flushed, and is repaired by the next program that writes to it.
//!
//! group: rw auto quick qcow2 repair
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: compat=0.10
//! needs: not-wrapped

use iotests::prelude::*;

const SIZE: u64 = 16 * MIB;
const DIRTY: &str = "header.incompatible_features.dirty";

async fn kill_while_dirty(t: &Test, img: &Image, at: u64) -> Result<()> {
    let mut io = t.session(img).await?;
    io.run(format!("write -P 7 {at} 300k")).await?;
    io.run("flush").await?;
    io.kill().await?;
    t.log(format!("killed; dirty bit {}", t.peek(img, DIRTY)?));
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).options("lazy_refcounts=on").await?;
    let kept = [(7, MIB, 300 * KIB), (0, 0, MIB), (0, MIB + 300 * KIB, MIB)];

    t.section("an end in order leaves no dirt");
    t.write(&img, &[(1, 4 * MIB, 64 * KIB)]).await?;
    t.log(format!("dirty bit {}", t.peek(&img, DIRTY)?));
    t.sound(&img)?;

    t.section("killed: a read-only open repairs nothing");
    kill_while_dirty(t, &img, MIB).await?;
    t.io(&img, ["read -P 7 1M 300k"]).options(["-r"]).await?;
    t.log(format!("dirty bit {}", t.peek(&img, DIRTY)?));

    t.section("a writer repairs first");
    t.verify(&img, &kept).await?;
    t.log(format!("dirty bit {}", t.peek(&img, DIRTY)?));
    t.check(&img).await?;
    t.sound(&img)?;

    t.section("killed again: check repairs");
    kill_while_dirty(t, &img, 9 * MIB).await?;
    t.img(format!("check -r all {img}")).quiet().any_status().await?;
    t.log(format!("dirty bit {}", t.peek(&img, DIRTY)?));
    t.check(&img).await?;
    t.sound(&img)?;
    t.verify(&img, &kept).await?;
    t.verify(&img, &[(7, 9 * MIB, 300 * KIB)]).await?;

    t.section("without the feature nothing is dirty, and leaks are the worst");
    t.img(format!("amend -o lazy_refcounts=off {img}")).await?;
    t.log(format!("lazy refcounts {}", t.peek(&img, "header.compatible_features.lazy_refcounts")?));
    let mut io = t.session(&img).await?;
    io.run("write -P 9 6M 64k").await?;
    io.run("flush").await?;
    io.kill().await?;
    t.log(format!("killed; dirty bit {}", t.peek(&img, DIRTY)?));
    t.verify(&img, &[(9, 6 * MIB, 64 * KIB)]).await?;
    t.check_counts(&img, &["-r", "leaks"]).await?;
    t.check(&img).await
}
