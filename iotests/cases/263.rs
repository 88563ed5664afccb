//! Locks of an image's file are taken as `locking` says: with `off` neither taken nor looked at,
//! with `on` always, and with `auto` where the host can.
//!
//! group: rw auto quick io
//! supported_fmt: generic
//! supported_proto: file
//! unsupported_fmt: raw luks
//! unsupported_imgopts: data_file

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("4M").await?;
    t.write(&img, &[(1, 0, MIB)]).await?;
    let options = |locking: &str| {
        let file = img.file().display().to_string().replace(',', ",,");
        format!("driver={},file.filename={file},file.locking={locking}", t.format())
    };
    let size = t.virtual_size(&img).await?;
    for first in ["on", "off", "auto"] {
        for second in ["on", "off", "auto"] {
            let mut user = t.session_with(&options(first), &["--image-opts"]).await?;
            user.quiet();
            user.run("write -P 2 1M 64k").await?;
            user.run("flush").await?;
            // It only reads, but asks for the right to write.
            let other = t
                .io(options(second), ["read -P 1 0 1M"])
                .options(["--image-opts"])
                .any_status()
                .quiet()
                .await?;
            let free = first == "off" || second == "off";
            ensure!(
                (other.status == Some(0)) == free,
                "{first}, then {second}: {:?}",
                other.text()
            );
            user.close().await?;
            let word = if free { "both have it" } else { "the second is kept out" };
            t.log(format!("{first}, then {second}: {word}"));
        }
    }
    ensure!(t.virtual_size(&img).await? == size, "the size has changed");
    t.verify(&img, &[(1, 0, MIB), (2, MIB, 64 * KIB)]).await?;
    t.check(&img).await
}
