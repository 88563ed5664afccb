//! Offsets that are not on a cluster's edge are neither read nor written through,
//! so the request fails, the image is marked corrupt, and the rest can be read.
//!
//! group: rw auto quick qcow2 damage
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file compat=0.10

use iotests::prelude::*;

const SIZE: u64 = GIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let k = 64 * KIB;
    for (path, request) in [
        ("l2[0].entry[1]", "read 64k 64k"),
        ("l2[0].entry[1]", "write -P 9 64k 64k"),
        ("l1[1]", "read 512M 64k"),
        ("l1[1]", "write -P 9 512M 64k"),
        ("l1[1]", "discard 512M 64k"),
    ] {
        t.section(format!("{path}, {request}"));
        let img = t.create_quietly(SIZE, "cluster_size=64k").await?;
        t.io(&img, ["write -P 1 0 128k", "write -P 2 512M 64k"]).quiet().await?;
        let entry = t.peek(&img, path)?;
        t.poke_quietly(&img, path, entry | 0x2000)?;
        let bytes = std::fs::metadata(img.file())?.len();
        let found = t.check_counts_quietly(&img, &[]).await?;
        t.log(format!("check: errors: {}, exit status {}", found.corruptions > 0, found.status));
        t.io(&img, [request, "read -P 1 0 64k"]).any_status().await?;
        t.log(format!("corrupt bit {}", t.peek(&img, "header.incompatible_features.corrupt")?));
        t.log(format!("the file grew: {}", std::fs::metadata(img.file())?.len() > bytes));
        t.io(&img, ["read -P 1 0 64k"]).options(["-r"]).quiet().await?;

        t.poke_quietly(&img, path, entry)?;
        t.check_counts(&img, &["-r", "all"]).await?;
        t.verify(&img, &[(1, 0, 2 * k), (2, 512 * MIB, k)]).await?;
        t.sound(&img)?;
    }
    Ok(())
}
