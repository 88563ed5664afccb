//! A relative name of a backing file is relative to the overlay, wherever both
//! are moved.
//!
//! group: rw auto quick backing
//! supported_fmt: generic
//! needs: backing
//! unsupported_proto: nbd fuse ssh
//! unsupported_imgopts: data_file

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let format = t.format().to_owned();
    let base = t.image("base").size("2M").await?;
    t.write(&base, &[(1, 0, 2 * MIB)]).await?;

    t.section("in the same folder");
    let top = t.image("top").backing_name(format!("base.{format}"), "IMGFMT").await?;
    t.info(&top).await?;
    t.write(&top, &[(2, MIB, 512)]).await?;
    t.verify(&top, &[(1, 0, MIB), (2, MIB, 512), (1, MIB + 512, MIB - 512)]).await?;

    t.section("in a folder below");
    let sub = t.path("sub");
    std::fs::create_dir_all(&sub)?;
    let inner = t.image("sub/inner").backing_name(format!("../base.{format}"), "IMGFMT").await?;
    t.write(&inner, &[(3, 0, 512)]).await?;
    t.verify(&inner, &[(3, 0, 512), (1, 512, MIB)]).await?;

    t.section("moved together");
    let moved = t.path("moved");
    std::fs::create_dir_all(moved.join("sub"))?;
    std::fs::rename(base.file(), moved.join(format!("base.{format}")))?;
    std::fs::rename(inner.file(), moved.join(format!("sub/inner.{format}")))?;
    let name = format!("TEST_DIR/moved/sub/inner.{format}");
    t.img(format!("compare -f {format} -F {format} {name} {name}")).quiet().await?;
    let printed = t.img(format!("map -f {format} --output=json {name}")).quiet().await?.json()?;
    let runs = printed.as_array().map_or(0, Vec::len);
    ensure!(runs > 0, "nothing is mapped");
    let flat = t.image("flat").format("raw").size(0).quiet().await?;
    t.img(format!("convert -f {format} -O raw {name} {flat}")).quiet().await?;
    t.verify(&flat, &[(3, 0, 512), (1, 512, 2 * MIB - 512)]).await?;

    t.section("left behind");
    t.io(&top, ["read 0 512"]).fails().quiet().await?;
    t.log("not opened without its backing file");
    std::fs::rename(moved.join(format!("base.{format}")), base.file())?;
    t.verify(&top, &[(1, 0, MIB), (2, MIB, 512)]).await?;
    std::fs::remove_dir_all(moved)?;
    std::fs::remove_dir_all(sub)?;
    Ok(())
}
