//! Any mix of writes and zeroes in the three images of a chain matches a model
//! of it: copies on write take the surrounding data from the right image.
//!
//! group: rw auto quick backing io
//! supported_fmt: generic
//! needs: backing

use iotests::prelude::*;

const SIZE: u64 = 6 * MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut rng = t.rng();
    // A write into zeroes brings back the backing file: see known-limits.md.
    let zeroes = t.format() != "qed";
    if !zeroes {
        t.case_not_run("zeroes in an overlay that are written over: not for qed")?;
    }
    let plan = Plan { count: 50, longest: 150 * KIB, zeroes, ..Plan::default() };
    let base = t.image("base").size(SIZE).await?;
    let mut low = DiskModel::new(SIZE);
    t.apply(&base, &mut low, &plan.ops(&mut rng, SIZE)).await?;

    let mid = t.image("mid").backing(&base).await?;
    let mut middle = low.clone();
    t.apply(&mid, &mut middle, &plan.ops(&mut rng, SIZE)).await?;

    let top = t.image("top").backing(&mid).await?;
    let mut high = middle.clone();
    for align in [512, 1, 64 * KIB] {
        let plan = Plan { align, ..plan };
        t.apply(&top, &mut high, &plan.ops(&mut rng, SIZE)).await?;
        t.matches(&top, &high).await?;
    }
    t.matches(&mid, &middle).await?;
    t.matches(&base, &low).await?;
    for image in [&base, &mid, &top] {
        t.check(image).await?;
    }
    Ok(())
}
