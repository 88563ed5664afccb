//! A bitmap in use when its program was killed is inconsistent: it is neither used
//! nor trusted, and can be removed.
//!
//! group: rw auto quick qcow2 bitmap
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! needs: bitmaps not-wrapped

use iotests::prelude::*;

async fn list(t: &Test, img: &Image) -> Result<()> {
    let info = t.info_json(img).await?;
    for b in info["format-specific"]["data"]["bitmaps"].as_array().into_iter().flatten() {
        t.log_json(b);
    }
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("8M").await?;
    t.img(format!("bitmap --add -g 64k {img} b0")).await?;
    t.img(format!("bitmap --add -g 64k --disable {img} b1")).await?;
    t.io(&img, ["write -P 1 0 64k"]).quiet().await?;
    list(t, &img).await?;

    t.section("killed while it recorded");
    let mut io = t.session(&img).await?;
    io.run("write -P 2 1M 64k").await?;
    io.run("flush").await?;
    io.kill().await?;
    list(t, &img).await?;
    t.log(format!(
        "in use: {}, {}",
        t.peek(&img, "bitmap[0].flags.in_use")?,
        t.peek(&img, "bitmap[1].flags.in_use")?
    ));

    t.section("it stays so after every open, and nothing else is affected");
    t.io(&img, ["read -P 2 1M 64k", "write -P 3 2M 64k"]).quiet().await?;
    list(t, &img).await?;
    t.check_counts(&img, &["-r", "leaks"]).await?;
    t.check(&img).await?;

    t.section("it is not used");
    for action in ["--clear", "--enable", "--disable"] {
        t.img(format!("bitmap {action} {img} b0")).fails().await?;
    }
    t.img(format!("bitmap --merge b0 {img} b1")).fails().await?;
    t.img(format!("resize {img} 16M")).fails().quiet().await?;
    t.log(format!("size {}", t.virtual_size(&img).await?));

    t.section("it can be removed");
    t.img(format!("bitmap --remove {img} b0")).await?;
    list(t, &img).await?;
    t.img(format!("bitmap --add -g 64k {img} b0")).await?;
    t.io(&img, ["write -P 4 3M 64k"]).quiet().await?;
    list(t, &img).await?;
    t.verify(
        &img,
        &[(1, 0, 64 * KIB), (2, MIB, 64 * KIB), (3, 2 * MIB, 64 * KIB), (4, 3 * MIB, 64 * KIB)],
    )
    .await?;
    t.check(&img).await?;
    t.sound(&img)
}
