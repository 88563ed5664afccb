//! What is written to an image opened as a snapshot goes to a file in the folder that `TMPDIR`
//! names, which is gone with the program; without such a folder the image is not opened.
//!
//! group: rw auto quick snapshot
//! supported_fmt: generic
//! supported_proto: file

use std::path::Path;

use iotests::prelude::*;

fn is_empty(folder: &Path) -> Result<bool> {
    Ok(std::fs::read_dir(folder)?.next().is_none())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("4M").await?;
    t.write(&img, &[(1, 0, MIB)]).await?;
    let before = std::fs::read(img.file())?;
    let folder = t.path("temporary");
    std::fs::create_dir(&folder)?;
    let name = img.to_string();
    let through = |tmpdir: &Path, options: &str| {
        let words = ["-s", options, "-c", "write -P 2 0 64k", "-c", "read -P 2 0 64k", &name];
        let words = words.into_iter().filter(|word| !word.is_empty());
        t.tool(Kind::Io, words.collect::<Vec<_>>()).env("TMPDIR", tmpdir).quiet()
    };

    for options in ["", "--nocache", "--cache=unsafe"] {
        let said = through(&folder, options).await?.text();
        ensure!(said.contains("read 65536/65536"), "{said}");
        ensure!(is_empty(&folder)?, "a file is left in TMPDIR");
        ensure!(std::fs::read(img.file())? == before, "the image has changed");
        t.log(format!("-s {options}").trim_end());
    }
    let said = through(&t.path("missing"), "").fails().await?.text();
    ensure!(said.contains("missing"), "the folder is not named: {said}");
    t.log("TMPDIR is not there: refused, with its name");
    t.verify(&img, &[(1, 0, MIB)]).await?;
    t.check(&img).await
}
