//! Repair that is itself stopped by an error reports that, loses no data, and
//! finishes when it is tried again.
//!
//! group: rw auto qcow2 damage repair blkdebug
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file
//! needs: driver:blkdebug

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for damage in ["a count too low", "the table gone"] {
        let mut reported = 0;
        for nth in 1..=8 {
            let img = t.create_quietly(SIZE, "cluster_size=64k").await?;
            t.io(&img, ["write -P 1 0 1M", "write -P 2 3M 64k"]).quiet().await?;
            if damage == "the table gone" {
                t.poke_quietly(&img, "refcount_table[0]", 0)?;
            } else {
                let data = t.peek(&img, "l2[0].entry[0].offset")?;
                t.poke_quietly(&img, &t.refcount_path(&img, data)?, 0)?;
            }
            let mut opts = format!(
                "driver=qcow2,file.driver=blkdebug,file.image.driver=file,file.image.filename={},\
                 file.inject-error.0.event=pwritev,file.inject-error.0.errno=28,file.inject-error.0.state={nth}",
                img.file().display()
            );
            for n in 1..nth {
                opts.push_str(&format!(
                    ",file.set-state.{0}.event=pwritev,file.set-state.{0}.state={n},file.set-state.{0}.new_state={1}",
                    n - 1, n + 1
                ));
            }
            let first = t
                .img(["check", "-r", "all", "--image-opts", &opts])
                .quiet()
                .any_status()
                .await?
                .status;
            t.verify_quietly(&img, &[(1, 0, MIB), (0, MIB, 2 * MIB), (2, 3 * MIB, 64 * KIB)])
                .await?;
            let again = t.check_counts_quietly(&img, &["-r", "all"]).await?;
            ensure!(again.status == 0, "{damage}, write {nth}: {again:?}");
            let defects = t.defects(&img)?;
            ensure!(defects.is_empty(), "{damage}, write {nth}: {defects:?}");
            t.verify_quietly(&img, &[(1, 0, MIB), (0, MIB, 2 * MIB), (2, 3 * MIB, 64 * KIB)])
                .await?;
            reported += u32::from(first != Some(0));
            t.log(format!(
                "{damage}, write {nth} fails: no data are lost, and the second repair ends well"
            ));
        }
        t.log(format!("{damage}: failures were reported: {}", reported > 0));
    }
    Ok(())
}
