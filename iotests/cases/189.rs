//! Parallels images of every cluster size keep their data; space that is lost
//! at the end, and an image that was left open, are found and repaired.
//!
//! group: rw auto quick formats repair
//! supported_fmt: parallels
//! supported_proto: file
//! unsupported_imgopts: cluster_size

use iotests::prelude::*;

/// The header's word that says whether the image is in use.
const IN_USE: u64 = 44;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for cluster in [64 * KIB, MIB, 4 * MIB] {
        t.section(format!("cluster_size={cluster}"));
        let size = 3 * cluster + 512;
        let img = t.create(size).options(format!("cluster_size={cluster}")).await?;
        t.info(&img).await?;
        let edges = [(1, 0, 512), (2, cluster - 512, 1024), (3, size - 1024, 1024)];
        t.write(&img, &edges).await?;
        t.verify(&img, &edges).await?;
        t.verify(&img, &[(0, 512, 1024), (0, cluster + 512, cluster - 512)]).await?;
        t.check(&img).await?;
    }

    t.section("unused space");
    let img = t.create(4 * MIB).options("cluster_size=1M").await?;
    t.write(&img, &[(1, 0, MIB), (2, 3 * MIB, MIB)]).await?;
    let length = img.file().metadata()?.len();
    std::fs::File::options().write(true).open(img.file())?.set_len(length + 3 * MIB)?;
    let status = t.check_counts_quietly(&img, &[]).await?.status;
    t.log(format!("exit status {status}"));
    let status = t.check_counts_quietly(&img, &["-r", "leaks"]).await?.status;
    t.log(format!("repaired: exit status {status}"));
    t.log(format!("the file is as long as it was: {}", img.file().metadata()?.len() == length));
    t.verify(&img, &[(1, 0, MIB), (0, MIB, 2 * MIB), (2, 3 * MIB, MIB)]).await?;
    t.check(&img).await?;

    t.section("an image that was left open");
    let mut session = t.session(&img).await?;
    session.run("write -P 3 1M 64k").await?;
    session.run("flush").await?;
    session.kill().await?;
    t.log(format!("it is marked as in use: {}", t.peek_at(&img, IN_USE, 4)? != [0; 4]));
    let status = t.check_counts_quietly(&img, &["-r", "all"]).await?.status;
    t.log(format!("repaired: exit status {status}"));
    t.log(format!("it is marked as in use: {}", t.peek_at(&img, IN_USE, 4)? != [0; 4]));
    t.verify(&img, &[(1, 0, MIB), (3, MIB, 64 * KIB), (0, MIB + 64 * KIB, MIB), (2, 3 * MIB, MIB)])
        .await?;
    t.check(&img).await?;
    Ok(())
}
