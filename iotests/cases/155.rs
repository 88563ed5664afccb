//! A write that damaged tables would send into the image's own metadata is stopped,
//! nothing is overwritten, and the image is marked corrupt.
//!
//! group: rw auto quick qcow2 damage repair
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file compat=0.10

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let k = 64 * KIB;
    for target in ["L1 table", "L2 table", "refcount table", "refcount block"] {
        t.section(target);
        let img = t.create_quietly(SIZE, "cluster_size=64k").await?;
        t.io(&img, ["write -P 1 0 192k"]).quiet().await?;
        let place = match target {
            "L1 table" => t.peek(&img, "header.l1_table_offset")?,
            "L2 table" => t.peek(&img, "l1[0].offset")?,
            "refcount table" => t.peek(&img, "header.refcount_table_offset")?,
            _ => t.peek(&img, "refcount_table[0]")?,
        };
        let right = t.peek(&img, "l2[0].entry[1]")?;
        t.poke_quietly(&img, "l2[0].entry[1]", place | 1 << 63)?;
        let before = t.peek_at(&img, place, 65536)?;
        t.check_counts(&img, &[]).await?;
        t.io(&img, ["write -P 9 64k 64k"]).fails().await?;
        t.log(format!("overwritten: {}", t.peek_at(&img, place, 65536)? != before));
        t.log(format!("corrupt bit {}", t.peek(&img, "header.incompatible_features.corrupt")?));

        t.section(format!("{target}: what can still be done"));
        t.io(&img, ["write -P 9 0 64k"]).fails().await?;
        t.io(&img, ["read -P 1 0 64k", "read -P 1 128k 64k"]).options(["-r"]).quiet().await?;
        let info = t.info_json(&img).await?;
        t.log(format!("info reports corrupt: {}", info["format-specific"]["data"]["corrupt"]));
        t.poke_quietly(&img, "l2[0].entry[1]", right)?;
        t.check_counts(&img, &["-r", "all"]).await?;
        t.verify(&img, &[(1, 0, 3 * k), (0, 3 * k, k)]).await?;
        t.write(&img, &[(9, k, k)]).await?;
        t.sound(&img)?;
    }
    Ok(())
}
