//! Images of version 2 refuse what only version 3 has, and lack nothing else.
//!
//! group: rw auto quick qcow2 create
//! supported_fmt: qcow2

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.section("what version 2 does not have");
    for option in [
        "lazy_refcounts=on",
        "refcount_bits=8",
        "compression_type=zstd",
        "extended_l2=on",
        "data_file=TEST_DIR/data",
    ] {
        let line = format!("create -f qcow2 -o compat=0.10,{option} TEST_DIR/old 1M");
        let refused = t.img(line).quiet().any_status().await?.status != Some(0);
        t.log(format!("{option}: {}", if refused { "refused" } else { "taken" }));
    }

    t.section("what it has");
    let base = t.image("base").without_imgopts().options("compat=v2").size(SIZE).await?;
    t.write(&base, &[(1, 0, SIZE)]).await?;
    let img = t.create(SIZE).without_imgopts().options("compat=0.10").backing(&base).await?;
    ensure!(t.peek(&img, "header.version")? == 2, "not version 2");
    let mut model = t.disk_model(SIZE);
    model.set(0, SIZE, Some(1));
    let plan = Plan { count: 60, discards: false, ..Plan::default() };
    t.apply(&img, &mut model, &plan.ops(&mut t.rng(), SIZE)).await?;
    t.matches(&img, &model).await?;

    t.section("zeroes over a backing file, which it cannot represent");
    let zero = Op::Zero { offset: MIB, length: MIB, unmap: true };
    t.apply(&img, &mut model, &[zero]).await?;
    t.matches(&img, &model).await?;
    t.sound(&img)?;

    t.section("snapshots");
    t.img(format!("snapshot -c one {img}")).await?;
    let then = model.clone();
    t.apply(&img, &mut model, &plan.ops(&mut t.rng(), SIZE)).await?;
    t.img(format!("snapshot -a one {img}")).await?;
    t.matches(&img, &then).await?;
    t.img(format!("bitmap --add {img} b0")).fails().await?;
    t.img(format!("resize {img} 8M")).fails().await?;
    t.img(format!("snapshot -d one {img}")).await?;
    t.matches(&img, &then).await?;
    t.check(&img).await?;
    t.sound(&img)
}
