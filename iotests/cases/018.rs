//! `qemu-img dd` copies the blocks it is asked for, no more and no less.
//!
//! group: rw auto quick img
//! supported_fmt: generic

use iotests::prelude::*;

const SIZE: u64 = 2 * MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut model = t.disk_model(SIZE);
    let plan = Plan { count: 40, longest: 100 * KIB, ..Plan::default() };
    let fill = Op::write(0xdd, 0, SIZE);
    t.apply(&img, &mut model, &[fill]).await?;
    t.apply(&img, &mut model, &plan.ops(&mut t.rng(), SIZE)).await?;

    let cases = [
        ("", 0, SIZE),
        ("bs=1M count=1", 0, MIB),
        // Not both skip and count: see known-limits.md.
        ("bs=64k skip=3", 3 * 64 * KIB, SIZE - 3 * 64 * KIB),
        ("bs=4k skip=511", 511 * 4 * KIB, SIZE - 511 * 4 * KIB),
        ("bs=512 skip=4096", 4096 * 512, 512),
        ("bs=1000 count=7", 0, 7000),
        ("bs=100k count=1000", 0, SIZE),
        ("count=0", 0, 0),
        ("bs=1M skip=3", SIZE, 0),
    ];
    for (operands, from, length) in cases {
        t.section(format!("dd {operands}"));
        let out = t.image("out").format("raw").size(0).quiet().await?;
        t.img(format!("dd -O raw {operands} if={img} of={out}")).any_status().quiet().await?;
        let got = t.virtual_size(&out).await?;
        // A length in whole sectors is what an image can have.
        t.log(format!("{got} bytes, and {} are right", length.next_multiple_of(512)));
        let reads: Vec<String> = model
            .runs(from, length)
            .filter_map(|(at, len, value)| Some(format!("read -P {} {} {len}", value?, at - from)))
            .collect();
        t.io(&out, reads).quiet().await?;
    }

    t.section("invalid operands");
    for operands in ["bs=0", "bs=x", "count=-1", "skip=z", "conv=sync", "bs=3E"] {
        t.img(format!("dd -O raw {operands} if={img} of=TEST_DIR/none")).fails().quiet().await?;
        t.log(format!("{operands}: refused"));
    }
    t.img("dd -O raw bs=512 of=TEST_DIR/none").fails().quiet().await?;
    t.img(format!("dd -O raw bs=512 if={img}")).fails().quiet().await?;
    t.log(format!("a file was made: {}", t.path("none").exists()));
    t.matches(&img, &model).await
}
