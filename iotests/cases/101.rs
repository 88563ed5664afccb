//! Every width of refcounts counts right up to its greatest value, and one more
//! reference is refused without harm.
//!
//! group: rw auto quick qcow2 snapshot
//! supported_fmt: qcow2

use iotests::prelude::*;

const SIZE: u64 = 2 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for bits in [1, 2, 4, 8, 16, 32, 64u64] {
        t.section(format!("{bits} bits"));
        let img = t.create(SIZE).without_imgopts().options(format!("refcount_bits={bits}")).await?;
        let output = t.info_json(&img).await?["format-specific"]["data"]["refcount-bits"].as_u64();
        ensure!(output == Some(bits), "info reports refcount-bits {output:?}");
        let mut model = t.disk_model(SIZE);
        let ops = Plan { count: 30, ..Plan::default() }.ops(&mut t.rng(), SIZE);
        t.apply(&img, &mut model, &ops).await?;
        t.matches(&img, &model).await?;
        t.sound(&img)?;

        // The active disk is one reference, each snapshot one more.
        let room = if bits < 4 { (1u64 << bits) - 2 } else { 2 };
        for n in 0..room {
            t.img(format!("snapshot -c s{n} {img}")).quiet().await?;
        }
        t.log(format!("{room} snapshots"));
        if bits < 4 {
            t.img(format!("snapshot -c more {img}")).fails().quiet().await?;
            // A refused snapshot may leave its table behind, as a leak.
            let left = t.check_counts_quietly(&img, &["-r", "leaks"]).await?;
            ensure!(left.corruptions + left.corruptions_fixed == 0, "{left:?}");
            t.log("one more is refused");
        }
        t.matches(&img, &model).await?;
        let listed = t.info_json(&img).await?["snapshots"].as_array().map_or(0, Vec::len);
        t.log(format!("{listed} snapshots are listed"));
        t.check(&img).await?;
        for n in 0..room {
            t.img(format!("snapshot -d s{n} {img}")).quiet().await?;
        }
        t.matches(&img, &model).await?;
        t.check(&img).await?;
        t.sound(&img)?;
    }

    t.section("invalid widths");
    for wrong in ["0", "3", "128"] {
        t.img(format!("create -f qcow2 -o refcount_bits={wrong} TEST_DIR/wrong 1M"))
            .fails()
            .quiet()
            .await?;
        t.log(format!("{wrong}: refused"));
    }
    Ok(())
}
