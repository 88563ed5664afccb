//! The exit status of check distinguishes errors, leaks and failure, with every
//! output format and option, and without repair it changes nothing.
//!
//! group: auto quick qcow2 check damage
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file refcount_bits=1

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("4M").without_imgopts().options("cluster_size=64k").await?;
    t.write(&img, &[(1, 0, MIB)]).await?;
    let data = t.peek(&img, "l2[0].entry[0].offset")?;
    let table = t.peek(&img, "header.l1_table_offset")?;
    for what in ["clean", "a leak", "an error", "both"] {
        t.section(what);
        if matches!(what, "a leak" | "both") {
            t.poke_quietly(&img, &t.refcount_path(&img, table)?, 2)?;
        }
        if matches!(what, "an error" | "both") {
            t.poke_quietly(&img, &t.refcount_path(&img, data)?, 0)?;
        }
        let before = std::fs::read(img.file())?;
        t.check_report(&img, &[]).await?;
        t.check_counts(&img, &[]).await?;
        t.check_report(&img, &["-q"]).await?;
        t.check_counts(&img, &["-U"]).await?;
        t.log(format!("check changed the file: {}", std::fs::read(img.file())? != before));
        t.check_report(&img, &["-r", "all"]).await?;
        t.check_report(&img, &[]).await?;
    }

    t.section("failures");
    let status = t.img(["check", "TEST_DIR/missing"]).any_status().await?.status;
    t.log(format!("exit status {}", status.unwrap_or(-1)));
    let raw = t.image("flat").format("raw").size("1M").quiet().await?;
    let status = t.img(format!("check {raw}")).any_status().await?.status;
    t.log(format!("exit status {}", status.unwrap_or(-1)));
    let status = t.img(format!("check -r some {img}")).quiet().any_status().await?.status;
    t.log(format!("exit status {}", status.unwrap_or(-1)));
    t.verify(&img, &[(1, 0, MIB)]).await
}
