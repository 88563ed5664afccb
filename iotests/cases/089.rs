//! A backing file that is missing, of the wrong format, or the image itself is
//! refused with a message, and nothing is made or changed.
//!
//! group: rw auto quick backing
//! supported_fmt: generic
//! needs: backing rebase

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.section("not there");
    let new = ["create", "-f", "IMGFMT", "-F", "IMGFMT", "-b", "TEST_DIR/none", "TEST_DIR/new"];
    t.img(new).fails().quiet().await?;
    t.img(new.map(|w| if w == "TEST_DIR/none" { "" } else { w })).fails().quiet().await?;
    t.log(format!("a file was made: {}", t.path("new").exists()));

    t.section("without its format");
    let base = t.image("base").size("2M").await?;
    t.write(&base, &[(1, 0, 2 * MIB)]).await?;
    t.img(format!("create -f IMGFMT -b {base} TEST_DIR/new")).fails().quiet().await?;
    t.img(format!("create -f IMGFMT -b {base} -F unknown TEST_DIR/new")).fails().quiet().await?;
    t.log(format!("a file was made: {}", t.path("new").exists()));

    t.section("itself, and each other");
    let top = t.image("top").backing(&base).await?;
    t.img(format!("rebase -u -b {top} -F IMGFMT {base}")).quiet().await?;
    let output = t.img(format!("info --backing-chain {top}")).fails().quiet().await?.text();
    t.log(format!("info reports a loop: {}", output.contains("infinite loop")));
    t.info(&top).await?;
    t.img(["rebase", "-u", "-b", "", &base.to_string()]).quiet().await?;
    t.verify(&top, &[(1, 0, 2 * MIB)]).await?;

    t.section("lost and found");
    let away = t.path("away");
    if t.env().protocol == "file" {
        std::fs::rename(base.file(), &away)?;
        t.io(&top, ["read 0 512"]).fails().quiet().await?;
        t.img(format!("convert -O raw {top} TEST_DIR/none")).fails().quiet().await?;
        t.img(format!("commit {top}")).fails().quiet().await?;
        std::fs::rename(&away, base.file())?;
    }
    t.log(format!("a file was made: {}", t.path("none").exists()));
    t.verify(&top, &[(1, 0, 2 * MIB)]).await?;
    t.check(&base).await?;
    t.check(&top).await
}
