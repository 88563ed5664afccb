//! A long mix of everything a guest can do, over several opens, leaves what the
//! model holds.
//!
//! group: rw auto quick io
//! supported_fmt: generic

use iotests::prelude::*;

const SIZE: u64 = 20 * MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut model = t.disk_model(SIZE);
    let mut rng = t.rng();
    let discards = matches!(t.format(), "raw" | "qcow2" | "parallels" | "luks");
    let plans = [
        Plan { count: 60, align: 64 * KIB, longest: MIB, discards, ..Plan::default() },
        Plan { count: 60, align: 4 * KIB, longest: 300 * KIB, discards, ..Plan::default() },
        Plan { count: 80, align: 512, longest: 70 * KIB, discards, ..Plan::default() },
        Plan { count: 60, align: 1, longest: 5000, ..Plan::default() },
        Plan { count: 60, align: 512, longest: 2 * MIB, discards, ..Plan::default() },
    ];
    for plan in plans {
        t.section(format!("in units of {} up to {} bytes", plan.align, plan.longest));
        let ops = plan.ops(&mut rng, SIZE);
        t.apply(&img, &mut model, &ops).await?;
        t.matches(&img, &model).await?;
        t.check(&img).await?;
    }
    Ok(())
}
