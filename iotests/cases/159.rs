//! A damaged snapshot table affects the snapshots it is about and not the disk,
//! and repair removes what is invalid and keeps the rest.
//!
//! group: rw auto qcow2 damage repair snapshot
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file refcount_bits=1 refcount_bits=2

use iotests::prelude::*;

const SIZE: u64 = 2 * MIB;

async fn make(t: &Test) -> Result<Image> {
    let img = t.create(SIZE).without_imgopts().quiet().await?;
    t.io(&img, ["write -P 1 0 1M"]).quiet().await?;
    t.img(format!("snapshot -c one {img}")).quiet().await?;
    t.io(&img, ["write -P 2 512k 1M"]).quiet().await?;
    t.img(format!("snapshot -c two {img}")).quiet().await?;
    t.io(&img, ["write -P 3 1M 512k"]).quiet().await?;
    Ok(img)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    for (path, value) in [
        ("snapshot[0].l1_table_offset", 0x1001),
        ("snapshot[0].l1_table_offset", 1 << 63),
        ("snapshot[1].l1_size", 0),
        ("snapshot[1].l1_size", 0xffff_ffff),
        ("header.nb_snapshots", 1),
        ("header.nb_snapshots", 0),
        ("header.snapshots_offset", 0),
        ("snapshot[0].id_size", 0xffff),
    ] {
        t.section(format!("{path} = {value:#x}"));
        let img = make(t).await?;
        t.poke_quietly(&img, path, value)?;
        let found = t.check_counts_quietly(&img, &[]).await?;
        t.log(format!("check: exit status {}", found.status));
        let apply = t.img(format!("snapshot -a one {img}")).quiet().any_status().await?.status;
        t.log(format!("back to the first: {}", if apply == Some(0) { "done" } else { "refused" }));
        let all = t.check_counts_quietly(&img, &["-r", "all"]).await?;
        let left = if all.status == 0 {
            "clean".to_owned()
        } else {
            format!("exit status {}", all.status)
        };
        t.log(format!("check -r all: {left}"));
        let disk = [
            "read -P 1 0 512k",
            "read -P 2 512k 512k",
            "read -P 3 1M 512k",
            "read -P 0 1536k 512k",
        ];
        let then = ["read -P 1 0 1M", "read -P 0 1M 1M"];
        let commands = if apply == Some(0) { &then[..] } else { &disk[..] };
        let read = t.io(&img, commands).options(["-r"]).quiet().any_status().await?.status;
        t.log(format!(
            "the disk is {}",
            if read == Some(0) { "as it was" } else { "not readable" }
        ));
    }
    Ok(())
}
