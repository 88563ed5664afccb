//! Snapshots and their metadata survive amend of options, and commit and rebase of
//! an overlay that has them.
//!
//! group: rw auto quick qcow2 snapshot backing commit rebase
//! supported_fmt: qcow2
//! unsupported_imgopts: data_file refcount_bits=1
//! needs: rebase reopen

use iotests::prelude::*;

const SIZE: u64 = 2 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    t.write(&base, &[(1, 0, SIZE)]).await?;
    let other = t.image("other").size(SIZE).await?;
    t.write(&other, &[(1, 0, MIB), (6, MIB, MIB)]).await?;
    let img = t.create(SIZE).backing(&base).await?;
    t.write(&img, &[(2, 0, 256 * KIB)]).await?;
    t.img(format!("snapshot -c one {img}")).await?;
    t.write(&img, &[(3, 128 * KIB, 256 * KIB)]).await?;
    let one = [(2, 0, 256 * KIB), (1, 256 * KIB, SIZE - 256 * KIB)];
    let now = [(2, 0, 128 * KIB), (3, 128 * KIB, 256 * KIB), (1, 384 * KIB, SIZE - 384 * KIB)];
    t.verify(&img, &now).await?;

    t.section("committed: the base changes, the snapshot's own clusters do not");
    t.img(format!("commit {img}")).await?;
    t.verify(&base, &now).await?;
    t.verify(&img, &now).await?;
    let own = [(2, 0, 256 * KIB)];
    let out = t.image("out").format("raw").size(0).quiet().await?;
    t.img(format!("convert -l one -O raw {img} {out}")).quiet().await?;
    t.verify(&out, &own).await?;
    t.check(&img).await?;
    t.sound(&img)?;

    t.section("rebased: the disk stays as it was");
    t.img(format!("rebase -b {other} -F IMGFMT {img}")).await?;
    t.verify(&img, &now).await?;
    t.sound(&img)?;

    t.section("back to the snapshot, over the first base's data again");
    t.img(format!("snapshot -a one {img}")).await?;
    t.verify(&img, &own).await?;
    t.img(format!("rebase -u -b {base} -F IMGFMT {img}")).await?;
    t.verify(&img, &own).await?;
    t.io(&base, ["write -P 1 0 2M"]).quiet().await?;
    t.verify(&img, &one).await?;
    t.img(format!("snapshot -d one {img}")).await?;
    t.verify(&img, &one).await?;
    t.check(&img).await?;
    t.sound(&img)
}
