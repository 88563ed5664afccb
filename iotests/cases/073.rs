//! An image that is to be converted or copied onto itself is refused, by whatever name it is
//! called the second time, and stays what it was.
//!
//! group: rw auto quick convert
//! supported_fmt: generic
//! supported_proto: file
//! unsupported_fmt: raw luks
//! unsupported_imgopts: data_file

use std::os::unix::fs::symlink;

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.write(&img, &[(1, 0, 2 * MIB)]).await?;
    let before = std::fs::read(img.file())?;
    let link = |name: &str| t.path(name);
    symlink(img.file(), link("symbolic"))?;
    std::fs::hard_link(img.file(), link("hard"))?;
    let inside = t.path("folder");
    std::fs::create_dir(&inside)?;
    let round = inside.join("..").join(img.file().file_name().context("no name")?);

    let names = [
        ("its name", img.file().to_path_buf()),
        ("another way to it", round),
        ("a symbolic link", link("symbolic")),
        ("a hard link", link("hard")),
    ];
    for (what, name) in names {
        let name = name.display().to_string();
        let from = img.to_string();
        for words in [
            &["convert", "-O", "IMGFMT", &from, &name][..],
            &["convert", "-n", "-O", "IMGFMT", &from, &name],
            &["dd", "-O", "IMGFMT", &format!("if={from}"), &format!("of={name}")],
        ] {
            let said = t.img(words).fails().quiet().await?.text();
            ensure!(said.contains("lock"), "not about a lock: {said}");
        }
        ensure!(std::fs::read(img.file())? == before, "{what}: the image has changed");
        t.log(format!("{what}: refused, and the image is as it was"));
    }
    t.verify(&img, &[(1, 0, 2 * MIB)]).await?;
    t.check(&img).await
}
