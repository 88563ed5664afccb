//! A damaged bitmap directory is found by check and never written through, and
//! costs bitmaps at most once the image is told to drop them.
//!
//! group: rw auto qcow2 damage repair bitmap
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: cluster_size=512
//! needs: bitmaps

use iotests::prelude::*;

const SIZE: u64 = 16 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for (path, value) in [
        ("bitmap[0].table_offset", 0x201),
        ("bitmap[0].table_offset", 1 << 50),
        ("bitmap[0].table_size", 0),
        ("bitmap[0].table_size", 0xffff_ffff),
        ("bitmap[0].granularity_bits", 64),
        ("bitmap[0].granularity_bits", 8),
        ("bitmap[0].type", 2),
        ("bitmap[0].flags", 0x10),
        ("bitmap[0].name_size", 0),
        ("bitmap[0].extra_data_size", 0xffff),
        ("bitmap[0].table[0]", 0x200),
        ("bitmap[0].table[0]", 1 << 50),
        ("bitmap[0].table[0]", 2),
    ] {
        t.section(format!("{path} = {value:#x}"));
        let img = t.create(SIZE).quiet().await?;
        t.img(format!("bitmap --add -g 64k {img} b0")).quiet().await?;
        t.img(format!("bitmap --add -g 64k {img} b1")).quiet().await?;
        t.io(&img, ["write -P 1 0 1M"]).quiet().await?;
        t.poke_quietly(&img, path, value)?;
        let found = t.check_counts_quietly(&img, &[]).await?;
        t.log(format!("check: clean: {}", found.status == 0));
        let read = t
            .io(&img, ["read -P 1 0 1M", "read -P 0 1M 1M"])
            .options(["-r"])
            .quiet()
            .any_status()
            .await?;
        let write =
            t.io(&img, ["write -P 2 4M 64k", "read -P 2 4M 64k"]).quiet().any_status().await?;
        let word = |o: &Output| if o.status == Some(0) { "yes" } else { "no" };
        t.log(format!("it can be read: {}, written: {}", word(&read), word(&write)));
        t.poke_quietly(&img, "header.autoclear_features.bitmaps", 0)?;
        let all = t.check_counts_quietly(&img, &["-r", "all"]).await?;
        t.log(format!("the bitmaps forgotten, check -r all: exit status {}", all.status));
        t.io(&img, ["read -P 1 0 1M", "write -P 3 8M 64k", "read -P 3 8M 64k"]).quiet().await?;
        t.check(&img).await?;
    }
    Ok(())
}
