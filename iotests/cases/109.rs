//! Many snapshots, with names that are numbers, long or alike, are told apart
//! and deleted one by one.
//!
//! group: auto quick qcow2 snapshot
//! supported_fmt: qcow2
//! unsupported_imgopts: data_file refcount_bits=1 refcount_bits=2

use iotests::prelude::*;

const MANY: usize = 12;

async fn names(t: &Test, img: &Image) -> Result<Vec<String>> {
    let info = t.info_json(img).await?;
    let list = info["snapshots"].as_array().cloned().unwrap_or_default();
    Ok(list
        .iter()
        .map(|s| {
            format!("{} {}", s["id"].as_str().unwrap_or("?"), s["name"].as_str().unwrap_or("?"))
        })
        .collect())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("1M").await?;
    t.write(&img, &[(1, 0, 64 * KIB)]).await?;

    t.section("names");
    let long = "n".repeat(200);
    for name in ["1", "2", "with a blank", "ünïcode", "x=1,y", long.as_str(), "same"] {
        t.img(["snapshot", "-c", name, &img.to_string()]).await?;
    }
    for name in names(t, &img).await? {
        t.log(name);
    }
    t.img(format!("snapshot -l {img}")).filter(iotests::filter::img::snapshots).await?;

    t.section("a number is a name before it is an id");
    t.img(format!("snapshot -d 2 {img}")).await?;
    t.log(names(t, &img).await?.join("; ").replace(&long, "LONG"));
    t.img(format!("snapshot -d 1 {img}")).await?;
    t.log(names(t, &img).await?.join("; ").replace(&long, "LONG"));
    t.check(&img).await?;
    t.sound(&img)?;

    t.section("many");
    for n in 0..MANY {
        t.img(format!("snapshot -c many-{n} {img}")).quiet().await?;
    }
    t.log(format!("{} snapshots", names(t, &img).await?.len()));
    t.sound(&img)?;
    for n in (0..MANY).rev().step_by(2).chain((0..MANY).step_by(2)) {
        t.img(format!("snapshot -d many-{n} {img}")).quiet().await?;
    }
    t.log(names(t, &img).await?.join("; ").replace(&long, "LONG"));
    t.verify(&img, &[(1, 0, 64 * KIB)]).await?;
    t.check(&img).await?;
    t.sound(&img)
}
