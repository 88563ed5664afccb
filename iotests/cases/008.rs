//! A check finds nothing in a good image, and reports where the format has
//! none.
//!
//! group: rw auto quick check
//! supported_fmt: generic

use iotests::prelude::*;

const SIZE: u64 = 64 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.check(&img).await?;

    t.section("after much was written");
    let mut model = t.disk_model(SIZE);
    let plan = Plan { count: 40, longest: 128 * KIB, align: 4096, ..Plan::default() };
    let mut rng = t.rng();
    for _ in 0..3 {
        t.apply(&img, &mut model, &plan.ops(&mut rng, SIZE)).await?;
        t.check(&img).await?;
    }
    t.matches(&img, &model).await?;

    t.section("no image at all");
    t.img("check -f IMGFMT TEST_DIR/missing").fails().quiet().await?;
    std::fs::write(t.path("text"), "this is no image\n".repeat(1000))?;
    let text = t.img("check -f IMGFMT TEST_DIR/text").fails().quiet().await;
    t.log(format!("a text is refused: {}", text.is_ok()));
    std::fs::remove_file(t.path("text"))?;
    Ok(())
}
