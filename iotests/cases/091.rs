//! Copy-on-read brings what is read into the overlay, which can then do without
//! its backing file there.
//!
//! group: rw auto quick backing rebase
//! supported_fmt: generic
//! needs: rebase driver:copy-on-read

use iotests::prelude::*;

const SIZE: u64 = 6 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    let mut model = DiskModel::new(SIZE);
    let plan = Plan { count: 40, longest: 300 * KIB, ..Plan::default() };
    t.apply(&base, &mut model, &plan.ops(&mut t.rng(), SIZE)).await?;
    let below = model.clone();
    let top = t.image("top").backing(&base).await?;
    let own = [
        Op::write(0xab, MIB + 512, KIB),
        Op::Zero { offset: 3 * MIB - 512, length: 128 * KIB, unmap: true },
    ];
    t.apply(&top, &mut model, &own).await?;

    t.section("read in part, with odd ends");
    t.io(&top, model.reads(2 * MIB + 1536, MIB + 7)).options(["-C"]).quiet().await?;
    t.matches(&top, &model).await?;
    t.check(&top).await?;

    // A write into zeroes brings back the backing file: see known-limits.md.
    let zeroes = t.format() != "qed";
    if !zeroes {
        t.case_not_run("zeroes in an overlay that are written over: not for qed")?;
    }
    t.section("read and written in turns");
    let ops = Plan { count: 20, zeroes, ..plan }.ops(&mut t.rng(), SIZE);
    t.io(&top, model.commands(&ops)).options(["-C"]).quiet().await?;
    t.matches(&top, &model).await?;

    t.section("read whole, and without its backing file");
    t.io(&top, ["read 0 6M"]).options(["-C"]).quiet().await?;
    t.img(["rebase", "-u", "-b", "", &top.to_string()]).await?;
    t.matches(&top, &model).await?;
    t.matches(&base, &below).await?;
    t.check(&top).await
}
