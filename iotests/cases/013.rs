//! An image of a terabyte keeps what is written to its ends and its middle,
//! takes little room, and a size that no image can have is refused.
//!
//! group: rw auto quick create
//! supported_fmt: generic
//! needs: sparse
//! unsupported_imgopts: cluster_size=512 cluster_size=1k cluster_size=2k
//! file_size: 1T

use std::os::unix::fs::MetadataExt as _;

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.section("a terabyte");
    let img = t.create(TIB).await?;
    t.info(&img).await?;
    let places = [0, 512 * GIB - 512, 512 * GIB, 700 * GIB + 512, TIB - 64 * KIB];
    let patches: Vec<_> = (1..).zip(places).map(|(pattern, at)| (pattern, at, 64 * KIB)).collect();
    t.write(&img, &patches).await?;
    let mut model = t.disk_model(TIB);
    for &(pattern, at, length) in &patches {
        model.set(at, length, Some(pattern));
    }
    for at in places {
        let from = at.saturating_sub(MIB);
        let part = model.reads(from, 3 * MIB);
        t.io(&img, part).quiet().await?;
    }
    t.log("each is there, and nothing around it has changed");
    t.check(&img).await?;
    if t.env().imgopt("preallocation").is_none() {
        let room = img.file().metadata()?.blocks() * 512;
        t.log(format!("takes less than 64 MiB: {}", room < 64 * MIB));
    }

    t.section("beyond the end");
    t.io(&img, [format!("write {TIB} 512"), format!("read {} 512", u64::MAX / 2 - 511)])
        .fails()
        .await?;

    t.section("too large for anything");
    for size in ["9223372036854775808", "8E", "18446744073709551616", "9999999P"] {
        let file = format!("TEST_DIR/never.{}", t.format());
        t.img(format!("create -f {} {file} {size}", t.format())).fails().quiet().await?;
        let left = t.path(format!("never.{}", t.format())).exists();
        t.log(format!("{size}: refused, a file was made: {left}"));
    }
    Ok(())
}
