//! A writer locks an image against other writers, and readers unless they use
//! -U; when it has ended they may open it.
//!
//! group: rw auto quick io
//! supported_fmt: generic
//! unsupported_fmt: raw luks
//! unsupported_proto: nbd fuse ssh

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("4M").await?;
    t.write(&img, &[(1, 0, MIB)]).await?;

    t.section("while one writes");
    let mut writer = t.session(&img).await?;
    writer.run("write -P 2 1M 64k").await?;
    writer.run("flush").await?;
    refused(t, &img, "another writer", &[]).await?;
    refused(t, &img, "a reader", &["-r"]).await?;
    let insisting = t.io(&img, ["read -P 1 0 1M"]).options(["-r", "-U"]).quiet().await?;
    ensure!(insisting.text().contains("read 1048576/1048576"), "{}", insisting.text());
    t.log("a reader with -U: reads");
    t.img(format!("info {img}")).fails().quiet().await?;
    t.img(format!("info -U {img}")).quiet().await?;
    t.img(format!("compare {img} {img}")).fails().quiet().await?;
    t.img(format!("check {img}")).fails().quiet().await?;
    t.log("info -U: allowed; info, compare and check: not");
    writer.run("write -P 3 2M 64k").await?;
    writer.close().await?;

    t.section("when it has gone");
    t.verify(&img, &[(1, 0, MIB), (2, MIB, 64 * KIB), (3, 2 * MIB, 64 * KIB)]).await?;
    t.write(&img, &[(4, 3 * MIB, 512)]).await?;
    t.verify(&img, &[(4, 3 * MIB, 512)]).await?;
    t.check(&img).await
}

async fn refused(t: &Test, img: &Image, who: &str, options: &[&str]) -> Result<()> {
    let output = t.io(img, ["read 0 512"]).options(options).fails().quiet().await?.text();
    ensure!(output.contains("lock"), "not about a lock: {output}");
    t.log(format!("{who}: kept out"));
    Ok(())
}
