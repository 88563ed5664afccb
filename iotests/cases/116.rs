//! Bitmaps go through convert with --bitmaps and no other way, and a broken one
//! stops it unless it is skipped.
//!
//! group: rw auto quick qcow2 bitmap convert
//! supported_fmt: qcow2
//! unsupported_imgopts: refcount_bits=1 data_file
//! needs: bitmaps

use iotests::prelude::*;

async fn list(t: &Test, img: &Image) -> Result<()> {
    let info = t.info_json(img).await?;
    let bitmaps =
        info["format-specific"]["data"]["bitmaps"].as_array().cloned().unwrap_or_default();
    let names: Vec<String> = bitmaps
        .iter()
        .map(|b| format!("{} {} {}", b["name"], b["granularity"], b["flags"]))
        .collect();
    t.log(format!(
        "bitmaps of {img}: {}",
        if names.is_empty() { "none".into() } else { names.join(", ") }
    ));
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("8M").await?;
    t.img(format!("bitmap --add -g 64k {img} b0")).await?;
    t.img(format!("bitmap --add -g 4k --disable {img} b1")).await?;
    t.io(&img, ["write -P 1 1M 1M"]).quiet().await?;

    t.section("without and with --bitmaps");
    let plain = t.image("plain").size("8M").quiet().await?;
    t.img(format!("convert -O IMGFMT {img} {plain}")).await?;
    list(t, &plain).await?;
    t.img(format!("convert --bitmaps -O IMGFMT {img} {plain}")).await?;
    list(t, &plain).await?;
    t.same(&img, &plain).await?;
    t.sound(&plain)?;

    t.section("to a format that keeps none");
    t.img(format!("convert --bitmaps -O raw {img} TEST_DIR/raw")).fails().quiet().await?;
    t.log("refused");

    t.section("one that is inconsistent");
    t.poke(&img, "bitmap[1].flags.in_use", 1)?;
    list(t, &img).await?;
    t.img(format!("convert --bitmaps -O IMGFMT {img} {plain}")).fails().quiet().await?;
    t.img(format!("convert --bitmaps --skip-broken-bitmaps -O IMGFMT {img} {plain}"))
        .quiet()
        .await?;
    list(t, &plain).await?;
    t.same(&img, &plain).await?;
    t.check(&plain).await?;

    t.section("a snapshot takes none away, and cannot be gone back to");
    t.img(format!("snapshot -c one {img}")).await?;
    t.io(&img, ["write -P 2 4M 64k"]).quiet().await?;
    t.img(format!("snapshot -a one {img}")).fails().await?;
    t.verify(&img, &[(1, MIB, MIB), (2, 4 * MIB, 64 * KIB)]).await?;
    list(t, &img).await?;
    t.img(format!("snapshot -d one {img}")).await?;
    t.check(&img).await?;
    t.sound(&img)
}
