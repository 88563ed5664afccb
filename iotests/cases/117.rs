//! Many bitmaps, with the longest name and the finest granularity, are kept, and
//! one name too long is refused.
//!
//! group: auto qcow2 bitmap
//! supported_fmt: qcow2
//! needs: bitmaps

use iotests::prelude::*;

async fn count(t: &Test, img: &Image) -> Result<usize> {
    let info = t.info_json(img).await?;
    Ok(info["format-specific"]["data"]["bitmaps"].as_array().map_or(0, Vec::len))
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("1G").await?;

    t.section("names");
    let longest = "n".repeat(1023);
    for (what, name) in [("1023 bytes", longest.as_str()), ("a blank", "a b"), ("not ASCII", "ñ")]
    {
        t.img(["bitmap", "--add", &img.to_string(), name]).quiet().await?;
        t.log(format!("{what}: taken"));
    }
    let longer = "n".repeat(1024);
    t.img(["bitmap", "--add", &img.to_string(), &longer]).fails().quiet().await?;
    t.log(format!("1024 bytes: refused; {} bitmaps", count(t, &img).await?));
    t.sound(&img)?;
    for name in [longest.as_str(), "a b", "ñ"] {
        t.img(["bitmap", "--remove", &img.to_string(), name]).quiet().await?;
    }
    t.log(format!("{} bitmaps", count(t, &img).await?));
    t.sound(&img)?;

    t.section("many");
    for n in 0..12 {
        let line = format!("bitmap --add -g {} {img} many-{n}", 512u64 << (n % 8));
        t.img(line).quiet().await?;
    }
    t.io(&img, ["write -P 1 0 1M", "write -P 2 1023M 1M"]).quiet().await?;
    t.log(format!("{} bitmaps", count(t, &img).await?));
    t.sound(&img)?;
    for n in (0..12).step_by(3) {
        t.img(format!("bitmap --remove {img} many-{n}")).quiet().await?;
    }
    t.log(format!("{} bitmaps", count(t, &img).await?));
    t.verify(&img, &[(1, 0, MIB), (2, 1023 * MIB, MIB)]).await?;
    t.check(&img).await?;
    t.sound(&img)
}
