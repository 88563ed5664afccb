//! `qemu-img compare` finds each difference, says where the first one is, and
//! tells it by its exit status.
//!
//! group: rw auto quick img
//! supported_fmt: generic

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let other = t.image("other").format("raw").size(SIZE).quiet().await?;
    let data = [(0, 0, SIZE), (0x41, 64 * KIB, MIB), (0x42, 3 * MIB + 512, 512)];
    t.write(&img, &data).await?;
    t.write(&other, &data[1..]).await?;

    t.section("the same data");
    t.img(format!("compare {img} {other}")).await?;
    t.img(format!("compare {other} {img}")).await?;

    for (what, at) in [("first", 0), ("middle", MIB + 512), ("last", SIZE - 512)] {
        t.section(format!("the {what} sector differs"));
        t.io(&other, [format!("write -P 0x99 {at} 512")]).quiet().await?;
        t.img(format!("compare {img} {other}")).status(1).await?;
        t.img(format!("compare -q {img} {other}")).status(1).await?;
        let was = if at == MIB + 512 { 0x41 } else { 0 };
        t.io(&other, [format!("write -P {was} {at} 512")]).quiet().await?;
    }
    t.img(format!("compare {img} {other}")).await?;

    t.section("a longer image, zeroes at its end");
    let long = t.image("long").format("raw").size(SIZE + MIB).quiet().await?;
    t.write(&long, &data[1..]).await?;
    t.img(format!("compare {img} {long}")).await?;
    t.img(format!("compare -s {img} {long}")).status(1).await?;

    t.section("a longer image, data at its end");
    t.io(&long, [format!("write -P 7 {} 512", SIZE + 64 * KIB)]).quiet().await?;
    t.img(format!("compare {img} {long}")).status(1).await?;
    t.img(format!("compare {long} {img}")).status(1).await?;

    t.section("no image");
    t.img(format!("compare {img} TEST_DIR/none")).status(2).quiet().await?;
    t.img(format!("compare TEST_DIR/none {img}")).status(2).quiet().await?;
    t.img(format!("compare {img}")).fails().quiet().await?;
    Ok(())
}
