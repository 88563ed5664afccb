//! A disk that was resized goes back to the size of the snapshot it is set to.
//!
//! group: rw auto quick qcow2 snapshot resize
//! supported_fmt: qcow2
//! unsupported_imgopts: compat=0.10 data_file refcount_bits=1
//! needs: resize

use iotests::prelude::*;

const SMALL: u64 = 2 * MIB + 512;
const LARGE: u64 = 5 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut rng = t.rng();
    let plan = Plan { count: 25, ..Plan::default() };
    let img = t.create(SMALL).await?;
    let mut small = t.disk_model(SMALL);
    t.apply(&img, &mut small, &plan.ops(&mut rng, SMALL)).await?;
    t.img(format!("snapshot -c small {img}")).await?;

    t.section("larger");
    t.img(format!("resize {img} {LARGE}")).await?;
    let mut large = small.clone();
    large.resize(LARGE);
    t.matches(&img, &large).await?;
    t.apply(&img, &mut large, &plan.ops(&mut rng, LARGE)).await?;
    t.img(format!("snapshot -c large {img}")).await?;
    t.sound(&img)?;

    t.section("to the small one and back");
    for _ in 0..2 {
        t.img(format!("snapshot -a small {img}")).await?;
        t.matches(&img, &small).await?;
        t.sound(&img)?;
        t.img(format!("snapshot -a large {img}")).await?;
        t.matches(&img, &large).await?;
        t.sound(&img)?;
    }

    t.section("the disk shrinks, and its snapshots do not");
    // At a cluster's edge: within one, old data come back (known-limits.md).
    t.img(format!("resize --shrink {img} 4M")).await?;
    let mut less = large.clone();
    less.resize(4 * MIB);
    t.matches(&img, &less).await?;
    t.sound(&img)?;
    t.img(format!("resize {img} 6M")).await?;
    less.resize(6 * MIB);
    t.matches(&img, &less).await?;
    for (name, then) in [("large", &large), ("small", &small)] {
        t.img(format!("snapshot -a {name} {img}")).await?;
        t.matches(&img, then).await?;
    }
    for name in ["large", "small"] {
        t.img(format!("snapshot -d {name} {img}")).await?;
    }
    t.matches(&img, &small).await?;
    t.check(&img).await?;
    t.sound(&img)
}
