//! amend to version 2 turns zero clusters into what version 2 can represent,
//! without loss, with a backing file or none.
//!
//! group: rw auto quick qcow2 backing zero
//! supported_fmt: qcow2
//! needs: qemu-img:amend

use iotests::prelude::*;

const SIZE: u64 = 3 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").without_imgopts().size(SIZE).await?;
    t.write(&base, &[(0xba, 0, SIZE)]).await?;
    for backed in [false, true] {
        for snapshot in [false, true] {
            t.section(format!("a backing file: {backed}, a snapshot: {snapshot}"));
            let cluster = if snapshot { "4k" } else { "64k" };
            let img = t
                .create(SIZE)
                .without_imgopts()
                .quiet()
                .options(format!("cluster_size={cluster},lazy_refcounts=on"));
            let img = if backed { img.backing(&base) } else { img };
            let img = img.await?;
            let mut model = t.disk_model(SIZE);
            if backed {
                model.set(0, SIZE, Some(0xba));
            }
            let zero = |offset, length, unmap| Op::Zero { offset, length, unmap };
            let ops = [
                Op::write(1, 0, MIB),
                // Zeroes over what a snapshot shares do not survive: known-limits.md.
                zero(0, 256 * KIB, snapshot),
                zero(512 * KIB, 256 * KIB, true),
                zero(2 * MIB, 512 * KIB, false),
                zero(SIZE - 64 * KIB, 64 * KIB, true),
            ];
            t.apply(&img, &mut model, &ops).await?;
            if snapshot {
                t.img(format!("snapshot -c one {img}")).quiet().await?;
            }
            let then = model.clone();
            t.apply(&img, &mut model, &[zero(MIB, MIB, false), Op::write(3, 128 * KIB, 4 * KIB)])
                .await?;
            t.img(format!("amend -o compat=0.10 {img}")).quiet().await?;
            t.log(format!(
                "version {}, lazy refcounts and dirty bit gone with it",
                t.peek(&img, "header.version")?
            ));
            t.matches(&img, &model).await?;
            t.sound(&img)?;
            if snapshot {
                t.img(format!("snapshot -a one {img}")).quiet().await?;
                model = then;
            }
            t.matches(&img, &model).await?;
            t.check(&img).await?;
            t.img(format!("amend -o compat=1.1 {img}")).quiet().await?;
            t.matches(&img, &model).await?;
            t.sound(&img)?;
        }
    }
    Ok(())
}
