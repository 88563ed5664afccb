//! Refcounts that are too high are leaks or break the copied flag, and repair
//! corrects both.
//!
//! group: rw auto quick qcow2 damage repair
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file refcount_bits=1

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for (what, repair) in [
        ("data", "all"),
        ("data", "leaks"),
        ("L2 table", "all"),
        ("L1 table", "leaks"),
        ("header", "all"),
    ] {
        t.section(format!("{what}, then check -r {repair}"));
        let img = t.create(SIZE).quiet().await?;
        t.io(&img, ["write -P 1 0 1M", "write -P 2 3M 64k"]).quiet().await?;
        let place = match what {
            "data" => t.peek(&img, "l2[0].entry[0].offset")?,
            "L2 table" => t.peek(&img, "l1[0].offset")?,
            "L1 table" => t.peek(&img, "header.l1_table_offset")?,
            _ => 0,
        };
        t.poke_quietly(&img, &t.refcount_path(&img, place)?, 3)?;
        t.check_counts(&img, &[]).await?;
        t.check_counts(&img, &["-r", repair]).await?;
        t.check_counts(&img, &["-r", repair]).await?;
        t.check(&img).await?;
        t.sound(&img)?;
        t.verify(&img, &[(1, 0, MIB), (0, MIB, 2 * MIB), (2, 3 * MIB, 64 * KIB)]).await?;
    }

    t.section("a copied flag that is missing, and one too many");
    let img = t.create(SIZE).quiet().await?;
    t.io(&img, ["write -P 1 0 1M"]).quiet().await?;
    t.poke(&img, "l2[0].entry[0].copied", 0)?;
    t.poke(&img, "l1[0].copied", 0)?;
    t.check_counts(&img, &[]).await?;
    t.check_counts(&img, &["-r", "leaks"]).await?;
    t.check_counts(&img, &["-r", "all"]).await?;
    t.sound(&img)?;
    t.img(format!("snapshot -c one {img}")).quiet().await?;
    t.poke(&img, "l2[0].entry[0].copied", 1)?;
    t.poke(&img, "l1[0].copied", 1)?;
    t.check_counts(&img, &[]).await?;
    t.check_counts(&img, &["-r", "all"]).await?;
    t.sound(&img)?;
    t.io(&img, ["write -P 5 0 1M"]).quiet().await?;
    t.img(format!("snapshot -a one {img}")).quiet().await?;
    t.verify(&img, &[(1, 0, MIB), (0, MIB, MIB)]).await?;
    t.check(&img).await
}
