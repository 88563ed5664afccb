//! qemu-img bitmap adds, removes, clears, enables, disables and merges bitmaps,
//! and the image lists each as it is.
//!
//! group: auto quick qcow2 bitmap
//! supported_fmt: qcow2
//! needs: bitmaps

use iotests::prelude::*;

async fn list(t: &Test, img: &Image) -> Result<()> {
    let info = t.info_json(img).await?;
    let bitmaps =
        info["format-specific"]["data"]["bitmaps"].as_array().cloned().unwrap_or_default();
    for b in &bitmaps {
        t.log_json(b);
    }
    t.log(format!(
        "{} bitmaps; autoclear bit {}",
        bitmaps.len(),
        t.peek(img, "header.autoclear_features.bitmaps")?
    ));
    t.sound(img)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("16M").await?;
    list(t, &img).await?;

    t.section("added");
    t.img(format!("bitmap --add -g 64k {img} b0")).await?;
    t.img(format!("bitmap --add -g 512 {img} b1")).await?;
    t.img(format!("bitmap --add -g 2M --disable {img} b2")).await?;
    list(t, &img).await?;

    t.section("disabled, enabled, cleared");
    t.img(format!("bitmap --disable {img} b0")).await?;
    t.img(format!("bitmap --enable {img} b2")).await?;
    t.img(format!("bitmap --clear {img} b1")).await?;
    list(t, &img).await?;

    t.section("several actions in a row");
    t.img(format!("bitmap --add -g 64k --disable --enable --clear --merge b0 {img} b3")).await?;
    list(t, &img).await?;

    t.section("invalid requests");
    for wrong in [
        "--add {img} b0",
        "--add -g 511 {img} b4",
        "--add -g 4G {img} b4",
        "--remove {img} b4",
        "--merge b4 {img} b0",
        "--merge b0 {img} b4",
        "--remove {img}",
    ] {
        t.img(format!("bitmap {}", wrong.replace("{img}", &img.to_string())))
            .fails()
            .quiet()
            .await?;
        t.log(format!("refused: {wrong}"));
    }
    list(t, &img).await?;

    t.section("removed");
    for n in ["b1", "b3", "b0", "b2"] {
        t.img(format!("bitmap --remove {img} {n}")).await?;
    }
    list(t, &img).await?;
    t.check(&img).await
}
