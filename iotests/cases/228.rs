//! What a guest, a copy or a backup writes through the compress filter, in whole
//! clusters or parts of them, is compressed and is what was written.
//!
//! group: rw auto quick qcow2 convert backup jobs
//! supported_aio: threads native
//! supported_fmt: qcow2
//! unsupported_imgopts: data_file
//! supported_proto: file
//! needs: driver:compress qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 16 * MIB;

fn filter(img: &Image) -> String {
    let mut below = img.node("disk");
    below["discard"] = "unmap".into();
    format!("json:{}", json!({"driver": "compress", "file": below}))
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut model = t.disk_model(SIZE);

    t.section("a guest writes each cluster once, whole or in part");
    let cluster = t.info_json(&img).await?["cluster-size"].as_u64().context("no cluster size")?;
    let patches = [
        (1, 0, cluster),
        (2, cluster + cluster / 4, cluster / 2),
        (3, 2 * cluster + cluster / 2, cluster),
        (4, SIZE - 512, 512),
    ];
    let writes = patches.iter().map(|(p, at, len)| format!("write -P {p} {at} {len}"));
    t.io(filter(&img), writes).quiet().await?;
    patches.iter().for_each(|(p, at, len)| model.set(*at, *len, Some(*p)));
    t.matches(&img, &model).await?;
    let (packed, all) = t.clusters(&img).await?;
    t.log(format!("all of it is compressed: {}", packed > 0 && packed == all));
    t.check(&img).await?;

    t.section("what is compressed already is not written over, and stays");
    for write in ["write -P 9 0 512".to_owned(), format!("write -P 9 {} {cluster}", cluster / 2)] {
        t.io(filter(&img), [write]).fails().quiet().await?;
    }
    t.matches(&img, &model).await?;
    t.io(
        filter(&img),
        [
            format!("discard 0 {cluster}"),
            format!("write -P 9 0 {cluster}"),
            format!("read -P 9 0 {cluster}"),
        ],
    )
    .quiet()
    .await?;
    model.set(0, cluster, Some(9));
    let (packed, all) = t.clusters(&img).await?;
    t.log(format!("given back, it is compressed once more: {}", packed > 0 && packed == all));
    t.matches(&img, &model).await?;

    t.section("past the filter");
    t.io(&img, [format!("write -P 10 512 {cluster}")]).quiet().await?;
    model.set(512, cluster, Some(10));
    let (packed, all) = t.clusters(&img).await?;
    t.log(format!("clusters that are not compressed: {}", packed < all));
    t.matches(&img, &model).await?;
    t.check(&img).await?;

    t.section("a copy and a backup");
    let copy = t.image("copy").size(SIZE).quiet().await?;
    t.img(["convert", "-n", "-O", "IMGFMT", &img.to_string(), &filter(&copy)])
        .fails()
        .quiet()
        .await?;
    let target =
        format!("driver=compress,file.driver=IMGFMT,file.file.filename={}", copy.file().display());
    t.img(["convert", "-n", "-f", "IMGFMT", "--target-image-opts", &img.to_string(), &target])
        .quiet()
        .await?;
    t.same(&img, &copy).await?;
    let (packed, all) = t.clusters(&copy).await?;
    t.log(format!("the copy is compressed: {}", packed > 0 && packed == all));

    let backup = t.image("backup").size(SIZE).quiet().await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&img, "disk").await?;
    qsd.add(&backup, "target").await?;
    qsd.qmp("blockdev-add", json!({"driver": "compress", "node-name": "packed", "file": "target"}))
        .await?;
    let done = qsd
        .job("blockdev-backup", json!({"device": "disk", "target": "packed", "sync": "full"}))
        .await?;
    ensure!(done.error.is_none(), "{:?}", done.error);
    qsd.quit().await?;
    t.same(&img, &backup).await?;
    let (packed, all) = t.clusters(&backup).await?;
    t.log(format!("the backup is compressed: {}", packed > 0 && packed == all));
    t.check(&backup).await?;

    t.section("where nothing can be compressed");
    let plain = t.image("plain").format("raw").size(SIZE).quiet().await?;
    t.io(
        format!("json:{}", json!({"driver": "compress", "file": plain.node("disk")})),
        ["read 0 512"],
    )
    .fails()
    .quiet()
    .await?;
    t.log("a raw file: refused");
    Ok(())
}
