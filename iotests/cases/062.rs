//! Compressed clusters are read as what was compressed, and can be written over,
//! zeroed and compressed again.
//!
//! group: rw auto quick convert
//! supported_fmt: generic
//! supported_aio: threads native
//! needs: compress
//! unsupported_fmt: qcow
//! unsupported_imgopts: data_file

use iotests::prelude::*;

const SIZE: u64 = 6 * MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.image("src").format("raw").size(SIZE).quiet().await?;
    let mut model = DiskModel::new(SIZE);
    let plan = Plan { count: 50, longest: 400 * KIB, ..Plan::default() };
    let mut rng = t.rng();
    t.apply(&src, &mut model, &plan.ops(&mut rng, SIZE)).await?;

    t.section("compressed");
    let img = t.create(SIZE).await?;
    t.img(format!("convert -c -n -O IMGFMT {src} {img}")).await?;
    t.matches(&img, &model).await?;
    t.same(&img, &src).await?;
    t.check(&img).await?;

    t.section("smaller than what it holds");
    let small = t.image("small").size(SIZE).await?;
    let plain = t.image("plain").size(SIZE).await?;
    t.img(format!("convert -c -O IMGFMT {src} {small}")).await?;
    t.img(format!("convert -O IMGFMT {src} {plain}")).await?;
    if t.env().protocol == "file" {
        let (a, b) = (small.file().metadata()?.len(), plain.file().metadata()?.len());
        ensure!(a < b, "compressed {a} bytes, not compressed {b}");
    }
    t.same(&small, &plain).await?;
    t.log("the compressed file is shorter");

    t.section("written over");
    let mut over = model.clone();
    for _ in 0..3 {
        t.apply(&img, &mut over, &plan.ops(&mut rng, SIZE)).await?;
        t.matches(&img, &over).await?;
        t.check(&img).await?;
    }

    t.section("compressed once more, from what is compressed in part");
    let again = t.image("again").size(SIZE).await?;
    t.img(format!("convert -c -O IMGFMT {img} {again}")).await?;
    t.matches(&again, &over).await?;
    t.check(&again).await?;

    t.section("by single writes");
    let img = t.image("writes").size(2 * MIB).await?;
    let cluster = t.info_json(&img).await?["cluster-size"].as_u64().unwrap_or(64 * KIB);
    let mut model = t.disk_model(2 * MIB);
    for (pattern, at) in (1..).zip((0..2 * MIB).step_by(usize::try_from(cluster)?).take(8)) {
        t.io(&img, [format!("write -c -P {pattern} {at} {cluster}")]).quiet().await?;
        model.set(at, cluster, Some(pattern));
    }
    t.matches(&img, &model).await?;
    t.check(&img).await
}
