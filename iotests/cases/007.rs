//! Converting an image keeps its data: to raw and back, sparse or not, onto an
//! image that is there already.
//!
//! group: rw auto quick convert
//! supported_fmt: generic

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut model = t.disk_model(SIZE);
    let ops = Plan { count: 60, ..Plan::default() }.ops(&mut t.rng(), SIZE);
    t.apply(&img, &mut model, &ops).await?;

    t.section("to raw");
    let flat = t.image("flat").format("raw").size(0).quiet().await?;
    t.img(format!("convert -O raw {img} {flat}")).await?;
    t.matches(&flat, &model).await?;
    t.same(&img, &flat).await?;

    t.section("back, onto an image that is there");
    let back = t.image("back").size(SIZE).await?;
    t.img(format!("convert -n -O IMGFMT {flat} {back}")).await?;
    t.matches(&back, &model).await?;
    t.same(&back, &img).await?;
    t.check(&back).await?;

    t.section("out of order, every zero written");
    let full = t.image("full").format("raw").size(0).quiet().await?;
    t.img(format!("convert -S 0 -W -m 4 -O raw {img} {full}")).await?;
    t.same(&img, &full).await?;

    t.section("a difference is found");
    t.io(&full, [format!("write -P 0xee {} 512", SIZE - 512)]).quiet().await?;
    t.img(format!("compare {img} {full}")).status(1).await?;
    Ok(())
}
