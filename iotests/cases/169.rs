//! Damage in one image of a backing chain is not carried into another by
//! commit, rebase or convert without a diagnostic.
//!
//! group: rw auto quick qcow2 damage backing commit rebase convert
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file compat=0.10

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").without_imgopts().options("cluster_size=64k").size(SIZE).await?;
    t.write(&base, &[(1, 0, SIZE)]).await?;
    let other = t.image("other").without_imgopts().size(SIZE).await?;
    let img = t.create(SIZE).without_imgopts().options("cluster_size=64k").backing(&base).await?;
    t.write(&img, &[(2, 0, MIB)]).await?;
    let entry = t.peek(&img, "l2[0].entry[3]")?;
    t.poke_quietly(&img, "l2[0].entry[3]", entry | 0x200)?;

    t.section("read");
    // A commit that meets it first ends in an assertion: known-limits.md.
    t.io(&img, ["write -P 3 192k 64k"]).fails().quiet().await?;
    t.log(format!("corrupt bit {}", t.peek(&img, "header.incompatible_features.corrupt")?));

    t.section("commit, compare and convert of the corrupt image");
    t.img(format!("commit {img}")).fails().quiet().await?;
    t.img(format!("convert -O IMGFMT {img} TEST_DIR/copy")).fails().quiet().await?;
    t.img(format!("compare {img} {base}")).fails().quiet().await?;
    t.img(format!("rebase -b {other} -F IMGFMT {img}")).fails().quiet().await?;
    t.log("refused");
    t.verify(&base, &[(1, 0, SIZE)]).await?;
    t.verify(&other, &[(0, 0, SIZE)]).await?;
    t.check(&base).await?;

    t.section("repaired by hand");
    t.poke_quietly(&img, "l2[0].entry[3]", entry)?;
    t.check_counts(&img, &["-r", "all"]).await?;
    t.verify(&img, &[(2, 0, MIB), (1, MIB, 3 * MIB)]).await?;
    t.img(format!("rebase -b {other} -F IMGFMT {img}")).quiet().await?;
    t.verify(&img, &[(2, 0, MIB), (1, MIB, 3 * MIB)]).await?;
    let _ = std::fs::remove_file(t.path("copy"));
    t.sound(&img)
}
