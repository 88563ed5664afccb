//! Header extensions with a wrong length, or that miss what a feature bit
//! promises, make opening fail and do no harm.
//!
//! group: auto quick qcow2 damage
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: compat=0.10 data_file

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").format("raw").size("4M").await?;
    t.write(&base, &[(7, 0, 4 * MIB)]).await?;
    let img = t.create("4M").without_imgopts().backing(&base).await?;
    t.write(&img, &[(1, 0, 64 * KIB)]).await?;
    let good = std::fs::read(img.file())?;
    for (what, path, value) in [
        ("the backing format", "ext[0].length", 0xffff_ffff_u64),
        ("the backing format", "ext[0].length", 0x1_0000),
        ("the backing format", "ext[0].type", 0),
        ("the features' names", "ext[1].length", 0xffff_fff0),
        ("the features' names", "ext[1].type", 0x2385_2875),
        ("no data file", "header.incompatible_features.data_file", 1),
        ("raw data without a data file", "header.autoclear_features.raw_data_file", 1),
        ("bitmaps that are not there", "header.autoclear_features.bitmaps", 1),
        ("keys that are not there", "header.crypt_method", 2),
    ] {
        t.section(format!("{what}: {path} = {value:#x}"));
        t.poke_quietly(&img, path, value)?;
        let bad = std::fs::read(img.file())?;
        let read = t
            .io(&img, ["read -P 1 0 64k", "read -P 7 64k 64k"])
            .options(["-r"])
            .quiet()
            .any_status()
            .await?;
        t.log(format!("read: {}", if read.status == Some(0) { "the data" } else { "an error" }));
        ensure!(std::fs::read(img.file())? == bad, "a reader changed the file");
        // QEMU 7.2 crashes in info without the keys: known-limits.md.
        if path != "header.crypt_method" {
            let info = t.img(format!("info {img}")).quiet().any_status().await?.status;
            t.log(format!("info: exit status {}", info.unwrap_or(-1)));
        }
        std::fs::write(img.file(), &good)?;
    }
    t.verify(&img, &[(1, 0, 64 * KIB), (7, 64 * KIB, 64 * KIB)]).await?;
    t.check(&img).await?;
    t.sound(&img)
}
