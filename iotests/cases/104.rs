//! With subclusters, any sequence of writes, zeroes and discards over a backing
//! file reads as it should, through snapshots and compressed clusters too.
//!
//! group: rw auto qcow2 backing snapshot
//! supported_fmt: qcow2
//! needs: extended_l2

use iotests::prelude::*;

const SIZE: u64 = 6 * MIB + 1536;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut rng = t.rng();
    for cluster in ["16k", "2M"] {
        t.section(format!("clusters of {cluster}"));
        let base = t.image("base").format("raw").size(4 * MIB).quiet().await?;
        t.io(&base, ["write -P 0xbb 0 4M"]).quiet().await?;
        let img = t
            .create(SIZE)
            .without_imgopts()
            .options(format!("extended_l2=on,cluster_size={cluster}"))
            .backing(&base)
            .await?;
        let mut model = t.disk_model(SIZE);
        model.set(0, 4 * MIB, Some(0xbb));
        let plan = Plan { count: 60, longest: 100 * KIB, ..Plan::default() };
        t.apply(&img, &mut model, &plan.ops(&mut rng, SIZE)).await?;
        t.matches(&img, &model).await?;
        t.img(format!("snapshot -c one {img}")).quiet().await?;
        let then = model.clone();
        let discards = Plan { discards: true, ..plan };
        t.apply(&img, &mut model, &discards.ops(&mut rng, SIZE)).await?;
        t.matches(&img, &model).await?;
        t.sound(&img)?;

        t.img(format!("snapshot -a one {img}")).quiet().await?;
        t.matches(&img, &then).await?;
        t.img(format!("snapshot -d one {img}")).quiet().await?;
        t.log("back to the snapshot, and without it");
        t.matches(&img, &then).await?;
        t.sound(&img)?;

        let packed = t.image("packed").without_imgopts().quiet();
        let packed = packed.options("extended_l2=on").size(SIZE).await?;
        t.img(format!("convert -n -c -O qcow2 {img} {packed}")).quiet().await?;
        let mut model = then;
        t.matches(&packed, &model).await?;
        t.apply(&packed, &mut model, &plan.ops(&mut rng, SIZE)).await?;
        t.matches(&packed, &model).await?;
        t.check(&packed).await?;
        t.sound(&packed)?;
    }

    t.section("clusters too small for it");
    t.img("create -f qcow2 -o extended_l2=on,cluster_size=8k TEST_DIR/wrong 1M")
        .fails()
        .quiet()
        .await?;
    t.log("refused");
    Ok(())
}
