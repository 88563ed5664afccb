//! Two guest clusters that share a host cluster are found, and once repaired a
//! write to one does not change the other.
//!
//! group: rw auto quick qcow2 damage repair
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file refcount_bits=1

use iotests::prelude::*;

const SIZE: u64 = GIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).without_imgopts().options("cluster_size=64k").await?;
    let k = 64 * KIB;
    t.write(&img, &[(1, 0, k), (2, k, k), (3, 2 * k, k), (4, 512 * MIB, k)]).await?;

    t.section("two entries of one table");
    let entry = t.peek(&img, "l2[0].entry[0]")?;
    t.poke_quietly(&img, "l2[0].entry[1]", entry)?;
    t.check_counts(&img, &[]).await?;
    t.verify(&img, &[(1, 0, k), (1, k, k), (3, 2 * k, k)]).await?;
    t.check_counts(&img, &["-r", "all"]).await?;
    t.check(&img).await?;
    t.sound(&img)?;
    t.write(&img, &[(5, k, 512)]).await?;
    t.verify(&img, &[(1, 0, k), (5, k, 512), (1, k + 512, k - 512), (3, 2 * k, k)]).await?;
    // The other one is alone now, which its flag does not say yet.
    t.check_counts(&img, &["-r", "all"]).await?;
    t.sound(&img)?;

    t.section("two entries of the L1 table");
    let entry = t.peek(&img, "l1[0]")?;
    t.poke_quietly(&img, "l1[1]", entry)?;
    t.check_counts(&img, &[]).await?;
    t.check_counts(&img, &["-r", "all"]).await?;
    t.check(&img).await?;
    t.sound(&img)?;
    t.verify(&img, &[(1, 0, k), (1, 512 * MIB, k), (3, 512 * MIB + 2 * k, k)]).await?;
    t.write(&img, &[(6, 512 * MIB, k)]).await?;
    t.verify(
        &img,
        &[(1, 0, k), (5, k, 512), (3, 2 * k, k), (6, 512 * MIB, k), (5, 512 * MIB + k, 512)],
    )
    .await?;
    t.check_counts_quietly(&img, &["-r", "all"]).await?;
    t.check(&img).await?;
    t.sound(&img)
}
