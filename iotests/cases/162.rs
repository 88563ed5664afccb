//! An extended L2 entry whose subclusters are both data and zeroes, or that is
//! compressed and has subclusters, is reported as corruption.
//!
//! group: rw auto quick qcow2 damage
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file compat=0.10
//! needs: extended_l2

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let k = 64 * KIB;
    for (what, value) in
        [("both in one subcluster", 0x0000_0001_ffff_ffff_u64), ("both in all", u64::MAX)]
    {
        t.section(what);
        let img = t.create_quietly(MIB, "extended_l2=on,cluster_size=64k").await?;
        t.io(&img, ["write -P 1 0 192k"]).quiet().await?;
        let good = t.peek(&img, "l2[0].entry[1].subclusters")?;
        t.poke(&img, "l2[0].entry[1].subclusters", value)?;
        t.check_counts(&img, &[]).await?;
        t.io(&img, ["read 64k 2k", "read -P 1 0 64k", "read -P 1 128k 64k"])
            .options(["-r"])
            .any_status()
            .await?;
        t.io(&img, ["write -P 5 64k 1k"]).any_status().await?;
        t.log(format!("corrupt bit {}", t.peek(&img, "header.incompatible_features.corrupt")?));
        t.poke_quietly(&img, "l2[0].entry[1].subclusters", good)?;
        t.check_counts(&img, &["-r", "all"]).await?;
        t.verify(&img, &[(1, 0, k), (1, 128 * KIB, k)]).await?;
        t.check(&img).await?;
    }

    t.section("the feature bit on an image without subclusters");
    let img = t.create_quietly(MIB, "cluster_size=8k").await?;
    t.io(&img, ["write -P 1 0 64k"]).quiet().await?;
    t.poke(&img, "header.incompatible_features.extended_l2", 1)?;
    t.io(&img, ["read 0 512"]).options(["-r"]).fails().await?;
    t.poke(&img, "header.incompatible_features.extended_l2", 0)?;
    t.verify(&img, &[(1, 0, 64 * KIB)]).await?;
    t.check(&img).await
}
