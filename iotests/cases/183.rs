//! Zeroes written over a VMDK image's backing file hide it, with zeroed grains
//! and without; and an overlay notices that its backing file has changed.
//!
//! group: rw auto quick formats zero backing
//! supported_fmt: vmdk
//! supported_proto: file
//! unsupported_imgopts: subformat

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    t.write(&base, &[(1, 0, SIZE)]).await?;
    for zeroed in ["on", "off"] {
        t.section(format!("zeroed_grain={zeroed}"));
        let top = t.image("top").backing(&base).options(format!("zeroed_grain={zeroed}")).await?;
        t.io(
            &top,
            ["write -z 0 64k", "write -z 128k 192k", "write -z 1000k 100k", "write -P 2 192k 512"],
        )
        .await?;
        t.verify(
            &top,
            &[
                (0, 0, 64 * KIB),
                (1, 64 * KIB, 64 * KIB),
                (0, 128 * KIB, 64 * KIB),
                (2, 192 * KIB, 512),
                (0, 192 * KIB + 512, 128 * KIB - 512),
                (1, 320 * KIB, 680 * KIB),
                (0, 1000 * KIB, 100 * KIB),
                (1, 1100 * KIB, SIZE - 1100 * KIB),
            ],
        )
        .await?;
        let zero = t.map(&top).await?.iter().any(|r| r["zero"] == true && r["depth"] == 0);
        t.log(format!("grains are marked as zeroes: {zero}"));
        t.check(&top).await?;
    }

    t.section("a backing file that has changed");
    let top = t.image("top").backing(&base).await?;
    t.verify(&top, &[(1, 0, SIZE)]).await?;
    t.write(&base, &[(9, 0, 512)]).await?;
    let stale = t.io(&top, ["read 0 512"]).fails().quiet().await;
    t.log(format!("the overlay is refused: {}", stale.is_ok()));
    Ok(())
}
