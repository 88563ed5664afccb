//! Internal snapshots keep what was there when they were made, through writes,
//! applying and deleting.
//!
//! group: rw auto quick snapshot
//! supported_fmt: generic
//! needs: snapshots
//! unsupported_imgopts: refcount_bits=1 data_file

use iotests::prelude::*;

const SIZE: u64 = 16 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut now = t.disk_model(SIZE);
    let mut rng = t.rng();
    let plan = Plan { count: 30, longest: MIB, ..Plan::default() };

    t.section("one snapshot after another");
    let mut kept = Vec::new();
    for name in ["one", "two", "three"] {
        t.apply(&img, &mut now, &plan.ops(&mut rng, SIZE)).await?;
        t.img(format!("snapshot -c {name} {img}")).await?;
        kept.push((name, now.clone()));
    }
    t.apply(&img, &mut now, &plan.ops(&mut rng, SIZE)).await?;
    t.info(&img).await?;
    t.check(&img).await?;
    t.matches(&img, &now).await?;

    t.section("each is read as it was");
    for (name, then) in &kept {
        let flat = t.image("flat").format("raw").size(0).quiet().await?;
        t.img(format!("convert -l snapshot.name={name} -O raw {img} {flat}")).await?;
        t.matches(&flat, then).await?;
    }

    t.section("back to the second");
    t.img(format!("snapshot -a two {img}")).await?;
    now = kept[1].1.clone();
    t.matches(&img, &now).await?;
    t.apply(&img, &mut now, &plan.ops(&mut rng, SIZE)).await?;
    t.check(&img).await?;

    t.section("without the first");
    t.img(format!("snapshot -d one {img}")).await?;
    t.img(format!("snapshot -d one {img}")).fails().await?;
    t.info(&img).await?;
    t.matches(&img, &now).await?;
    t.img(format!("snapshot -a three {img}")).await?;
    t.matches(&img, &kept[2].1).await?;
    t.check(&img).await
}
