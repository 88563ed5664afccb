//! Internal snapshots of an image that is in use are neither made nor applied nor deleted from
//! outside; with -U they are listed, and whoever uses the image notices nothing.
//!
//! group: rw auto quick qcow2 snapshot
//! supported_fmt: qcow2
//! supported_proto: file
//! needs: snapshots

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.write(&img, &[(1, 0, MIB)]).await?;
    t.img(format!("snapshot -c one {img}")).await?;
    let mut user = t.session(&img).await?;
    user.run("write -P 2 1M 64k").await?;
    user.run("flush").await?;
    let before = std::fs::read(img.file())?;

    for verb in ["-c two", "-a one", "-d one"] {
        for insisting in ["", "-U"] {
            let line = format!("snapshot {insisting} {verb} {img}");
            t.img(line).fails().quiet().await?;
        }
        ensure!(std::fs::read(img.file())? == before, "{verb}: the image has changed");
        t.log(format!("snapshot {verb}: refused"));
    }
    t.img(format!("snapshot -l {img}")).fails().quiet().await?;
    let list = t.img(format!("snapshot -U -l {img}")).quiet().await?.text();
    ensure!(list.contains("one") && !list.contains("two"), "{list}");
    t.log("snapshot -l: refused; with -U: listed");

    user.run("write -P 3 2M 64k").await?;
    user.close().await?;
    t.verify(&img, &[(1, 0, MIB), (2, MIB, 64 * KIB), (3, 2 * MIB, 64 * KIB)]).await?;
    t.img(format!("snapshot -a one {img}")).await?;
    t.verify(&img, &[(1, 0, MIB), (0, MIB, 3 * MIB)]).await?;
    t.check(&img).await?;
    t.sound(&img)
}
