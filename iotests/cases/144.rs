//! Bitmaps are written when their image is closed: a bitmap command that fails only there says
//! so by its exit status, and the image can be used without them.
//!
//! group: rw auto quick qcow2 bitmap blkdebug
//! supported_fmt: qcow2
//! supported_proto: file
//! unsupported_imgopts: refcount_bits=1 data_file compat=0.10
//! needs: bitmaps driver:blkdebug

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("4M").await?;
    t.img(format!("bitmap --add {img} kept")).await?;
    t.write(&img, &[(1, MIB, 64 * KIB)]).await?;
    let failing = |rule: &str| {
        format!(
            "driver=qcow2,file.driver=blkdebug,file.image.driver=file,file.image.filename={},{}",
            img.file().display().to_string().replace(',', ",,"),
            rule
        )
    };
    let write = "file.inject-error.0.event=none,file.inject-error.0.iotype=write";
    let flush = "file.inject-error.0.event=none,file.inject-error.0.iotype=flush";
    let allocate = "file.inject-error.0.event=cluster_alloc";

    for (what, rule) in [("writes", write), ("flushes", flush), ("allocations", allocate)] {
        for verb in ["--add -g 4k", "--add --disable"] {
            let mut words: Vec<&str> = vec!["bitmap"];
            words.extend(verb.split(' '));
            let image = failing(rule);
            words.extend(["--image-opts", &image, "lost"]);
            t.img(words).fails().quiet().await?;
            let info = t.info_json(&img).await?;
            let bitmaps = info["format-specific"]["data"]["bitmaps"].to_string();
            ensure!(!bitmaps.contains("lost"), "{what}: it was reported lost: {bitmaps}");
        }
        t.log(format!("bitmap --add where {what} fail: fails"));
    }
    t.verify(&img, &[(1, MIB, 64 * KIB)]).await?;
    // What was allocated for a bitmap and not freed any more is lost space at worst.
    t.img(format!("check -r leaks {img}")).any_status().quiet().await?;
    t.check(&img).await
}
