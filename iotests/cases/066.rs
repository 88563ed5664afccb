//! Converting in any order, with any number of requests in flight, gives the
//! same image.
//!
//! group: rw auto quick convert
//! supported_fmt: generic

use iotests::prelude::*;

const SIZE: u64 = 10 * MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut model = t.disk_model(SIZE);
    let plan = Plan { count: 70, longest: 300 * KIB, ..Plan::default() };
    let mut ops = plan.ops(&mut t.rng(), SIZE);
    // Without the cache QEMU reads the first block to learn how to align requests, and
    // guesses 4 KiB where it is a hole: more than this size is a multiple of.
    ops.push(Op::write(0x33, 0, 4 * KIB));
    t.apply(&img, &mut model, &ops).await?;

    let back = t.image("back").size(SIZE).quiet().await?;
    for options in
        ["-m 1", "-m 16", "-W", "-W -m 1", "-W -m 16", "-W -m 16 -S 0", "-C -m 4", "-r 1G -m 8"]
    {
        t.section(options);
        let flat = t.image("flat").format("raw").size(0).quiet().await?;
        t.img(format!("convert {options} -O raw {img} {flat}")).await?;
        t.matches(&flat, &model).await?;
        t.io(&back, [format!("write -P 0xee 0 {SIZE}")]).quiet().await?;
        // An image with data in it: neither of these may trust in zeroes.
        let both = options.replace("-C ", "");
        t.img(format!("convert -n {both} -O IMGFMT {flat} {back}")).quiet().await?;
        t.same(&back, &img).await?;
        t.check(&back).await?;
    }

    t.section("invalid arguments");
    for options in ["-m 0", "-m 17", "-m x", "-r x", "-C -c", "-C -S 4k"] {
        t.img(format!("convert {options} -O IMGFMT {img} TEST_DIR/none")).fails().quiet().await?;
        t.log(format!("{options}: refused"));
    }
    t.log(format!("a file was made: {}", t.path("none").exists()));
    Ok(())
}
