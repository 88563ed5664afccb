//! Images with unknown incompatible features are refused, with the features'
//! names; compatible ones stay, and autoclear ones are cleared by the first
//! writer only.
//!
//! group: auto quick qcow2
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: compat=0.10 data_file lazy_refcounts

use iotests::prelude::*;

fn bits(t: &Test, img: &Image) -> Result<()> {
    for kind in ["incompatible", "compatible", "autoclear"] {
        let value = t.peek(img, &format!("header.{kind}_features"))?;
        t.log(format!("{kind}: high bits {:#x}", value >> 40));
    }
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("1M").without_imgopts().await?;
    t.write(&img, &[(1, 0, 64 * KIB)]).await?;
    let incompatible = t.peek(&img, "header.incompatible_features")?;

    t.section("incompatible, without a name");
    t.poke_quietly(&img, "header.incompatible_features", incompatible | 1 << 62)?;
    t.io(&img, ["read 0 512"]).options(["-r"]).fails().await?;
    t.img(format!("check {img}")).fails().quiet().await?;

    t.section("with a name from the image");
    // The first name in the table becomes that of the unknown bit.
    let index =
        (0..4).find(|i| t.peek(&img, &format!("ext[{i}].type")).is_ok_and(|k| k == 0x6803_f857));
    let feature = format!("ext[{}].feature[0]", index.context("no feature name table")?);
    t.poke_quietly(&img, &format!("{feature}.type"), 0)?;
    t.poke_quietly(&img, &format!("{feature}.bit"), 62)?;
    t.io(&img, ["read 0 512"]).options(["-r"]).fails().await?;
    bits(t, &img)?;
    t.poke_quietly(&img, "header.incompatible_features", incompatible)?;
    t.verify(&img, &[(1, 0, 64 * KIB)]).await?;

    t.section("compatible and autoclear, read only");
    t.poke_quietly(&img, "header.compatible_features", 1 << 61)?;
    t.poke_quietly(&img, "header.autoclear_features", 1 << 60)?;
    bits(t, &img)?;
    t.io(&img, ["read -P 1 0 64k"]).options(["-r"]).quiet().await?;
    bits(t, &img)?;

    t.section("written to");
    t.io(&img, ["write -P 2 64k 64k"]).quiet().await?;
    bits(t, &img)?;
    t.verify(&img, &[(1, 0, 64 * KIB), (2, 64 * KIB, 64 * KIB)]).await?;
    t.check(&img).await
}
