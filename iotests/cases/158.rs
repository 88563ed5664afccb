//! An invalid field of the header makes opening fail with a reason, or is
//! ignored, and the file is unchanged.
//!
//! group: auto quick qcow2 damage
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: compat=0.10 data_file

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("8M").without_imgopts().await?;
    t.write(&img, &[(1, 0, 64 * KIB)]).await?;
    let good = std::fs::read(img.file())?;
    for (field, value) in [
        ("version", 1),
        ("version", 4),
        ("cluster_bits", 8),
        ("cluster_bits", 22),
        ("cluster_bits", 0xffff_ffff),
        ("size", u64::MAX),
        ("size", 1 << 50),
        ("crypt_method", 3),
        ("crypt_method", 2),
        ("l1_size", 0),
        ("l1_size", 0x7fff_ffff),
        ("l1_size", 0x40_0001),
        ("l1_table_offset", 512),
        ("l1_table_offset", 1 << 63),
        ("l1_table_offset", u64::MAX - 0xffff),
        ("refcount_table_offset", 512),
        ("refcount_table_offset", u64::MAX - 0xffff),
        ("refcount_table_clusters", 0),
        ("refcount_table_clusters", 0xffff_ffff),
        ("refcount_table_clusters", 129),
        ("nb_snapshots", 65537),
        ("nb_snapshots", 1),
        ("snapshots_offset", 512),
        ("refcount_order", 7),
        ("refcount_order", 0xffff_ffff),
        ("header_length", 72),
        ("header_length", 0x1_0000),
        ("header_length", 0xffff_fff8),
        ("backing_file_offset", 1 << 62),
        ("backing_file_offset", 0x1_0001),
        ("backing_file_size", 1024),
        ("incompatible_features", 4),
        ("incompatible_features", 16),
    ] {
        let path = format!("header.{field}");
        t.poke(&img, &path, value)?;
        if field == "nb_snapshots" && value == 1 {
            t.poke(&img, "header.snapshots_offset", 1 << 40)?;
        }
        if field == "backing_file_size" {
            t.poke(&img, "header.backing_file_offset", 0x400)?;
        }
        let bad = std::fs::read(img.file())?;
        for options in [&["-r"][..], &[]] {
            let output =
                t.io(&img, ["read -P 1 0 64k"]).options(options).quiet().any_status().await?;
            let printed = output.text();
            let read = if output.status == Some(0) {
                "opened, and the data are there"
            } else {
                "opened, and the data are not found"
            };
            let printed =
                printed.lines().find(|l| l.contains("can't open")).unwrap_or(read).to_owned();
            if options.is_empty() {
                t.log(printed);
            }
        }
        ensure!(std::fs::read(img.file())? == bad, "{path}: the file was changed");
        std::fs::write(img.file(), &good)?;
    }
    t.verify(&img, &[(1, 0, 64 * KIB)]).await?;
    t.sound(&img)
}
