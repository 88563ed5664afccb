//! Images of many sizes are created, report their size and format, and read as
//! zeroes.
//!
//! group: rw auto quick create
//! supported_fmt: generic
//! file_size: 5G

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for size in [512, 64 * KIB, MIB + 512, 64 * MIB, 4 * GIB] {
        t.section(format!("{size} bytes"));
        let img = t.create(size).await?;
        t.info(&img).await?;
        t.check(&img).await?;
        let last = size.min(64 * KIB);
        let model = t.disk_model(size);
        let mut ends = model.reads(0, last);
        ends.extend(model.reads(size - last, last));
        t.io(&img, ends).quiet().await?;
    }

    t.section("a size with a suffix");
    let img = t.create("1.5M").await?;
    t.info(&img).await?;

    t.section("no size");
    t.img("create -f IMGFMT TEST_DIR/none.IMGFMT").fails().quiet().await?;
    t.log(format!("a file was made: {}", t.path(format!("none.{}", t.format())).exists()));
    Ok(())
}
