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
    let mut shadow = t.shadow(SIZE);
    let plan = Plan {
        count: 20,
        align: 4096,
        ..Plan::default()
    };
    let mut rng = t.rng();
    t.apply(&img, &mut shadow, &plan.ops(&mut rng, SIZE))
        .await?;

    for size in [SIZE + 512, 6 * MIB, 64 * MIB] {
        t.section(format!("grow to {size}"));
        t.img(format!("resize {img} {size}")).await?;
        shadow.resize(size);
        t.matches(&img, &shadow).await?;
        t.apply(&img, &mut shadow, &plan.ops(&mut rng, size))
            .await?;
        t.check(&img).await?;
    }
    t.matches(&img, &shadow).await?;

    t.section("shrink only when asked to");
    t.img(format!("resize {img} 2M")).fails().quiet().await?;
    t.matches(&img, &shadow).await?;
    if t.format() == "qed" {
        // QED images can grow only.
        t.case_not_run("shrinking: not for qed")?;
    } else {
        t.img(format!("resize --shrink {img} 2M")).quiet().await?;
        shadow.resize(2 * MIB);
    }
    t.matches(&img, &shadow).await?;
    t.check(&img).await
}
