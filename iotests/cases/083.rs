//! A safe rebase keeps every byte that is shown, onto backing files that are
//! shorter, longer, different or deeper.
//!
//! group: rw auto quick backing rebase
//! supported_fmt: generic
//! needs: rebase

use iotests::prelude::*;

const SIZE: u64 = 6 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut rng = t.rng();
    // A write into zeroes brings back the backing file: see known-limits.md.
    let zeroes = t.format() != "qed";
    if !zeroes {
        t.case_not_run("zeroes in an overlay that are written over: not for qed")?;
    }
    let plan = Plan { count: 25, longest: 400 * KIB, zeroes, ..Plan::default() };
    let mut bases = Vec::new();
    for (name, size) in [("same", SIZE), ("short", 2 * MIB + 512), ("long", 9 * MIB)] {
        let base = t.image(name).size(size).quiet().await?;
        let mut model = t.disk_model(size);
        t.apply(&base, &mut model, &plan.ops(&mut rng, size)).await?;
        bases.push((base, model));
    }
    let deep = t.image("deep").backing(&bases[0].0).quiet().await?;
    let mut seen = bases[0].1.clone();
    t.apply(&deep, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    bases.push((deep, seen));

    for from in 0..bases.len() {
        for to in [(from + 1) % bases.len(), (from + 3) % bases.len()] {
            let (old, below) = &bases[from];
            let (new, kept) = &bases[to];
            let top = t.image("top").size(SIZE).backing(old).quiet().await?;
            let mut model = DiskModel::new(SIZE);
            for (at, length, value) in below.runs(0, SIZE) {
                model.set(at, length, value);
            }
            let few = Plan { count: 6, ..plan };
            let ops = few.ops(&mut rng, SIZE);
            t.section(format!("from {old} to {new}"));
            t.apply(&top, &mut model, &ops).await?;
            t.img(format!("rebase -b {new} -F IMGFMT {top}")).quiet().await?;
            t.matches(&top, &model).await?;
            t.img(["rebase", "-b", "", &top.to_string()]).quiet().await?;
            t.matches(&top, &model).await?;
            t.matches(new, kept).await?;
            t.check(&top).await?;
        }
    }
    Ok(())
}
