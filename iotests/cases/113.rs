//! An enabled bitmap records every write, zero write and discard, a disabled one
//! none, and a merge has what both have.
//!
//! group: rw auto quick qcow2 bitmap nbd
//! supported_fmt: qcow2
//! needs: bitmaps qemu-nbd

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

/// Logs the dirty ranges of a bitmap, as an NBD export shows them.
async fn dirty(t: &Test, img: &Image, name: &str) -> Result<()> {
    let server = t.nbd_server(img, format!("-r -B {name} --persistent")).await?;
    let socket = server.url("");
    let socket = socket.split_once("socket=").map_or("", |(_, s)| s);
    let opts = format!(
        "driver=nbd,server.type=unix,server.path={socket},x-dirty-bitmap=qemu:dirty-bitmap:{name}"
    );
    let output = t.img(["map", "--output=json", "--image-opts", &opts]).quiet().await?;
    let runs = output.json()?;
    let runs = runs.as_array().context("a list")?;
    let dirty: Vec<String> = runs
        .iter()
        .filter(|r| r["data"] == false)
        .map(|r| format!("{}+{}", r["start"], r["length"]))
        .collect();
    t.log(format!("{name}: {}", dirty.join(" ")));
    server.end().await
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.write(&img, &[(1, 0, 64 * KIB)]).await?;
    t.img(format!("bitmap --add -g 64k {img} on")).await?;
    t.img(format!("bitmap --add -g 64k --disable {img} off")).await?;
    t.img(format!("bitmap --add -g 4k {img} fine")).await?;

    t.section("nothing yet");
    for name in ["on", "off", "fine"] {
        dirty(t, &img, name).await?;
    }

    t.section("writes, zeroes, discards, across edges");
    t.io(
        &img,
        [
            "write -P 2 1M 512",
            "write -P 3 2162176 1024",
            "write -z 3M 64k",
            "discard 4M 128k",
            "write -P 4 8388096 512",
            "read 5M 1M",
        ],
    )
    .quiet()
    .await?;
    for name in ["on", "off", "fine"] {
        dirty(t, &img, name).await?;
    }
    t.sound(&img)?;

    t.section("merged into the other, coarse into fine and fine into coarse");
    t.img(format!("bitmap --merge on {img} off")).await?;
    t.img(format!("bitmap --add -g 1M {img} coarse")).await?;
    t.img(format!("bitmap --merge fine {img} coarse")).await?;
    t.io(&img, ["write -P 5 5M 512"]).quiet().await?;
    for name in ["on", "off", "fine", "coarse"] {
        dirty(t, &img, name).await?;
    }

    t.section("cleared");
    t.img(format!("bitmap --clear {img} on")).await?;
    t.io(&img, ["write -P 6 6M 512"]).quiet().await?;
    for name in ["on", "fine"] {
        dirty(t, &img, name).await?;
    }
    t.verify(
        &img,
        &[(2, MIB, 512), (0, 3 * MIB, 64 * KIB), (4, SIZE - 512, 512), (6, 6 * MIB, 512)],
    )
    .await?;
    t.check(&img).await?;
    t.sound(&img)
}
