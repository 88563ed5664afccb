//! A raw external data file is the disk, byte for byte, through writes, zeroes,
//! discards, growth and shrinking of the image.
//!
//! group: rw auto quick qcow2 resize
//! supported_fmt: qcow2
//! supported_proto: file
//! unsupported_imgopts: data_file compat=0.10
//! needs: data_file

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

async fn raw_is_the_disk(t: &Test, img: &Image) -> Result<()> {
    t.img(format!("compare -f qcow2 -F raw {img} TEST_DIR/data")).await?;
    let length = std::fs::metadata(t.path("data"))?.len();
    t.log(format!(
        "the data file is as long as the disk: {}",
        length == t.virtual_size(img).await?
    ));
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut rng = t.rng();
    for preallocation in ["off", "metadata"] {
        t.section(format!("preallocation={preallocation}"));
        let options =
            format!("data_file=TEST_DIR/data,data_file_raw=on,preallocation={preallocation}");
        let img = t.create(SIZE).options(options).await?;
        t.log(format!("raw bit {}", t.peek(&img, "header.autoclear_features.raw_data_file")?));
        let mut model = t.disk_model(SIZE);
        let plan = Plan { count: 40, ..Plan::default() };
        t.apply(&img, &mut model, &plan.ops(&mut rng, SIZE)).await?;
        t.matches(&img, &model).await?;
        raw_is_the_disk(t, &img).await?;
        t.io(&img, ["discard 0 1M", "write -z 1M 1M", "write -z -u 2M 1M"]).quiet().await?;
        t.log("zeroed and discarded");
        raw_is_the_disk(t, &img).await?;
        t.sound(&img)?;

        t.img(format!("resize {img} 8M")).await?;
        t.io(&img, ["write -P 8 7M 64k"]).quiet().await?;
        raw_is_the_disk(t, &img).await?;
        t.img(format!("resize --shrink {img} 3M")).await?;
        raw_is_the_disk(t, &img).await?;
        t.check(&img).await?;
        t.sound(&img)?;
    }

    t.section("no compressed clusters, no backing file");
    let img = t.create(SIZE).options("data_file=TEST_DIR/data,data_file_raw=on").await?;
    t.io(&img, ["write -c -P 1 0 64k"]).fails().quiet().await?;
    t.log("a compressed write is refused");
    let base = t.image("base").format("raw").size(SIZE).await?;
    let line = format!(
        "create -f qcow2 -o data_file=TEST_DIR/data2,data_file_raw=on -b {base} -F raw TEST_DIR/top"
    );
    t.img(line).fails().quiet().await?;
    t.log("a backing file is refused");
    raw_is_the_disk(t, &img).await?;
    for file in ["data2", "top"] {
        let _ = std::fs::remove_file(t.path(file));
    }
    Ok(())
}
