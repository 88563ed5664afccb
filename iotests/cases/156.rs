//! Refcounts that are zero where they must not be never make the allocator give
//! out the header, a table, or data that are in use without being noticed.
//!
//! group: rw auto quick qcow2 damage
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file compat=0.10

use iotests::prelude::*;

const SIZE: u64 = GIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for target in ["header", "L1 table", "L2 table", "refcount table", "refcount block"] {
        t.section(target);
        let img = t.create_quietly(SIZE, "cluster_size=64k").await?;
        t.io(&img, ["write -P 1 0 192k"]).quiet().await?;
        let place = match target {
            "header" => 0,
            "L1 table" => t.peek(&img, "header.l1_table_offset")?,
            "L2 table" => t.peek(&img, "l1[0].offset")?,
            "refcount table" => t.peek(&img, "header.refcount_table_offset")?,
            _ => t.peek(&img, "refcount_table[0]")?,
        };
        t.poke_quietly(&img, &t.refcount_path(&img, place)?, 0)?;
        let before = t.peek_at(&img, place, 32)?;
        // New data, a new L2 table, a compressed cluster.
        for request in ["write -P 9 1M 64k", "write -P 9 512M 64k", "write -c -P 9 2M 64k"] {
            t.io(&img, [request]).quiet().any_status().await?;
        }
        let after = t.peek_at(&img, place, 32)?;
        // Only bits that say so may have changed in the header.
        let same = if place == 0 { before[..32] == after[..32] } else { before[..8] == after[..8] };
        t.log(format!("it still begins as it did: {same}"));
        t.log(format!("corrupt bit {}", t.peek(&img, "header.incompatible_features.corrupt")?));
        t.io(&img, ["read -P 1 0 192k"]).options(["-r"]).quiet().await?;
        t.check_counts_quietly(&img, &["-r", "all"]).await?;
        t.check(&img).await?;
        t.verify(&img, &[(1, 0, 192 * KIB)]).await?;
        t.sound(&img)?;
    }
    Ok(())
}
