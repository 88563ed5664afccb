//! With an external data file the data are there and only there, the image
//! finds it by its name or as given, and does not open without it.
//!
//! group: rw auto quick qcow2
//! supported_fmt: qcow2
//! supported_proto: file
//! unsupported_imgopts: data_file compat=0.10
//! needs: data_file

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).options("data_file=TEST_DIR/data").await?;
    let data = t.path("data");
    let mut model = t.disk_model(SIZE);
    let plan = Plan { count: 40, discards: true, ..Plan::default() };
    t.apply(&img, &mut model, &plan.ops(&mut t.rng(), SIZE)).await?;
    t.matches(&img, &model).await?;
    t.io(&img, ["write -P 0x5a 1M 64k"]).quiet().await?;
    model.set(MIB, 64 * KIB, Some(0x5a));
    t.sound(&img)?;
    let info = t.info_json(&img).await?;
    t.log_json(&info["format-specific"]["data"]["data-file"]);
    t.log_json(&info["format-specific"]["data"]["data-file-raw"]);

    t.section("where the data lie");
    let bytes = std::fs::read(img.file())?;
    let here = bytes.chunks_exact(512).any(|s| s.iter().all(|b| *b == 0x5a));
    let bytes = std::fs::read(&data)?;
    let there = bytes.chunks_exact(512).filter(|s| s.iter().all(|b| *b == 0x5a)).count();
    t.log(format!(
        "a sector of the pattern in the image: {here}; in the data file: {}",
        there >= 128
    ));

    t.section("moved away");
    std::fs::rename(&data, t.path("moved"))?;
    t.io(&img, ["read 0 512"]).fails().quiet().await?;
    let json = json!({"driver": "qcow2", "file": {"driver": "file", "filename": img.real()},
        "data-file": {"driver": "file", "filename": t.path("moved")}});
    let verify = model.reads(0, SIZE);
    t.io(format!("json:{json}"), verify).quiet().await?;
    t.log("found where it was specified");
    std::fs::rename(t.path("moved"), &data)?;
    t.matches(&img, &model).await?;

    t.section("no snapshots");
    t.img(format!("snapshot -c one {img}")).fails().quiet().await?;
    t.log("refused");
    t.matches(&img, &model).await?;
    t.check(&img).await?;
    t.sound(&img)
}
