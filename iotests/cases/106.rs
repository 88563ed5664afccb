//! Images compressed with zlib and zstd hold the same data, report their
//! compression type, and convert into each other.
//!
//! group: rw auto qcow2 convert
//! supported_fmt: qcow2
//! supported_aio: threads native
//! needs: zstd

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let plain = t.image("plain").without_imgopts().size(SIZE).await?;
    let mut model = t.disk_model(SIZE);
    let ops = Plan { count: 50, ..Plan::default() }.ops(&mut t.rng(), SIZE);
    t.apply(&plain, &mut model, &ops).await?;
    let mut made = Vec::new();
    for (kind, cluster) in [("zlib", "64k"), ("zstd", "64k"), ("zlib", "4k"), ("zstd", "2M")] {
        t.section(format!("{kind}, clusters of {cluster}"));
        let img = t
            .image(&format!("{kind}-{cluster}"))
            .size(SIZE)
            .without_imgopts()
            .options(format!("compression_type={kind},cluster_size={cluster}"))
            .await?;
        t.img(format!("convert -c -n -O qcow2 {plain} {img}")).await?;
        let output =
            t.info_json(&img).await?["format-specific"]["data"]["compression-type"].clone();
        t.log(format!(
            "info reports {output}; feature bit {}",
            t.peek(&img, "header.incompatible_features.compression")?
        ));
        t.matches(&img, &model).await?;
        t.sound(&img)?;
        made.push(img);
    }
    t.section("one into the other");
    for pair in made.windows(2) {
        t.same(&pair[0], &pair[1]).await?;
    }
    let back =
        t.image("back").size(SIZE).without_imgopts().options("compression_type=zlib").await?;
    t.img(format!("convert -c -n -O qcow2 {} {back}", made[1])).await?;
    t.matches(&back, &model).await?;
    t.sound(&back)?;

    t.section("an image keeps its kind of compression");
    t.img(format!("amend -o compression_type=zstd {back}")).fails().quiet().await?;
    t.log(format!("compression type is {}", t.peek(&back, "header.compression_type")?));
    t.matches(&back, &model).await?;

    t.section("a bit without its type, a type without its bit, an unknown type");
    for (bit, kind) in [(1, 0), (0, 1), (1, 2)] {
        t.poke(&back, "header.incompatible_features.compression", bit)?;
        t.poke(&back, "header.compression_type", kind)?;
        t.io(&back, ["read 0 512"]).fails().await?;
    }
    t.poke(&back, "header.incompatible_features.compression", 0)?;
    t.poke(&back, "header.compression_type", 0)?;
    t.matches(&back, &model).await
}
