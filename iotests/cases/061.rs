//! Converting leaves holes where there are zeroes, as many as `-S` asks for, and
//! none with `-S 0`.
//!
//! group: rw auto quick convert zero
//! supported_fmt: generic
//! needs: sparse
//! unsupported_fmt: luks

use std::os::unix::fs::MetadataExt as _;

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    // Zeroes that are written as data, and data with 16 KiB of zeroes in it.
    let patches = [
        (0, 0, 4 * MIB),
        (1, 4 * MIB, MIB),
        (0, 4 * MIB + 64 * KIB, 16 * KIB),
        (2, SIZE - 512, 512),
    ];
    t.write(&img, &patches).await?;
    let mut model = t.disk_model(SIZE);
    for (pattern, at, length) in patches {
        model.set(at, length, Some(pattern));
    }

    let mut rooms = Vec::new();
    for sparse in ["4k", "64k", "1M", "0"] {
        t.section(format!("-S {sparse}"));
        let flat = t.image("flat").format("raw").size(0).quiet().await?;
        t.img(format!("convert -S {sparse} -O raw {img} {flat}")).await?;
        t.matches(&flat, &model).await?;
        rooms.push(flat.file().metadata()?.blocks() * 512);
    }
    t.section("room taken");
    t.log(format!("4k: less than data and a little: {}", rooms[0] <= MIB + 64 * KIB));
    t.log(format!("4k no more than 64k: {}", rooms[0] <= rooms[1]));
    t.log(format!("64k no more than 1M: {}", rooms[1] <= rooms[2]));
    t.log(format!("0: all of it: {}", rooms[3] >= SIZE));

    t.section("invalid sizes");
    for sparse in ["x", "-1", "3", "1k1"] {
        t.img(format!("convert -S {sparse} -O raw {img} TEST_DIR/none")).fails().quiet().await?;
        t.log(format!("{sparse}: refused"));
    }
    t.log(format!("a file was made: {}", t.path("none").exists()));
    Ok(())
}
