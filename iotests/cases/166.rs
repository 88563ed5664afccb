//! After random damage to the refcounts of an image, repair makes it
//! consistent, and neither the disk nor its snapshots change by a byte.
//!
//! group: rw auto qcow2 damage repair snapshot
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file refcount_bits=1 refcount_bits=2

use iotests::prelude::*;
use rand::RngExt as _;

const SIZE: u64 = 2 * MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut rng = t.rng();
    for round in 0..8u32 {
        let img = t.create(SIZE).quiet().await?;
        let plan = Plan { count: 25, ..Plan::default() };
        let mut model = t.disk_model(SIZE);
        t.apply(&img, &mut model, &plan.ops(&mut rng, SIZE)).await?;
        t.img(format!("snapshot -c one {img}")).quiet().await?;
        let then = model.clone();
        t.apply(&img, &mut model, &plan.ops(&mut rng, SIZE)).await?;
        let length = std::fs::metadata(img.file())?.len();
        let pokes = 1 << round.min(5);
        for _ in 0..pokes {
            let place = rng.random_range(0..length);
            let count = rng.random_range(0..6);
            t.poke_quietly(&img, &t.refcount_path(&img, place)?, count)?;
        }
        let all = t.check_counts_quietly(&img, &["-r", "all"]).await?;
        ensure!(
            all.status == 0 && all.corruptions + all.leaks + all.check_errors == 0,
            "round {round}: {all:?}"
        );
        t.log(format!("round {round}: {pokes} refcounts changed and repaired"));
        t.sound(&img)?;
        t.matches(&img, &model).await?;
        t.img(format!("snapshot -a one {img}")).quiet().await?;
        t.matches(&img, &then).await?;
        t.img(format!("snapshot -d one {img}")).quiet().await?;
        t.check(&img).await?;
        t.sound(&img)?;
    }
    Ok(())
}
