//! With discard-no-unref a discarded cluster keeps its place in the file: it reads
//! as zeroes, and what is written to it again lies where it lay before.
//!
//! group: rw auto quick qcow2 zero
//! supported_fmt: qcow2
//! supported_proto: file
//! unsupported_imgopts: data_file preallocation extended_l2 compat=0.10 cluster_size=2M refcount_bits=1
//! needs: qemu>=8.1

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

/// The image that keeps what is discarded; `pass` hands discards on to the file.
fn node(img: &Image, pass: bool) -> String {
    let mut node = img.node("disk");
    node["discard"] = "unmap".into();
    node["pass-discard-request"] = pass.into();
    node["discard-no-unref"] = true.into();
    format!("json:{node}")
}

/// Where the first MiB of each two lies in the file.
async fn places(t: &Test, img: &Image) -> Result<Vec<u64>> {
    let cluster = t.info_json(img).await?["cluster-size"].as_u64().context("no cluster size")?;
    let entries = cluster / 8;
    let mut places = Vec::new();
    for n in 0..SIZE / MIB / 2 {
        let index = n * 2 * MIB / cluster;
        let path = format!("l2[{}].entry[{}].offset", index / entries, index % entries);
        places.push(t.peek(img, &path)?);
    }
    Ok(places)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.io(&img, [format!("write -P 1 0 {SIZE}")]).quiet().await?;
    let before = places(t, &img).await?;
    let mut model = t.disk_model(SIZE);
    model.set(0, SIZE, Some(1));

    t.section("every second MiB is discarded");
    let discards = (0..SIZE / MIB / 2).map(|n| format!("discard {}M 1M", n * 2));
    t.io(node(&img, true), discards).quiet().await?;
    for n in 0..SIZE / MIB / 2 {
        model.set(n * 2 * MIB, MIB, Some(0));
    }
    t.matches(&img, &model).await?;
    t.log(format!("each is where it was: {}", places(t, &img).await? == before));
    t.check(&img).await?;

    t.section("and written again, after others");
    let length = img.file().metadata()?.len();
    let writes: Vec<String> =
        (0..SIZE / MIB / 2).rev().map(|n| format!("write -P {} {}M 1M", n + 2, n * 2)).collect();
    t.io(node(&img, true), writes).quiet().await?;
    for n in 0..SIZE / MIB / 2 {
        model.set(n * 2 * MIB, MIB, Some(u8::try_from(n + 2)?));
    }
    t.matches(&img, &model).await?;
    t.log(format!("each is where it was: {}", places(t, &img).await? == before));
    t.log(format!("the file is as long as it was: {}", img.file().metadata()?.len() == length));
    t.check(&img).await?;

    // Handed on, a discard would take the snapshot's data: see known-limits.md.
    t.section("zeroes, snapshots and compressed clusters");
    t.img(format!("snapshot -c one {img}")).quiet().await?;
    let then = model.clone();
    t.io(
        node(&img, false),
        [format!("discard 0 {}", SIZE / 2), format!("write -z -u {} {}", SIZE / 2, SIZE / 2)],
    )
    .quiet()
    .await?;
    model.set(0, SIZE, Some(0));
    t.matches(&img, &model).await?;
    // A compressed cluster needs a place of its own, and this one has one already.
    t.io(node(&img, false), ["write -c -P 9 0 1M"]).fails().quiet().await?;
    t.matches(&img, &model).await?;
    t.io(node(&img, false), ["discard 0 1M", "write -P 8 512k 1M", "discard 1M 64k"])
        .quiet()
        .await?;
    model.set(512 * KIB, MIB, Some(8));
    model.set(MIB, 64 * KIB, None);
    t.matches(&img, &model).await?;
    t.check(&img).await?;
    t.img(format!("snapshot -a one {img}")).quiet().await?;
    t.matches(&img, &then).await?;
    t.check(&img).await
}
