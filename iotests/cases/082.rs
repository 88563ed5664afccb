//! An overlay of another size than its backing file: what is past either end
//! reads as zeroes, before and after a commit.
//!
//! group: rw auto quick backing commit
//! supported_fmt: qcow2
//! unsupported_imgopts: data_file compat=0.10
//! needs: reopen

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.section("longer than its backing file");
    let base = t.image("base").size(2 * MIB + 512).await?;
    t.write(&base, &[(1, 0, 2 * MIB + 512)]).await?;
    let top = t.image("top").size(6 * MIB).backing(&base).await?;
    t.verify(&top, &[(1, 0, 2 * MIB + 512), (0, 2 * MIB + 512, 4 * MIB - 512)]).await?;
    t.write(&top, &[(2, 2 * MIB + KIB, 512), (3, 6 * MIB - 512, 512)]).await?;
    let all = [
        (1, 0, 2 * MIB + 512),
        (0, 2 * MIB + 512, 512),
        (2, 2 * MIB + KIB, 512),
        (0, 2 * MIB + 3 * 512, 4 * MIB - 4 * 512),
        (3, 6 * MIB - 512, 512),
    ];
    t.verify(&top, &all).await?;
    t.img(format!("commit {top}")).await?;
    t.info(&base).await?;
    t.verify(&base, &all).await?;
    t.check(&base).await?;
    t.check(&top).await?;

    t.section("shorter than its backing file");
    let base = t.image("base").size(6 * MIB).await?;
    t.write(&base, &[(1, 0, 6 * MIB)]).await?;
    let top = t.image("top").size(2 * MIB + 512).backing(&base).await?;
    t.write(&top, &[(2, 2 * MIB, 512)]).await?;
    t.verify(&top, &[(1, 0, 2 * MIB), (2, 2 * MIB, 512)]).await?;

    t.section("grown: what the backing file holds there stays hidden");
    t.img(format!("resize {top} 6M")).await?;
    t.verify(&top, &[(1, 0, 2 * MIB), (2, 2 * MIB, 512), (0, 2 * MIB + 512, 4 * MIB - 512)])
        .await?;
    t.check(&top).await?;

    t.section("a short one committed");
    let top = t.image("top").size(2 * MIB + 512).backing(&base).await?;
    t.write(&top, &[(3, 2 * MIB, 512), (0, 0, 512)]).await?;
    t.img(format!("commit {top}")).await?;
    t.verify(
        &base,
        &[
            (0, 0, 512),
            (1, 512, 2 * MIB - 512),
            (3, 2 * MIB, 512),
            (1, 2 * MIB + 512, 4 * MIB - 512),
        ],
    )
    .await?;
    t.info(&base).await?;
    t.check(&base).await
}
