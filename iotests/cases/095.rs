//! Overlays of version 2, which has no zero clusters, are rebased: what was zero stays zero,
//! whatever the new backing file has there.
//!
//! group: rw auto quick qcow2 backing rebase
//! supported_fmt: qcow2
//! unsupported_imgopts: data_file

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for (round, more) in ["", "-c"].into_iter().enumerate() {
        t.section(format!("rebase {more}").trim_end());
        let make = |name: &str| t.image(name).without_imgopts().options("compat=0.10").quiet();
        let old = make("old").size(SIZE).await?;
        let new = make("new").size(SIZE).await?;
        let short = make("short").size(MIB).await?;
        let mut model = t.disk_model(SIZE);
        let plan = Plan { count: 40, discards: false, ..Plan::default() };
        t.apply(&old, &mut model, &plan.ops(&mut t.rng(), SIZE)).await?;
        t.write(&new, &[(0x91 + u8::try_from(round)?, 0, SIZE)]).await?;
        t.write(&short, &[(0xa1, 0, MIB)]).await?;
        let top = make("top").backing(&old).await?;
        t.apply(&top, &mut model, &plan.ops(&mut t.rng(), SIZE)).await?;
        for base in [&new, &short, &old] {
            t.img(format!("rebase {more} -b {base} -F IMGFMT {top}")).await?;
            t.matches(&top, &model).await?;
            t.check(&top).await?;
            t.sound(&top)?;
            ensure!(t.peek(&top, "header.version")? == 2, "not version 2 any more");
        }
        let onto_nothing = ["rebase", "-b", "", &top.to_string()];
        t.img(onto_nothing).await?;
        t.matches(&top, &model).await?;
        t.check(&top).await?;
        t.sound(&top)?;
    }
    Ok(())
}
