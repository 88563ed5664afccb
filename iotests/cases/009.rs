//! A resized image keeps its data, and shows zeroes where it has grown.
//!
//! group: rw auto quick resize
//! supported_fmt: generic
//! needs: resize shrinking
//! unsupported_imgopts: data_file

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut model = t.disk_model(SIZE);
    let plan = Plan { count: 20, align: 4096, ..Plan::default() };
    let mut rng = t.rng();
    t.apply(&img, &mut model, &plan.ops(&mut rng, SIZE)).await?;

    for size in [SIZE + 512, 6 * MIB, 64 * MIB] {
        t.section(format!("grow to {size}"));
        t.img(format!("resize {img} {size}")).await?;
        model.resize(size);
        t.matches(&img, &model).await?;
        t.apply(&img, &mut model, &plan.ops(&mut rng, size)).await?;
        t.check(&img).await?;
    }
    t.matches(&img, &model).await?;

    t.section("shrink only when asked to");
    t.img(format!("resize {img} 2M")).fails().quiet().await?;
    t.matches(&img, &model).await?;
    if t.format() == "qed" {
        // QED images can grow only.
        t.case_not_run("shrinking: not for qed")?;
    } else {
        t.img(format!("resize --shrink {img} 2M")).quiet().await?;
        model.resize(2 * MIB);
    }
    t.matches(&img, &model).await?;
    t.check(&img).await
}
