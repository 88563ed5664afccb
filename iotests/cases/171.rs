//! A refcount too low for a cluster that a snapshot shares is repaired before the
//! disk and the snapshot write over each other.
//!
//! group: rw auto quick qcow2 damage repair snapshot
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file refcount_bits=1

use iotests::prelude::*;

const SIZE: u64 = 2 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for count in [0, 1] {
        for what in ["data", "L2 table"] {
            t.section(format!("{what}, refcount {count}"));
            let img = t.create(SIZE).quiet().await?;
            t.io(&img, ["write -P 1 0 1M"]).quiet().await?;
            t.img(format!("snapshot -c one {img}")).quiet().await?;
            let place = if what == "data" {
                t.peek(&img, "l2[0].entry[0].offset")?
            } else {
                t.peek(&img, "l1[0].offset")?
            };
            t.poke_quietly(&img, &t.refcount_path(&img, place)?, count)?;
            let found = t.check_counts_quietly(&img, &[]).await?;
            t.log(format!("check: exit status {}", found.status));
            let all = t.check_counts_quietly(&img, &["-r", "all"]).await?;
            t.log(format!("check -r all: exit status {}", all.status));
            t.sound(&img)?;
            t.write(&img, &[(2, 0, 512 * KIB)]).await?;
            t.verify(&img, &[(2, 0, 512 * KIB), (1, 512 * KIB, 512 * KIB)]).await?;
            t.img(format!("snapshot -a one {img}")).quiet().await?;
            t.verify(&img, &[(1, 0, MIB), (0, MIB, MIB)]).await?;
            t.img(format!("snapshot -d one {img}")).quiet().await?;
            t.check(&img).await?;
            t.sound(&img)?;
        }
    }
    Ok(())
}
