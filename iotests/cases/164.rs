//! A truncated file loses what was past its new end and nothing before it,
//! reports how much, and is consistent again when that is rewritten.
//!
//! group: rw auto quick qcow2 damage repair
//! supported_fmt: qcow2
//! supported_aio: threads native
//! supported_proto: file
//! unsupported_imgopts: data_file compat=0.10

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let k = 64 * KIB;
    for (what, cut) in
        [("half a cluster", 32 * KIB), ("three clusters", 3 * k), ("sixteen clusters", 16 * k)]
    {
        t.section(format!("{what} are gone"));
        let img = t.create_quietly(SIZE, "cluster_size=64k").await?;
        t.write(&img, &[(1, 0, MIB), (2, MIB, MIB)]).await?;
        let file = std::fs::File::options().write(true).open(img.file())?;
        file.set_len(file.metadata()?.len() - cut)?;
        drop(file);
        t.check_counts(&img, &[]).await?;
        t.io(&img, ["read -P 1 0 1M"]).options(["-r"]).quiet().await?;
        t.check_counts(&img, &["-r", "all"]).await?;
        let kept = (MIB - cut) / k * k;
        t.verify(&img, &[(1, 0, MIB)]).await?;
        if kept > 0 {
            t.verify(&img, &[(2, MIB, kept)]).await?;
        }
        t.log("written over");
        t.write(&img, &[(3, MIB, 2 * MIB)]).await?;
        t.verify(&img, &[(1, 0, MIB), (3, MIB, 2 * MIB), (0, 3 * MIB, MIB)]).await?;
        t.check(&img).await?;
        t.sound(&img)?;
    }

    t.section("only the header is left");
    let img = t.create_quietly(SIZE, "cluster_size=64k").await?;
    t.write(&img, &[(1, 0, MIB)]).await?;
    for length in [65536, 112, 72, 4, 0] {
        let file = std::fs::File::options().write(true).open(img.file())?;
        file.set_len(length)?;
        drop(file);
        let status = t.io(&img, ["read 0 512"]).options(["-r"]).quiet().any_status().await?.status;
        t.log(format!(
            "{length} bytes: {}",
            if status == Some(0) { "opened and read" } else { "an error" }
        ));
    }
    Ok(())
}
