//! Clusters that are discarded or zeroed are given back and used again, never
//! show the backing file, and never take a snapshot's data with them.
//!
//! group: rw auto quick qcow2 backing zero snapshot
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: compat=0.10 data_file refcount_bits=1

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").without_imgopts().size(SIZE).await?;
    t.write(&base, &[(0xba, 0, SIZE)]).await?;
    let img = t.create(SIZE).backing(&base).await?;
    let length = || std::fs::metadata(img.file()).map(|m| m.len());

    t.section("discarded and written elsewhere: the file does not grow");
    t.write(&img, &[(1, 0, 4 * MIB)]).await?;
    let before = length()?;
    t.io(&img, ["discard 0 4M"]).quiet().await?;
    t.verify(&img, &[(0, 0, 4 * MIB), (0xba, 4 * MIB, 4 * MIB)]).await?;
    t.sound(&img)?;
    t.write(&img, &[(2, 4 * MIB, 4 * MIB)]).await?;
    t.log(format!("it grew: {}", length()? > before + 3 * MIB));
    t.verify(&img, &[(0, 0, 4 * MIB), (2, 4 * MIB, 4 * MIB)]).await?;
    t.sound(&img)?;

    t.section("zeroed with unmap: the same");
    t.io(&img, ["write -z -u 4M 4M"]).quiet().await?;
    t.write(&img, &[(3, 0, 4 * MIB)]).await?;
    t.log(format!("it grew: {}", length()? > before + 3 * MIB));
    t.verify(&img, &[(3, 0, 4 * MIB), (0, 4 * MIB, 4 * MIB)]).await?;

    t.section("zeroed without: the place is kept");
    t.io(&img, ["write -z 0 4M"]).quiet().await?;
    let map = t.map(&img).await?;
    let kept: u64 = map
        .iter()
        .filter(|r| r.get("offset").is_some() && r["depth"] == 0)
        .filter_map(|r| r["length"].as_u64())
        .sum();
    t.log(format!("{kept} bytes keep their place"));
    t.write(&img, &[(4, 0, 4 * MIB)]).await?;
    t.log(format!("it grew: {}", length()? > before + 3 * MIB));
    t.sound(&img)?;

    t.section("a snapshot keeps its data");
    t.img(format!("snapshot -c one {img}")).await?;
    t.io(&img, ["discard 0 2M", "write -z -u 2M 512k", "write -z 2560k 512k"]).quiet().await?;
    t.verify(&img, &[(0, 0, 3 * MIB), (4, 3 * MIB, MIB), (0, 4 * MIB, 4 * MIB)]).await?;
    t.sound(&img)?;
    t.img(format!("snapshot -a one {img}")).await?;
    t.verify(&img, &[(4, 0, 4 * MIB), (0, 4 * MIB, 4 * MIB)]).await?;
    t.img(format!("snapshot -d one {img}")).await?;

    t.section("parts of clusters");
    let cluster = 1u64 << t.peek(&img, "header.cluster_bits")?;
    let odd = cluster / 2;
    t.io(
        &img,
        [
            format!("discard {odd} {cluster}"),
            format!("read -P 4 0 {odd}"),
            format!("read -P 4 {} {odd}", cluster + odd),
        ],
    )
    .quiet()
    .await?;
    t.check(&img).await?;
    t.sound(&img)
}
