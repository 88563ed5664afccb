//! amend brings an image from any version and width of refcounts to any other, and
//! its data and snapshots come along.
//!
//! group: rw auto qcow2 snapshot
//! supported_fmt: qcow2
//! needs: qemu-img:amend

use iotests::prelude::*;

const SIZE: u64 = 2 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).without_imgopts().options("cluster_size=4k").await?;
    let mut rng = t.rng();
    let mut model = t.disk_model(SIZE);
    let plan = Plan { count: 20, ..Plan::default() };
    t.apply(&img, &mut model, &plan.ops(&mut rng, SIZE)).await?;

    t.section("widths");
    for bits in [1, 64, 2, 32, 8, 1, 16] {
        t.img(format!("amend -o refcount_bits={bits} {img}")).await?;
        ensure!(
            t.peek(&img, "header.refcount_order")? == u64::from((bits as u32).trailing_zeros()),
            "not {bits} bits"
        );
        t.apply(&img, &mut model, &plan.ops(&mut rng, SIZE)).await?;
        t.matches(&img, &model).await?;
        t.sound(&img)?;
    }

    t.section("versions");
    for (compat, version) in [("0.10", 2), ("1.1", 3), ("v2", 2), ("v3", 3)] {
        t.img(format!("amend -o compat={compat} {img}")).await?;
        ensure!(t.peek(&img, "header.version")? == version, "not version {version}");
        t.matches(&img, &model).await?;
        t.apply(&img, &mut model, &plan.ops(&mut rng, SIZE)).await?;
        t.matches(&img, &model).await?;
        t.sound(&img)?;
    }

    t.section("references that do not fit");
    t.img(format!("snapshot -c one {img}")).await?;
    let then = model.clone();
    // Zeroes over what a snapshot shares do not survive version 2: known-limits.md.
    let plan = Plan { zeroes: false, ..plan };
    t.img(format!("amend -o refcount_bits=1 {img}")).fails().quiet().await?;
    t.log(format!("refcount order {}", t.peek(&img, "header.refcount_order")?));
    t.matches(&img, &model).await?;
    t.check(&img).await?;
    t.img(format!("amend -o refcount_bits=2 {img}")).await?;
    t.apply(&img, &mut model, &plan.ops(&mut rng, SIZE)).await?;
    t.sound(&img)?;

    t.section("what does not go together");
    for options in [
        "compat=0.10",
        "compat=0.10,refcount_bits=16,lazy_refcounts=on",
        "cluster_size=64k",
        "extended_l2=on",
        "preallocation=metadata",
        "refcount_bits=3",
        "nothing=1",
    ] {
        let status = t.img(format!("amend -o {options} {img}")).quiet().any_status().await?.status;
        t.log(format!("{options}: {}", if status == Some(0) { "done" } else { "refused" }));
    }
    t.img(format!("amend -o compat=0.10,refcount_bits=16 {img}")).quiet().any_status().await?;
    t.log(format!("version {}", t.peek(&img, "header.version")?));
    t.matches(&img, &model).await?;
    t.img(format!("snapshot -a one {img}")).await?;
    t.matches(&img, &then).await?;
    t.check(&img).await?;
    t.sound(&img)
}
