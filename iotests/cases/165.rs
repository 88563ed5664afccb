//! An image that is marked corrupt is not written to, can be read and said to be
//! corrupt, and is usable again once repair finds nothing left.
//!
//! group: rw auto quick qcow2 damage repair
//! supported_fmt: qcow2
//! unsupported_imgopts: compat=0.10
//! supported_proto: file fuse

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("4M").await?;
    t.write(&img, &[(1, 0, MIB)]).await?;
    t.poke(&img, "header.incompatible_features.corrupt", 1)?;

    t.section("not written to, by anyone");
    t.io(&img, ["write -P 2 0 64k"]).fails().await?;
    for line in [
        "resize {img} 8M",
        "amend -o lazy_refcounts=on {img}",
        "bitmap --add {img} b0",
        "snapshot -c one {img}",
        "rebase -u -b '' {img}",
    ] {
        let line = line.replace("{img}", &img.to_string());
        t.img(&line).fails().quiet().await?;
        t.log(format!("refused: {line}"));
    }

    t.section("read");
    t.io(&img, ["read -P 1 0 1M", "read -P 0 1M 1M"]).options(["-r"]).await?;
    let info = t.info_json(&img).await?;
    t.log(format!("info reports corrupt: {}", info["format-specific"]["data"]["corrupt"]));
    let flat = t.image("flat").format("raw").size(0).quiet().await?;
    t.img(format!("convert -O raw {img} {flat}")).await?;
    t.verify(&flat, &[(1, 0, MIB), (0, MIB, 3 * MIB)]).await?;

    t.section("check alone changes nothing, repair does");
    t.check_counts(&img, &[]).await?;
    t.log(format!("corrupt bit {}", t.peek(&img, "header.incompatible_features.corrupt")?));
    t.check_counts(&img, &["-r", "leaks"]).await?;
    t.check_counts(&img, &["-r", "all"]).await?;
    t.log(format!("corrupt bit {}", t.peek(&img, "header.incompatible_features.corrupt")?));
    t.write(&img, &[(2, 0, 64 * KIB)]).await?;
    t.verify(&img, &[(2, 0, 64 * KIB), (1, 64 * KIB, MIB - 64 * KIB), (0, MIB, 3 * MIB)]).await?;
    t.check(&img).await
}
