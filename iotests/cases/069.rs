//! With a backing file for the target, only what differs is copied, and both
//! together show what the source shows.
//!
//! group: rw auto quick convert backing
//! supported_fmt: generic
//! needs: backing
//! unsupported_imgopts: data_file

use iotests::prelude::*;

const SIZE: u64 = 16 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    t.write(&base, &[(1, 0, 6 * MIB)]).await?;
    let src = t.image("src").backing(&base).await?;
    t.write(&src, &[(2, MIB, 64 * KIB), (0, 3 * MIB, 512), (3, 12 * MIB, 128 * KIB)]).await?;
    let shown = [
        (1, 0, MIB),
        (2, MIB, 64 * KIB),
        (0, 3 * MIB, 512),
        (1, 3 * MIB + 512, 3 * MIB - 512),
        (0, 6 * MIB, 6 * MIB),
        (3, 12 * MIB, 128 * KIB),
        (0, 12 * MIB + 128 * KIB, 4 * MIB - 128 * KIB),
    ];

    t.section("an overlay of the same image");
    let thin = t.image("thin").size(SIZE).await?;
    t.img(format!("convert -O IMGFMT -B {base} -F IMGFMT {src} {thin}")).await?;
    t.info(&thin).await?;
    t.verify(&thin, &shown).await?;
    t.same(&thin, &src).await?;
    t.check(&thin).await?;

    t.section("it holds the differences only");
    let own: u64 = t
        .map(&thin)
        .await?
        .iter()
        .filter(|run| run["depth"] == 0)
        .filter_map(|run| run["length"].as_u64())
        .sum();
    // A cluster of two megabytes may be copied for half a kilobyte.
    t.log(format!("some: {}; not all: {}", own >= 128 * KIB, own <= 10 * MIB));

    t.section("flattened");
    let flat = t.image("flat").size(SIZE).await?;
    t.img(format!("convert -O IMGFMT {src} {flat}")).await?;
    t.info(&flat).await?;
    t.verify(&flat, &shown).await?;
    t.same(&flat, &src).await?;
    t.check(&flat).await
}
