//! Refcounts that are too low, of data or of any table, are found and repaired, and
//! the data stay.
//!
//! group: rw auto quick qcow2 damage repair
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for what in [
        "data",
        "L2 table",
        "L1 table",
        "refcount block",
        "refcount table",
        "header",
        "two at once",
    ] {
        t.section(what);
        let img = t.create(SIZE).quiet().await?;
        t.io(&img, ["write -P 1 0 1M", "write -P 2 3M 64k"]).quiet().await?;
        let offset = |path: &str| t.peek(&img, path);
        let places = match what {
            "data" => vec![offset("l2[0].entry[0].offset")?],
            "L2 table" => vec![offset("l1[0].offset")?],
            "L1 table" => vec![offset("header.l1_table_offset")?],
            "refcount block" => vec![offset("refcount_table[0]")?],
            "refcount table" => vec![offset("header.refcount_table_offset")?],
            "header" => vec![0],
            _ => vec![offset("l2[0].entry[0].offset")?, offset("l1[0].offset")?],
        };
        for place in places {
            t.poke_quietly(&img, &t.refcount_path(&img, place)?, 0)?;
        }
        t.io(&img, ["read -P 1 0 1M", "read -P 2 3M 64k"]).options(["-r"]).quiet().await?;
        let found = t.check_counts_quietly(&img, &[]).await?;
        t.log(format!(
            "check: corruptions {}, exit status {}",
            found.corruptions > 0,
            found.status
        ));
        let leaks = t.check_counts_quietly(&img, &["-r", "leaks"]).await?;
        t.log(format!("check -r leaks: exit status {}", leaks.status));
        let all = t.check_counts_quietly(&img, &["-r", "all"]).await?;
        t.log(format!(
            "check -r all: fixed {}, left {}, exit status {}",
            all.corruptions_fixed > 0,
            all.corruptions + all.leaks,
            all.status
        ));
        t.check(&img).await?;
        t.sound(&img)?;
        t.io(&img, ["write -P 3 1M 1M"]).quiet().await?;
        t.verify(&img, &[(1, 0, MIB), (3, MIB, MIB), (0, 2 * MIB, MIB), (2, 3 * MIB, 64 * KIB)])
            .await?;
        t.sound(&img)?;
    }
    Ok(())
}
