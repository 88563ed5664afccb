//! blkverify stays silent while both copies are the same, writes to both, and
//! stops at the first byte that is not.
//!
//! group: rw auto quick io
//! supported_fmt: generic
//! supported_proto: file
//! needs: driver:blkverify

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let copy = t.image("copy").format("raw").size(SIZE).quiet().await?;
    let whole = t.image("whole").format("raw").size(SIZE).quiet().await?;
    // Fresh LUKS images read as anything: both start from what is written here.
    t.write(&img, &[(0, 0, SIZE)]).await?;

    let node = json!({
        "driver": "blkverify",
        "test": img.node("test"),
        "raw": copy.protocol_node("raw"),
    });
    let both = format!("json:{node}");
    let mut model = t.disk_model(SIZE);
    model.set(0, SIZE, Some(0));
    let mut ops = Plan { count: 60, align: 512, ..Plan::default() }.ops(&mut t.rng(), SIZE);
    // The driver takes no requests to write zeroes: they come as data.
    for op in &mut ops {
        if let Op::Zero { offset, length, .. } = *op {
            *op = Op::write(0, offset, length);
        }
    }
    let mut commands: Vec<String> = ops.iter().map(ToString::to_string).collect();
    ops.iter().for_each(|op| model.apply(op));
    commands.extend(model.reads(0, SIZE));
    t.io(&both, commands).quiet().await?;
    t.matches(&img, &model).await?;
    t.matches(&copy, &model).await?;
    t.img(format!("convert -O raw {img} {whole}")).quiet().await?;
    t.same(&copy, &whole).await?;

    t.section("one byte");
    t.io(&copy, ["write -P 0xff 1234567 1"]).quiet().await?;
    let run = t.io(&both, ["read 1M 512k"]).fails().quiet().await?;
    let at =
        run.text().lines().find_map(|l| l.split_once("mismatch at ").map(|(_, at)| at.to_owned()));
    t.log(format!("it stops at {}", at.context("it does not report where")?));
    Ok(())
}
